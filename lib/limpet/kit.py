"""The kit's errands while we are online: what it is told, its changes, the scrub after them."""

import asyncio

from micropython import const

from .errors import Lost
from .flight import Message
from .logins import CHANGE
from .packets import QOS1, RETAIN

_ACK_MS = const(10_000)  # for the kit's answer to arrive before we act on it (PROTOCOLS.md 6)
_LOOK_MS = const(1_000)  # at most one box is looked at in this time
_STEP_MS = const(2_000)  # between two steps of a scrub


class Kit:
    """`store` is a Vault; `send(message)` queues a QoS 1 message, to be awaited."""

    def __init__(self, store, logins, router, send, log):
        self._vault = store
        self._logins = logins
        self._router = router
        self._send = send
        self._log = log
        self._box = None
        self._arrived = asyncio.Event()
        self._told = None  # what the kit knows
        router.kit = self._take

    def _take(self, payload):
        self._box = bytes(payload)
        self._arrived.set()

    async def serve(self, session, record):
        """From the login on, as long as the session lasts."""
        told = (record.generation, self._logins.told)
        if self._told != told:
            self._told = told  # once queued, it outlives this session
            await self._tell(self._logins.acknowledgement(record))
        while True:
            if not await self._something():
                self._vault.scrub()
            elif self._box:
                box = self._box
                self._box = None
                await self._change(session, box)
                await asyncio.sleep_ms(_LOOK_MS)
            if self._logins.is_due:
                await self._restart(session)

    async def _something(self):
        """Wait for a box; False when there may be something else to do."""
        if not (self._vault.pending or self._vault.scrub_due):
            await self._arrived.wait()
        else:
            try:
                await asyncio.wait_for_ms(self._arrived.wait(), _STEP_MS)
            except asyncio.TimeoutError:
                return False
        self._arrived.clear()
        return True

    async def _change(self, session, box):
        from . import changes

        ack, then = changes.take(self._vault, box)
        if ack:
            await self._tell(ack)
        if then == changes.RESTART:
            self._log("the kit sent a change: logging in with it")
            await self._restart(session)
        elif then == changes.WIPE:
            self._log("the kit wiped this device")
            self._vault.wipe()
            session.fail(Lost("WIPED"))

    async def _tell(self, ack):
        waiting = self._send(Message(self._router.kit_ack, ack, QOS1 | RETAIN))
        try:
            await asyncio.wait_for_ms(waiting, _ACK_MS)
        except asyncio.TimeoutError:
            pass  # it stays in the queue

    async def _restart(self, session):
        await session.goodbye()
        session.fail(Lost(CHANGE))

    async def wiped(self):
        """After a wipe: leave nothing of the old secrets in the flash."""
        while self._vault.scrub_due:
            self._vault.scrub()
            await asyncio.sleep_ms(_STEP_MS // 20)

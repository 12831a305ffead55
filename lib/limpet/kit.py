"""The kit's errands while we are online: what it is told, its changes, the scrub after them."""

import asyncio

from micropython import const

from .errors import Lost, forget
from .flight import Message
from .logins import CHANGE
from .packets import QOS1, RETAIN

_ACK_MS = const(10_000)  # for the kit's answer to arrive before we act on it (PROTOCOLS.md 6)
_LOOK_MS = const(1_000)  # at most one box is looked at in this time
_STEP_MS = const(2_000)  # between two steps of a scrub


class Kit:
    """`store` is a Vault; `send(message)` queues a QoS 1 message, always, to be awaited."""

    def __init__(self, store, logins, router, send, log):
        self.vault = store
        self.logins = logins
        self.router = router
        self.send = send
        self.log = log
        self._box = None
        self._arrived = asyncio.Event()
        self._told = None  # what the kit knows
        router.kit = self._take

    def _take(self, payload):
        self._box = bytes(payload)
        self._arrived.set()

    async def serve(self, session, record):
        """From the login on, as long as the session lasts."""
        told = (record.generation, self.logins.told)
        if self._told != told:
            ack = self.logins.acknowledgement(record)
            self._told = told  # once queued, it outlives this session
            await self.tell(ack)
        while True:
            if not await self._something():
                self.vault.scrub()
            elif self._box:
                box = self._box
                self._box = None
                from .changes import act

                await act(self, session, box)
                forget("changes", "slots", "rules", "speak")
                await asyncio.sleep_ms(_LOOK_MS)
            if self.logins.is_due:
                await self.restart(session)

    async def _something(self):
        """Wait for a box; False when there may be something else to do."""
        if not (self.vault.pending or self.vault.scrub_due):
            await self._arrived.wait()
        else:
            try:
                await asyncio.wait_for_ms(self._arrived.wait(), _STEP_MS)
            except asyncio.TimeoutError:
                return False
        self._arrived.clear()
        return True

    async def tell(self, ack):
        """Send the kit an acknowledgement."""
        waiting = self.send(Message(self.router.kit_ack, ack, QOS1 | RETAIN))
        try:
            await asyncio.wait_for_ms(waiting, _ACK_MS)
        except asyncio.TimeoutError:
            pass  # it stays in the queue
        except Lost:  # the sketch's messages pushed it out
            self._told = None

    async def restart(self, session):
        """Log in anew, with another record."""
        await session.goodbye()
        session.fail(Lost(CHANGE))

    async def wiped(self):
        """After a wipe: leave nothing of the old secrets in the flash."""
        while self.vault.scrub_due:
            self.vault.scrub()
            await asyncio.sleep_ms(_STEP_MS // 20)

"""Keeps a client connected: when to connect, what to restore, when to give a connection up.

It collects garbage often, or what lives long comes to lie between garbage, high in the heap, and
TLS does not find its 17 KB in one piece (host_tests/system/test_faults.py, the full heap).
"""

import asyncio
import gc
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from . import packets, retry
from .aio import Ready, drive
from .dial import hello
from .errors import LimpetError, Lost, Refused, fault
from .kit import Kit
from .logins import classify
from .session import Session
from .status import CONNECTING, OFFLINE, ONLINE, REFUSED, UNPROVISIONED, UNTRUSTED, About, offline
from .times import Times

_BEAT_MS = const(2_000)  # the watchdog is fed this often; an RP2040's bites after 8.3 s
_SLACK_MS = const(10_000)  # by which a step may exceed its time before the watchdog starves
_GOODBYE_MS = const(1_000)
_AGAIN_MS = const(10_000)

WAITED = Refused("REFUSED", "before the reset")
MEMORY = Lost("MEMORY")  # made while there is some


class Keeper:
    """The tasks behind one client. `session` is the one that is online, or None."""

    Session = Session

    def __init__(self, store, logins, dialler, wifi, router, flight, out, in_, status, *rest):
        """`rest` is keepalive, clean, feed and time_servers, as of client.Client."""
        self.keepalive, self.clean, self.feed, time_servers = rest
        gc.collect()
        self.device = ""  # its name, once the vault was read
        self._kit = Kit(store, logins, router, self.tell, status.log)
        self.logins = logins
        self.dialler = dialler
        self.times = Times(logins, dialler, status.log, time_servers)
        router.time = self.times.told
        self._about = About(dialler, self.times)
        self.wifi = wifi
        self._router = router
        self.flight = flight
        self.out = out
        self.in_ = in_
        self._status = status
        self.session = None
        self.settled = asyncio.Event()  # online, or never to be
        self.now = asyncio.Event()  # set it to end a pause
        self._tasks = None
        self.link = self._linked = None  # the latter is its session, from its first packet on
        self._until = 0  # ticks before which the present step must show progress

    def start(self):
        """Begin to connect; nothing when that has been done."""
        if not self._tasks:
            self.name()
            gc.collect()
            self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self.beat())]

    def name(self):
        """Learn this device's name from the vault; topics need it."""
        self.device = self.logins.name()
        self._router.named(self.device)

    async def close(self):
        """Say goodbye if online, and stop. What is in the queue stays for the next `start`."""
        tasks, self._tasks = self._tasks or (), None
        if self.session:
            try:
                await asyncio.wait_for_ms(self._goodbye(self.session), _GOODBYE_MS)
            except asyncio.TimeoutError:
                pass  # the will says it
        for task in tasks:
            task.cancel()
            try:
                await task
            except (asyncio.CancelledError, Exception):
                pass
        self.settled.clear()
        self._status.set(OFFLINE, "closed")

    async def _goodbye(self, session):
        await session.publish(self._router.state, offline("closed"), packets.RETAIN)
        await session.goodbye()

    # -- connecting

    async def _run(self):
        self._waited = False
        try:
            while True:
                try:
                    if not await self._round():
                        return
                    continue
                except Exception as e:
                    failure = e
                # Not the end of a device, not even where there is no memory to say so.
                try:
                    gc.collect()
                    await self._pause(fault(failure))
                except Exception:
                    await asyncio.sleep_ms(_AGAIN_MS)
        finally:
            if self._status.state != UNPROVISIONED:
                self.settled.clear()

    async def _round(self):
        """One try, and the pause after it; False when there is nothing to log in with."""
        why = LimpetError(UNPROVISIONED)
        gc.collect()
        try:
            record = self.logins.record()
        except LimpetError as e:
            record, why = None, e
        if not record:
            self._status.set(UNPROVISIONED, why)
            self.settled.set()
            await self._kit.wiped()
            return False
        gc.collect()
        waited, self._waited = self._waited, True
        if not waited and self.logins.waiting():
            record.wipe()
            await self._pause(WAITED, self.logins.waiting())
            return True
        try:
            failure = await self._connect(record)
        except LimpetError as e:
            failure = e
        gc.collect()
        # Made anew: the first one lies amid what TLS has left, and would split it.
        await self._pause(type(failure)(failure.code, *failure.facts))
        return True

    async def _connect(self, record):
        """One try, and the connection if it succeeds; what ended it."""
        self._status.set(CONNECTING, self._status.reason)
        try:
            present = await self.reach(record, lambda: self._hello(record))
            return await self._serve(record, present)
        finally:
            self.hang_up(record)

    async def reach(self, record, hello):
        """Connect; the session-present flag. `hello()` makes what is written first: CONNECT."""
        # a task of its own: a handshake needs the stack (facts/rp2040-client.md 0.2)
        return await asyncio.create_task(drive(self._dial(record, hello), self.step))

    def hang_up(self, record):
        """Close the link, if there is one, and wipe the record."""
        if self.link:
            self.link.close()
            self.link = None
        record.wipe()

    def _dial(self, record, hello):
        """Interface and link, as a generator of waits (link.py); the session-present flag."""
        if self.wifi:
            yield from self.wifi.up(record)
        yield from self.times.before(record)
        gc.collect()
        self.link, present = yield from self.dialler.dial(record, hello)
        return present

    def _hello(self, record):
        self.logins.sending()
        will = (self._router.state, offline("lost"), 1, True)
        return hello(record, self.keepalive, self.clean, will)

    # -- online

    async def _serve(self, record, present):
        """Keep one connection until it ends; the failure that ended it."""
        session = self._linked = self.begin()
        tasks = [
            asyncio.create_task(session.guard(work))
            for work in (session.run(), self._greet(session, record, present))
        ]
        try:
            await session.ended.wait()
        finally:
            self.session = self._linked = None
            self.settled.clear()
            for task in tasks:
                task.cancel()
            session.close()
        return session.failure

    def begin(self):
        """The session of a link that has just been made."""
        self._status.counters.connects += 1
        return self.Session(
            self.link.stream,
            Ready(self.link.raw, False),
            Ready(self.link.raw, True),
            self.keepalive,
            self.flight,
            self.out,
            self.in_,
            self._router.deliver,
            self._status.counters,
        )

    async def _greet(self, session, record, present):
        """Restore the subscriptions; then we are online, and the queue flows."""
        await self._router.restore(session, (record.generation, self.link.address), present)
        self.logins.accepted(record)
        session.flow()
        self.session = session
        self._status.set(ONLINE, self._about.warning())
        self.settled.set()
        await session.publish(
            self._router.state, self._about.online(record.generation), packets.RETAIN
        )
        self._about.distrust = ""
        await self._router.late(session)
        await self._kit.serve(session, record)

    def subscribe(self, topic_filter):
        """Subscribe to one more filter when online; otherwise that happens with the login."""
        session = self.session
        if session:
            asyncio.create_task(session.guard(self._router.ask(session, [topic_filter])))

    def send(self, message):
        """Queue a QoS 1 message; await the answer for its acknowledgement."""
        if not self.flight.put(message):
            return self.flight.put_later(message, self._pump)
        self._pump()
        return message.wait()

    def tell(self, message):
        """As `send`, whatever the queue's limit: what the kit is to know."""
        self.flight.add(message)
        self._pump()
        return message.wait()

    def send_nowait(self, message):
        """Queue a QoS 1 message; raises Lost (FULL) when there is no room."""
        if not self.flight.put(message):
            raise Lost("FULL")
        self._pump()

    def _pump(self):
        if self.session:
            self.session.pump()

    async def beat(self):
        """Look at the connection, and feed the watchdog while a step is within its time."""
        every = min(_BEAT_MS, self.keepalive * 1000 // 8)
        while True:
            await asyncio.sleep_ms(every)
            session = self._linked
            now = ticks_ms()
            try:
                if session:
                    session.check(now)
                    if not session.failure:
                        self.step(every)
                        if self.session:
                            self.logins.lasts()
                elif ticks_diff(self._until, now) > 0 or self._status.state == UNPROVISIONED:
                    self.feed()  # without a credential there is nothing to hang in
            except Exception as e:
                if session:  # without memory for a ping there is none to say so
                    session.fail(MEMORY if isinstance(e, MemoryError) else fault(e))

    # -- not online

    async def _pause(self, failure, pause=None):
        """Say why, and wait as the schedule says, or for `pause`."""
        kind = classify(failure)
        if kind == retry.UNTRUSTED:
            self._about.distrust = failure.code
            self.times.failed(failure)
        if pause is None:
            pause = self.logins.failed(failure)
        self.now.clear()
        self._status.fail(self._state(failure, kind), failure, ticks_add(ticks_ms(), pause))
        for piece in self.logins.pieces(pause):
            self.step(piece)
            try:
                await asyncio.wait_for_ms(self.now.wait(), piece)
            except asyncio.TimeoutError:
                continue
            self.logins.skip()
            return

    def _state(self, failure, kind):
        if kind == retry.REFUSED:
            return REFUSED
        return UNTRUSTED if kind == retry.UNTRUSTED else OFFLINE

    def step(self, ms):
        """Feed the watchdog; the next step is allowed so many ms."""
        self._until = ticks_add(ticks_ms(), ms + _SLACK_MS)
        self.feed()

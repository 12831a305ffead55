"""Keeps a client connected: when to connect, what to restore, when to give a connection up."""

import asyncio
import json
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from . import clock, packets, retry, vault, x509
from .dial import hello
from .errors import LimpetError, Lost
from .flight import Message
from .logins import classify
from .session import Session

UNPROVISIONED = "UNPROVISIONED"
OFFLINE = "OFFLINE"
CONNECTING = "CONNECTING"
ONLINE = "ONLINE"
UNTRUSTED = "UNTRUSTED"
REFUSED = "REFUSED"

_BEAT_MS = const(2_000)  # the watchdog is fed this often; an RP2040's bites after 8.3 s
_SLACK_MS = const(10_000)  # by which a step may exceed its time before the watchdog starves
_GOODBYE_MS = const(1_000)

_STATES = {retry.REFUSED: REFUSED, retry.UNTRUSTED: UNTRUSTED}


class Keeper:
    """The tasks behind one client. `session` is the one that is online, or None."""

    def __init__(
        self, logins, dialler, wifi, router, flight, buffers, status, keepalive, clean, feed
    ):
        self._logins = logins
        self._dialler = dialler
        self._wifi = wifi
        self._router = router
        self._flight = flight
        self._out, self._in = buffers
        self._status = status
        self._keepalive = keepalive
        self._clean = clean
        self._feed = feed
        self.session = None
        self.settled = asyncio.Event()  # online, or never to be
        self.now = asyncio.Event()  # set it to end a pause
        self._tasks = None
        self._link = None
        self._linked = None  # the session from its first packet on
        self._until = 0  # ticks before which the present step must show progress
        self._subscribed = ()  # filters that the server of a persistent session has
        self._told = None  # the generation of the record of which the kit was told
        self._distrust = ""  # code of the last server that was not ours, told at the next login

    def start(self):
        """Begin to connect; nothing when that has been done."""
        if not self._tasks:
            self._router.device = self._logins.name()
            self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._beat())]

    async def close(self):
        """Say goodbye if online, and stop. What is in the queue stays for the next `start`."""
        tasks = self._tasks or ()
        self._tasks = None
        if self.session:
            bye = self.session.goodbye(self._router.state, self._about("closed"), packets.RETAIN)
            try:
                await asyncio.wait_for_ms(bye, _GOODBYE_MS)
            except asyncio.TimeoutError:
                pass  # the will says it
        for task in tasks:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
        self._status.set(OFFLINE, "closed")

    # -- connecting

    async def _run(self):
        try:
            while True:
                try:
                    record = self._logins.record()
                    words = "this board holds no credential: run limpet up"
                except LimpetError as e:
                    record = None
                    words = e.words
                if not record:
                    self._status.set(UNPROVISIONED, words)
                    self.settled.set()
                    return
                try:
                    failure = await self._connect(record)
                except LimpetError as e:
                    failure = e
                except Exception as e:  # a fault of ours must not leave a device dead
                    failure = Lost("ERROR", "connecting failed: %s" % repr(e))
                await self._pause(failure)
        finally:
            self.settled.clear()

    async def _connect(self, record):
        """One try, and the connection if it succeeds; what ended it."""
        self._status.set(CONNECTING, self._status.reason)
        clock.raise_to(_floor(record))
        try:
            # a task of its own: a handshake needs the stack (facts/rp2040-client.md 0.2)
            present = await asyncio.create_task(self._drive(self._dial(record)))
            return await self._serve(record, present)
        finally:
            if self._link:
                self._link.close()
                self._link = None
            record.wipe()

    def _dial(self, record):
        """Interface and link, as a generator of waits (link.py); the session-present flag."""
        if self._wifi:
            yield from self._wifi.up(record)
        self._link, present = yield from self._dialler.dial(record, lambda: self._hello(record))
        return present

    async def _drive(self, steps):
        """Run a generator of waits."""
        try:
            while True:
                self._feed()
                try:
                    raw, for_write, ms = next(steps)
                except StopIteration as e:
                    return e.value
                self._progress(ms)
                if raw:
                    try:
                        await asyncio.wait_for_ms(wait(raw, for_write), ms)
                    except asyncio.TimeoutError:
                        pass
                else:
                    await asyncio.sleep_ms(ms)
        finally:
            steps.close()

    def _hello(self, record):
        will = (self._router.state, self._about("lost"), 1, True)
        return hello(record, self._keepalive, self._clean, will)

    def _about(self, cause, record=None):
        """The retained state: offline with a cause, or online."""
        if cause:
            return json.dumps({"state": "offline", "cause": cause}).encode()
        about = {"state": "online", "generation": record.generation}
        if self._distrust:
            about["distrusted"] = self._distrust
        return json.dumps(about).encode()

    # -- online

    async def _serve(self, record, present):
        """Keep one connection until it ends; the failure that ended it."""
        self._status.counters.connects += 1
        session = self._linked = Session(
            self._link,
            wait,
            self._keepalive,
            self._flight,
            self._out,
            self._in,
            self._router.deliver,
            self._status.counters,
        )
        tasks = [
            asyncio.create_task(_guard(session, work))
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

    async def _greet(self, session, record, present):
        """Restore the subscriptions; then we are online, and the queue flows."""
        filters = self._router.filters()
        # The first one always: its SUBACK is the proof of health, and it brings a waiting change.
        known = self._subscribed if present else ()
        asked = filters[:1] + [f for f in filters[1:] if f not in known]
        await self._ask(session, asked)
        self._subscribed = filters
        self._logins.accepted(record)
        session.flow()
        self.session = session
        self._status.set(ONLINE)
        self.settled.set()
        await session.publish(self._router.state, self._about("", record), packets.RETAIN)
        self._distrust = ""
        if self._told != record.generation:
            self._told = record.generation
            ack = self._logins.acknowledgement(record)
            flags = packets.QOS1 | packets.RETAIN
            asyncio.create_task(self.send(Message(self._router.kit_ack, ack, flags)))

    async def _ask(self, session, filters):
        for wanted, code in zip(filters, await session.subscribe(filters)):
            if code & 0x80:
                self._status.log("the server refused the subscription to %s" % wanted.decode())

    def subscribe(self, topic_filter):
        """Subscribe to one more filter when online; otherwise that happens with the login."""
        session = self.session
        if session:
            asyncio.create_task(_guard(session, self._ask(session, [topic_filter])))

    def send(self, message):
        """Queue a QoS 1 message; await the answer for its acknowledgement."""
        if not self._flight.put(message):
            return self._flight.put_later(message, self._pump)
        self._pump()
        return message.wait()

    def send_nowait(self, message):
        """Queue a QoS 1 message; raises Lost (FULL) when there is no room."""
        if not self._flight.put(message):
            raise Lost("FULL", "the queue is full")
        self._pump()

    def _pump(self):
        if self.session:
            self.session.pump()

    async def _beat(self):
        """Look at the connection, and feed the watchdog while a step is within its time."""
        every = min(_BEAT_MS, self._keepalive * 1000 // 8)
        while True:
            await asyncio.sleep_ms(every)
            now = ticks_ms()
            session = self._linked
            if session:
                session.check(now)
                if not session.failure:
                    self._progress(every)
            if ticks_diff(self._until, now) > 0:
                self._feed()

    # -- not online

    async def _pause(self, failure):
        """Say why, and wait as the schedule says."""
        kind = classify(failure)
        if kind == retry.UNTRUSTED:
            self._distrust = failure.code
        pause = self._logins.failed(failure)
        self.now.clear()
        self._status.fail(_STATES.get(kind, OFFLINE), failure, ticks_add(ticks_ms(), pause))
        self._progress(pause)
        try:
            await asyncio.wait_for_ms(self.now.wait(), pause)
        except asyncio.TimeoutError:
            pass

    def _progress(self, ms):
        """The next step is allowed so many ms."""
        self._until = ticks_add(ticks_ms(), ms + _SLACK_MS)


def wait(raw, for_write):
    """Await the raw socket: a TLS object has no descriptor, its poll sleeps (facts/ports 0.4)."""
    queue = asyncio.core._io_queue
    if for_write:
        queue.queue_write(raw)
    else:
        queue.queue_read(raw)
    yield


async def _guard(session, work):
    """Run a part of the session; its end is the session's."""
    try:
        await work
    except LimpetError as e:
        session.fail(e)
    except Exception as e:
        session.fail(Lost("ERROR", "the connection ended: %s" % repr(e)))


def _floor(record):
    """The time (s since 1970) before which it cannot be: PROTOCOLS.md 8, hard floor."""
    floor = int.from_bytes(record.one(vault.EARLIEST) or b"", "big")
    for der in record.all(vault.ANCHOR):
        floor = max(floor, x509.Certificate(der).not_before)
    return floor

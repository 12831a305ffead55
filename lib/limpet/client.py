"""The client: its states, when to connect, what to restore. Knows no bytes on the wire."""

import asyncio
import json
import os
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from . import clock, packets, resolve, retry, vault, x509
from .errors import LimpetError, Lost, Refused, Untrusted
from .link import DEADLINE, Link
from .session import DONE, Session, Slot, wait
from .topics import Router
from .trust import Trust

UNPROVISIONED = "UNPROVISIONED"
OFFLINE = "OFFLINE"
CONNECTING = "CONNECTING"
ONLINE = "ONLINE"
UNTRUSTED = "UNTRUSTED"
REFUSED = "REFUSED"

_HEALTHY_MS = const(60_000)
_APPLIED = const(2)  # state of an acknowledgement to the kit (PROTOCOLS.md 6)


def _random():
    """24 random bits."""
    return int.from_bytes(os.urandom(3), "big")


class Client:
    """An MQTT client whose server, account and anchors come from the vault.

    `keepalive` in s; `window` is how many QoS 1 messages may wait for their acknowledgement;
    `receive` and `send` are buffer sizes in bytes: a larger packet from the server ends the
    connection, a larger payload to it is written in pieces. `wifi` is something with
    `async up()`, or False where the sketch cares for the interface. `log` takes a line of text.
    """

    def __init__(
        self,
        store=None,
        wifi=None,
        log=None,
        keepalive=60,
        window=8,
        receive=2048,
        send=512,
        random=_random,
    ):
        self.state = OFFLINE
        self.reason = ""  # words for the last failure
        self.dropped = 0  # QoS 0 messages published while offline
        self._vault = store or vault.Vault()
        self._wifi = wifi
        self._log = log or (lambda line: None)
        self._keepalive = keepalive
        self._retry = retry.Retry(random)
        self._router = Router(self._log)
        self._slots = [Slot() for _ in range(window)]
        self._room = asyncio.Event()
        self._out = packets.Out(send)
        self._in = packets.In(receive)
        self._record = None
        self._trust = None
        self._session = None
        self._up = asyncio.Event()
        self._task = None
        self._pid = 1
        self._next_at = None
        self._kit_knows = False  # the kit was told which record is in use
        self._distrust = ""  # code of the last server that was not ours, told at the next login

    # -- the sketch's side

    def on(self, topic, retained=False):
        """Decorator: handle `limpet/<device>/cmd/<topic>`, or with a leading slash any filter.

        The handler gets the payload, with a wildcard the topic before it. A plain function gets
        views that are valid during the call; a coroutine gets copies and runs as a task. A
        retained message is ignored unless `retained` is set. The first handler that fits counts.
        """

        def register(handler):
            self._router.add(topic, handler, retained)
            return handler

        return register

    def publish(self, topic, payload, qos=0, retain=False):
        """Publish to `limpet/<device>/up/<topic>`, or with a leading slash to any topic.

        Awaitable. QoS 0 has usually gone when this returns; offline it is dropped and counted.
        QoS 1 ends when the server has acknowledged, over any number of connections.
        """
        if qos > 1:
            raise ValueError("QoS 2 is not offered: use 1, and an id in the payload")
        if isinstance(payload, str):
            payload = payload.encode()
        flags = packets.RETAIN if retain else 0
        if qos:
            return self._publish(topic, payload, flags | packets.QOS1)
        session = self._session
        if session is None:
            self.dropped += 1
            return DONE
        return session.publish(self._router.up(topic), payload, flags)

    def send(self, device, name, payload, qos=0):
        """One-to-one: publish to `limpet/<device>/from/<this device>/<name>`."""
        return self.publish("/limpet/%s/from/%s/%s" % (device, self.name, name), payload, qos)

    async def online(self):
        """Return when the client is online."""
        await self._up.wait()

    @property
    def name(self):
        """This device's name, empty before the vault was read."""
        return self._router.device

    @property
    def next_try(self):
        """Seconds until the next try, 0 when none is planned."""
        if self._next_at is None:
            return 0
        return max(0, ticks_diff(self._next_at, ticks_ms()) // 1000)

    async def __aenter__(self):
        self.start()
        return self

    async def __aexit__(self, *_):
        await self.close()

    def start(self):
        """Begin to connect, in the background; again after `close`."""
        if not self._task:
            self._task = asyncio.create_task(self._run())

    async def close(self):
        """Say goodbye if online, and stop. Unacknowledged messages stay for the next `start`."""
        task = self._task
        self._task = None
        session = self._session
        if session:
            await session.publish(self._router.state, self._status("closed"), packets.RETAIN)
            session.disconnect()
        if task:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
        self._set(OFFLINE, "closed")

    # -- connecting

    async def _run(self):
        try:
            record = self._record = self._vault.read()
        except LimpetError as e:
            return self._set(UNPROVISIONED, e.words)
        if not record:
            return self._set(UNPROVISIONED, "this board holds no credential: run limpet up")
        self._router.device = record.one(vault.NAME).decode()
        floor = _floor(record)
        if self._wifi is None:
            self._wifi = _interface(record, self._log)
        while True:
            self._set(CONNECTING, self.reason)
            try:
                clock.raise_to(floor)
                if self._wifi:
                    await self._wifi.up()
                link = await self._reach(record)
                try:
                    failure = await self._serve(link, record)
                finally:
                    self._leave(link)
            except LimpetError as e:
                failure = e
            except (OSError, ValueError, MemoryError) as e:
                failure = Lost("ERROR", "connecting failed: %s" % repr(e))
            await self._pause(failure)

    async def _reach(self, record):
        """A link to the first server that takes us; every address of every server is tried."""
        failure = None
        for server in record.all(vault.SERVER):
            host, _, port = server.decode().rpartition(":")
            try:
                for address in resolve.addresses(host, int(port)):
                    try:
                        return await self._try(record, host, address)
                    except Lost as e:
                        failure = failure or e
            except Lost as e:
                failure = failure or e
            except Untrusted as e:
                failure = e
        raise failure or Lost("NO_SERVER", "the vault names no server")

    async def _try(self, record, host, address):
        """One try at one address; a link that is logged in."""
        if not self._trust or self._trust.host != host:
            self._trust = None  # its memory first
            self._trust = Trust(record.all(vault.ANCHOR), host)
        link = Link()
        hello = self._hello(record)
        try:
            await asyncio.wait_for(_drive(link, link.open(address, self._trust, hello)), DEADLINE)
            return link
        except asyncio.TimeoutError:
            link.close()
            raise Lost("DEADLINE", "%s did not finish the login within %d s" % (host, DEADLINE))
        except BaseException:
            link.close()
            raise
        finally:
            for i in range(len(hello)):  # it holds the password
                hello[i] = 0

    def _hello(self, record):
        account = record.one(vault.ACCOUNT)
        return packets.connect(
            account,
            account,
            record.one(vault.PASSWORD),
            self._keepalive,
            True,
            (self._router.state, self._status("lost"), 1, True),
        )

    def _status(self, cause):
        """The retained state: online without a cause, offline with one."""
        if cause:
            return json.dumps({"state": "offline", "cause": cause}).encode()
        status = {"state": "online", "generation": self._record.generation}
        if self._distrust:
            status["distrusted"] = self._distrust
        return json.dumps(status).encode()

    # -- online

    async def _serve(self, link, record):
        """Keep one connection until it ends; the failure that ended it."""
        session = Session(
            link, self._keepalive, self._slots, self._room, self._out, self._in, self._deliver
        )
        tasks = [
            asyncio.create_task(_guard(session, work))
            for work in (session.run(), session.watch(), self._greet(session, record))
        ]
        self._started = session
        begun = ticks_ms()
        try:
            await session.ended.wait()
        finally:
            self._session = None
            self._up.clear()
            for task in tasks:
                task.cancel()
        if ticks_diff(ticks_ms(), begun) > _HEALTHY_MS:
            self._retry.healthy()
        return session.failure

    def _leave(self, link):
        """After a connection: what is unacknowledged goes out again on the next one."""
        link.close()
        for slot in self._slots:
            if slot.pid and slot.sent_at is not None:
                slot.sent_at = None
                slot.flags |= packets.DUP

    async def _greet(self, session, record):
        """Restore the subscriptions, then what was not acknowledged; then we are online."""
        filters = self._router.filters()
        for wanted, code in zip(filters, await session.subscribe(filters)):
            if code & 0x80:
                self._log("the server refused the subscription to %s" % wanted.decode())
        self._retry.healthy()
        self._vault.confirm(record)
        while True:
            waiting = [s for s in self._slots if s.pid and s.sent_at is None]
            if not waiting:
                break
            # oldest first: ids are drawn in order, and wrap
            await session.send(min(waiting, key=lambda s: (s.pid - self._pid - 1) & 0xFFFF))
        self._session = session
        self._next_at = None
        self._set(ONLINE, "")
        self._up.set()
        await session.publish(self._router.state, self._status(""), packets.RETAIN)
        self._distrust = ""
        if not self._kit_knows:
            ack = self._vault.ack(record, _APPLIED, 0, 0)
            await self._publish("/" + self._router.kit_ack.decode(), ack, 3)
            self._kit_knows = True

    def _deliver(self, in_):
        session = self._started

        def acknowledge(pid):
            session.acknowledge(pid)
            session.flush()

        return self._router.deliver(in_, acknowledge)

    async def _publish(self, topic, payload, flags):
        """QoS 1: take a slot, send it if online, wait for its acknowledgement."""
        slot = await self._claim()
        slot.topic = self._router.up(topic)
        slot.payload = payload if isinstance(payload, bytes) else bytes(payload)
        slot.flags = flags
        slot.done.clear()
        if self._session:
            await self._session.send(slot)
        await slot.done.wait()

    async def _claim(self):
        """A free slot with a packet id that no other has."""
        while True:
            for slot in self._slots:
                if not slot.pid:
                    used = [s.pid for s in self._slots]
                    while True:
                        self._pid = self._pid + 1 if self._pid < 65535 else 2
                        if self._pid not in used:
                            break
                    slot.pid = self._pid
                    slot.sent_at = None
                    return slot
            self._room.clear()
            await self._room.wait()

    # -- not online

    async def _pause(self, failure):
        """Say why, and wait as the schedule says."""
        if isinstance(failure, Refused):
            kind, state = retry.REFUSED, REFUSED
        elif isinstance(failure, Untrusted):
            kind, state = retry.UNTRUSTED, UNTRUSTED
            self._distrust = failure.code
        else:
            kind, state = retry.NETWORK, OFFLINE
            if failure.code == "CLOSED_ON_LOGIN":
                kind = retry.CLOSED
        pause = self._retry.wait(kind)
        self._next_at = ticks_add(ticks_ms(), pause)
        self._set(state, failure.words)
        self._log("next try in %d s" % ((pause + 999) // 1000))
        await asyncio.sleep_ms(pause)

    def _set(self, state, reason):
        changed = state != self.state or reason != self.reason
        self.state = state
        self.reason = reason
        if changed:
            self._log("%s: %s" % (state, reason) if reason else state)


async def _drive(link, steps):
    """Run a link's generator, waiting where it says."""
    while True:
        try:
            direction = next(steps)
        except StopIteration as e:
            return e.value
        await wait(link.raw, direction)


async def _guard(session, work):
    """Run a part of the session; its end is the session's."""
    try:
        await work
    except LimpetError as e:
        session.fail(e)
    except (OSError, ValueError, MemoryError) as e:
        session.fail(Lost("ERROR", "the connection ended: %s" % repr(e)))


def _floor(record):
    """The time (s since 1970) before which it cannot be: PROTOCOLS.md 8, hard floor."""
    floor = int.from_bytes(record.one(vault.EARLIEST) or b"", "big")
    for der in record.all(vault.ANCHOR):
        floor = max(floor, x509.Certificate(der).not_before)
    return floor


def _interface(record, log):
    """The Wi-Fi of the record's networks, or False where there is none to bring up."""
    networks = []
    for field in record.all(vault.NETWORK):
        n = field[0]
        networks.append((field[1 : n + 1], field[n + 1 :]))
    if not networks:
        return False
    from .wifi import Wifi

    return Wifi(networks, log)

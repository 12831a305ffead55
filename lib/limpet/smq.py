"""SMQ, Real Time Logic's protocol for devices and web pages, on our link, vault and schedules.

Experimental and optional, for those who run a Barracuda, Mako or Xedge server: SMQ.md.
"""

import asyncio
import struct

from micropython import const

from . import record
from .client import Life, parts
from .dial import Dialler
from .errors import Lost
from .flight import Flight
from .keeper import Keeper
from .logins import Logins, random_bits
from .smqwire import TAKEN, Frames, SmqLink, SmqSession, frame
from .status import ONLINE
from .times import SERVERS

_SELF = const("self")  # the topic of what is sent to this client alone

_SUBSCRIBE = const(4)  # this one, Create and Createsub are answered by their number and one
_CREATE = const(6)
_PUBLISH = const(8)
_OBSERVE = const(14)
_CREATESUB = const(17)
_MOST = const(65_520)  # bytes of payload that the broker can pass on
_MAX_RUNNING = const(16)  # handlers at work before messages for more of them are dropped
_GET = const(b"GET %s HTTP/1.0\r\nSimpleMQ: 1\r\nSendSmqHttpResponse: true\r\n\r\n")


class _Keeper(Keeper):
    """Keeps the connection, and restores what the broker has forgotten after each login."""

    Session = SmqSession

    def __init__(self, path, receive, store, wifi, random, status, *rest):
        self.etid = self._running = 0
        self.asked = []  # (_SUBSCRIBE or _OBSERVE, topic or address, sub-topic or None, handler)
        self._request = _GET % path.encode()
        dialler = Dialler(lambda: SmqLink(self))
        flight = Flight(1, 1, "raise")  # stays empty: SMQ acknowledges no message
        logins = Logins(store, random)
        frames = Frames(receive)
        super().__init__(store, logins, dialler, wifi, self, flight, None, frames, status, *rest)

    def named(self, name):
        """Topics do not hold it; it goes with the login."""

    def connect(self):
        """Connect of version 1: account, password as it is, name."""
        self.logins.sending()
        packet = bytearray(b"\0\0\2\1")
        for tag in (record.ACCOUNT, record.PASSWORD):
            part = self._record.one(tag) or b""
            packet.append(len(part))
            packet.extend(part)
        packet.extend(self.device.encode())
        packet[:2] = len(packet).to_bytes(2, "big")
        return packet

    def _hello(self, record):
        self._record = record
        return bytearray(self._request)

    async def _goodbye(self, session):
        await session.goodbye()

    async def _greet(self, session, told, etid):
        self.etid = etid
        self._ids = {}
        self.logins.accepted(told)
        for op, what, sub, _ in self.asked:
            await self._ask(session, op, what, sub)
        self.session = session
        self._status.set(ONLINE)
        self.settled.set()
        await self._kit.wiped()  # the scrub, if one is due

    def _state(self, failure, kind):
        return TAKEN if failure.code == TAKEN else super()._state(failure, kind)

    def ask(self, op, what, sub, handler):
        """Subscribe or observe, now or with the login, and again after each."""
        self.asked.append((op, what, sub, handler))
        session = self.session
        if session:
            asyncio.create_task(session.guard(self._ask(session, op, what, sub)))

    async def _ask(self, session, op, what, sub):
        tid = await self._id(session, _CREATE if op == _OBSERVE else op, what)
        await self._id(session, _CREATESUB, sub)
        if op == _OBSERVE and tid is not None:
            await session.send(frame(op, struct.pack(">I", tid)))

    async def _id(self, session, op, name):
        """A topic's or sub-topic's id, None when refused; what is none by name is its own."""
        if name == _SELF:
            return self.etid
        if not isinstance(name, str):
            return name or 0
        key = op == _CREATESUB, name
        name = name.encode()
        if op == _SUBSCRIBE or key not in self._ids:
            self._ids[key] = await session.ask((op + 1, name), frame(op, name))
            if self._ids[key] is None:
                self._status.log("refused: topic %s" % key[1])
        return self._ids[key]

    async def publish(self, to, payload, sub):
        """Whether it was sent."""
        session = self.session
        if not session:
            return False
        try:
            tid = await self._id(session, _CREATE, to)
            sub = await self._id(session, _CREATESUB, sub)
            if tid is None or sub is None:
                return False
            ids = struct.pack(">III", tid, self.etid, sub)
            await session.send(frame(_PUBLISH, ids + payload))
        except Lost:
            pass
        return not session.failure

    def deliver(self, ids, payload):
        """A message (to, sender, sub-topic), or without a payload a change (of what, count)."""
        wanted = _SUBSCRIBE if payload is not None else _OBSERVE
        for entry in list(self.asked):
            op, what, sub, handler = entry
            tid = self.etid if what == _SELF else self._ids.get((False, what), what)
            if op != wanted or tid != ids[0]:
                continue
            if op == _OBSERVE:
                if what is tid and not ids[1]:
                    self.asked.remove(entry)  # that client is gone for good
                asyncio.create_task(self._call(handler, ids[1]))
            elif not sub or self._ids.get((True, sub)) == ids[2]:
                asyncio.create_task(self._call(handler, payload, ids[1]))

    async def _call(self, handler, *args):
        if self._running >= _MAX_RUNNING:
            self._status.log("too many handlers at work")
            return
        self._running += 1
        try:
            result = handler(*args)
            if hasattr(result, "send"):
                await result
        except Exception as e:
            self._status.log("failed: %r" % e)
        self._running -= 1


class Client(Life):
    """An SMQ client whose server, account and anchors come from the vault.

    `path` is the URL's path of the broker's page. A server that is silent for one and a quarter
    of `keepalive` (s) is given up. `receive` (bytes) is the largest frame that is taken. The
    others are those of limpet.Client.
    """

    def __init__(
        self,
        path,
        store=None,
        wifi=None,
        log=None,
        keepalive=60,
        receive=2048,
        feed=None,
        random=random_bits,
        time_servers=SERVERS,
    ):
        store, wifi, status, feed = parts(store, wifi, log, feed)
        rest = keepalive, True, feed, time_servers
        super().__init__(_Keeper(path, receive, store, wifi, random, status, *rest), status)

    @property
    def etid(self):
        """This connection's address, to which others can send; 0 before the first login."""
        return self._keeper.etid

    def on(self, topic, sub=None):
        """Decorator: handle(payload, sender) messages of a topic, with `sub` those of that
        sub-topic only; the topic "self" is what is sent to this client alone."""

        def register(handler):
            self._keeper.ask(_SUBSCRIBE, topic, sub, handler)
            return handler

        return register

    def observe(self, what, handler):
        """Call handler(count) when a topic's number of subscribers changes, or, with a sender's
        address, with 0 when that client is gone."""
        self._keeper.ask(_OBSERVE, what, None, handler)

    def forget(self, handler):
        """Call it no more. The broker is not told: its Unobserve destroys the topic."""
        asked = self._keeper.asked
        for entry in list(asked):
            if entry[3] is handler:
                asked.remove(entry)

    async def publish(self, to, payload, sub=None):
        """Publish to a topic, or to one client by its address. While offline, or where the
        server refuses the topic, it is dropped and counted; SMQ acknowledges nothing."""
        payload = payload.encode() if isinstance(payload, str) else payload
        if len(payload) > _MOST:
            raise ValueError("SMQ: 65,520 bytes at most")
        if await self._keeper.publish(to, payload, sub):
            self.counters.published += 1
        else:
            self.counters.dropped += 1

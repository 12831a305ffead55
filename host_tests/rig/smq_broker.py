"""An SMQ broker for tests: strict about frames, and able to misbehave. From facts, not from code.

It does what the real one was measured to do: it waits for Connect after Init, throws away what
follows Connect in the same read, takes over a uid that is on line, matches acks by name, closes
a malformed client without a word. Unlike the real one it also checks that a uid's password is
its own.
"""

import asyncio
import contextlib
import secrets
import ssl
import struct
import threading

import pytest

__all__ = ["SmqBroker", "smq_broker"]

INIT, CONNECT, CONNACK, SUBSCRIBE, CREATE, PUBLISH, UNSUBSCRIBE = 1, 2, 3, 4, 6, 8, 9
DISCONNECT, PING, PONG, OBSERVE, UNOBSERVE, CHANGE, CREATESUB = 11, 12, 13, 14, 15, 16, 17


class Malformed(Exception):
    """The client is closed without a word."""


def frame(op, body=b""):
    return struct.pack(">HB", len(body) + 3, op) + body


class Peer:
    """One client's connection."""

    def __init__(self, broker, reader, writer):
        self.broker = broker
        self.reader = reader
        self.writer = writer
        self.etid = 0
        self.uid = None

    def send(self, op, body=b""):
        self.raw(frame(op, body))

    def raw(self, data):
        """Send bytes, in TLS records of `slice` bytes when the broker has that set."""
        step = self.broker.slice or len(data)
        for at in range(0, len(data), step):
            self.writer.write(data[at : at + step])

    async def frame(self):
        head = await self.reader.readexactly(3)
        size, op = struct.unpack(">HB", head)
        if size < 3:
            raise Malformed(f"length {size}")
        return op, await self.reader.readexactly(size - 3)


class SmqBroker:
    """Listens on a free loopback port with a server certificate of `folder` (PEM).

    `accounts` maps uid to password. To be set at any time: `head` (True: as asked for, False:
    never an HTTP head), `status` of the HTTP answer, `code` (a Connack code for everybody), `mute`
    (no Pong), `slice` (bytes a record), `no` (topics that are refused), `silent` (no Init).
    What happened: `logins` [(uid, password, info)], `requests`, `faults`, `ops`.
    """

    def __init__(self, folder, accounts, port=0):
        self.accounts = accounts
        self.head = True
        self.status = 200
        self.code = None
        self.mute = self.silent = False
        self.slice = None
        self.no = set()
        self.logins = []
        self.requests = []
        self.faults = []
        self.ops = []
        self.port = port
        self.peers = {}  # etid: Peer
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "server.crt", folder / "server.key")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.start()

    # -- for the test, from its thread

    def start(self):
        """Begin anew, as after a restart: new ids."""
        self.topics = {}  # name: tid
        self.subs = {}
        self.subscribers = {}  # tid: etids
        self.observers = {}  # id: etids
        self._do(self._listen())

    def stop(self):
        """End every connection, and refuse new ones."""
        self._do(self._stop())

    def close(self):
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def peer(self, uid):
        """The Peer of a uid that is on line, or None."""
        return next((p for p in list(self.peers.values()) if p.uid == uid), None)

    def say(self, uid, data):
        """Send raw bytes to a client."""
        self._loop.call_soon_threadsafe(self.peer(uid).raw, data)

    def publish(self, uid, payload, to=None, sub=0, sender=1):
        """Publish as the broker's own client, to a topic's name or to the client itself."""
        peer = self.peer(uid)
        tid = self.topics[to] if to else peer.etid
        self.say(uid, frame(PUBLISH, struct.pack(">III", tid, sender, sub) + payload))

    def drop(self, uid, op=None, body=b""):
        """End a client's connection, with a last frame or without."""

        peer = self.peer(uid)

        def work():
            if op:
                peer.send(op, body)
            peer.writer.close()

        self._loop.call_soon_threadsafe(work)

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    # -- the broker

    async def _listen(self):
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._context
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self):
        self._server.close()
        for peer in list(self.peers.values()):
            peer.writer.transport.abort()

    async def _accept(self, reader, writer):
        peer = Peer(self, reader, writer)
        try:
            if await self._bootstrap(peer) and await self._login(peer):
                while True:
                    self._handle(peer, *await peer.frame())
                    await writer.drain()
        except Malformed as e:
            self.faults.append(str(e))
        except (OSError, EOFError):
            pass
        finally:
            self._gone(peer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _bootstrap(self, peer):
        head = await peer.reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        lines = head.decode("latin-1").split("\r\n")
        names = {line.split(":")[0].lower() for line in lines[1:] if line}
        if not lines[0].startswith("GET ") or "simplemq" not in names:
            raise Malformed("no SMQ request: " + lines[0])
        if self.status != 200:
            peer.raw(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self.status)
            return False
        if self.head and "SendSmqHttpResponse: true" in lines:
            peer.raw(b"HTTP/1.1 200 OK\r\nServer: test\r\nSmqBroker: true\r\n\r\n")
        return True

    async def _login(self, peer):
        if self.silent:
            await asyncio.Event().wait()
        peer.send(INIT, b"\1" + secrets.token_bytes(4) + b"127.0.0.1")
        try:
            op, body = await asyncio.wait_for(peer.frame(), 4)
        except asyncio.TimeoutError:
            peer.send(CONNACK, b"\2\0\0\0\0")
            return False
        if op != CONNECT or len(body) < 3:
            raise Malformed("not a Connect")
        with contextlib.suppress(asyncio.TimeoutError):
            if await asyncio.wait_for(peer.reader.read(1), 0.02):
                raise Malformed("something was sent between Connect and Connack")
        version, n = body[:2]
        uid = body[2 : 2 + n]
        m = body[2 + n]
        password, info = body[3 + n : 3 + n + m], body[3 + n + m :]
        self.logins.append((uid, password, info))
        code = self.code
        if code is None:
            good = secrets.compare_digest(self.accounts.get(uid, b""), password)
            code = 1 if version != 1 or n < 6 else 0 if good and password else 3
        if code:
            peer.send(CONNACK, bytes([code]) + bytes(4) + b"no")
            return False
        before = self.peer(uid)
        peer.uid = uid
        if before:
            peer.etid = before.etid
            before.send(DISCONNECT, b"reconnect")
            self._gone(before)
            before.writer.close()
        peer.etid = peer.etid or self._new_id()
        self.peers[peer.etid] = peer
        peer.send(CONNACK, b"\0" + struct.pack(">I", peer.etid))
        return True

    def _new_id(self):
        return secrets.randbits(31) | 1 << 31

    def _handle(self, peer, op, body):
        self.ops.append(op)
        if op in (SUBSCRIBE, CREATE, CREATESUB):
            name = body.decode()
            table = self.subs if op == CREATESUB else self.topics
            if name in self.no:
                peer.send(op + 1, b"\1" + bytes(4) + body)
                return
            tid = table.setdefault(name, self._new_id())
            if op == SUBSCRIBE:
                self.subscribers.setdefault(tid, set()).add(peer.etid)
                self._changed(tid)
            peer.send(op + 1, b"\0" + struct.pack(">I", tid) + body)
        elif op == PUBLISH and len(body) >= 12:
            to, sender, _ = struct.unpack(">III", body[:12])
            if sender != peer.etid:
                peer.send(DISCONNECT, b"corrupt frame")
                raise Malformed("a forged sender")
            for etid in list(self.subscribers.get(to, ())) or [to]:
                if etid in self.peers:
                    self.peers[etid].send(PUBLISH, body)
        elif op == PING and not body:
            if not self.mute:
                peer.send(PONG)
        elif op == OBSERVE and len(body) == 4:
            tid = struct.unpack(">I", body)[0]
            self.observers.setdefault(tid, set()).add(peer.etid)
            if tid not in self.peers:
                peer.send(CHANGE, struct.pack(">II", tid, len(self.subscribers.get(tid, ()))))
        elif op == DISCONNECT:
            raise EOFError
        else:
            raise Malformed(f"type {op} of {len(body)} bytes")

    def _changed(self, tid, count=None):
        count = len(self.subscribers.get(tid, ())) if count is None else count
        for etid in list(self.observers.get(tid, ())):
            if etid in self.peers:
                self.peers[etid].send(CHANGE, struct.pack(">II", tid, count))

    def _gone(self, peer):
        if self.peers.get(peer.etid) is not peer:
            return
        del self.peers[peer.etid]
        for tid, etids in self.subscribers.items():
            if peer.etid in etids:
                etids.discard(peer.etid)
                self._changed(tid)
        self._changed(peer.etid, 0)


@pytest.fixture
def smq_broker(broker_factory):
    """`smq_broker()` -> (SmqBroker, the settings' holder that a Device is enrolled at)."""
    made = []

    def factory():
        holder = broker_factory("embedded", start=False)
        made.append(SmqBroker(holder.settings.folder, {}))
        return made[-1], holder

    yield factory
    for broker in made:
        broker.close()

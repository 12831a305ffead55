"""One MQTT 3.1.1 connection after CONNACK: writing, acknowledgements, keep-alive."""

import asyncio
from time import ticks_diff, ticks_ms

from micropython import const

from . import packets
from .errors import Lost

_PIECE = const(4096)  # mbedTLS's largest outgoing record on the boards
_ACK_MS = const(20_000)  # a PUBACK overdue by this ends the connection; the next one repeats it
_SUBSCRIBE_PID = const(1)  # kept out of the publishes' range, so that it is never in use (2.3.1)
_TURNS = const(8)  # reads in a row before other tasks get the loop
_PING = b"\xc0\0"
_DISCONNECT = b"\xe0\0"


def _exhausted():
    return
    yield


DONE = _exhausted()  # awaiting an exhausted generator costs nothing
for _ in DONE:
    pass


class Slot:
    """One QoS 1 message from publish to PUBACK; it outlives the connection. pid 0: free."""

    def __init__(self):
        self.pid = 0
        self.topic = self.payload = None
        self.flags = 0
        self.sent_at = None  # ticks of the last sending on the connection that is up
        self.done = asyncio.Event()


class Session:
    """Owns the stream while the connection lasts; nothing here raises into a sketch.

    `ended` is set once, with the reason in `failure`. `slots` are the client's messages in
    flight; `on_publish(in_)` handles a PUBLISH and answers whether to acknowledge it at once.
    """

    def __init__(self, link, keepalive, slots, room, out, in_, on_publish):
        self._raw = link.raw
        self._write = link.stream.write
        self._read = link.stream.readinto
        self._keepalive_ms = keepalive * 1000
        self._slots = slots
        self._room = room
        self._out = out
        self._in = in_
        self._on_publish = on_publish
        self._busy = False  # a packet is only partly written: nothing else may be
        self._free = asyncio.Event()
        self._acks = bytearray()
        self._granted = asyncio.Event()
        self._codes = b""
        self._sent_at = self._heard_at = ticks_ms()
        self.sends = 0
        self.failure = None
        self.ended = asyncio.Event()
        in_.have = in_.end = 0

    def fail(self, failure):
        """End the session; the first reason counts. Whoever waits for it is woken."""
        if not self.failure:
            self.failure = failure
        self._busy = False
        self._free.set()
        self._granted.set()
        self.ended.set()

    # -- writing: one packet, one write; what does not go at once is finished by a task

    def _put(self, buf, at, n):
        """Write buf[at : at + n]. Returns DONE or what to await; the bytes are ours until then."""
        self.sends += 1
        try:
            done = self._write(buf, at, n)
        except (OSError, ValueError) as e:
            self.fail(Lost("WRITE", "the connection broke while sending (%s)" % e))
            return DONE
        if done == n:
            return DONE
        done = done or 0
        return self._later(buf, at + done, n - done, b"")

    def _later(self, buf, at, n, rest):
        self._busy = True
        self._free.clear()
        asyncio.create_task(self._finish(buf, at, n, rest))
        return self._free.wait()

    async def _finish(self, buf, at, n, rest):
        """Write what is left of a packet: a part of `buf`, then `rest` in pieces."""
        try:
            await self._push(buf, at, n)
            await self._push(rest, 0, len(rest))
        except (OSError, ValueError) as e:
            self.fail(Lost("WRITE", "the connection broke while sending (%s)" % e))
        self._busy = False
        self._free.set()

    async def _push(self, buf, at, n):
        # After None the same bytes are offered again: mbedTLS has sealed them already.
        while n and not self.failure:
            done = self._write(buf, at, min(n, _PIECE))
            if done:
                at += done
                n -= done
            else:
                await wait(self._raw, True)

    async def _turn(self):
        """Wait until no packet is half written; False when the session has ended."""
        while self._busy and not self.failure:
            await self._free.wait()
        return not self.failure

    def publish(self, topic, payload, flags):
        """QoS 0 (bytes): it has usually gone when this returns; await the answer."""
        out = self._out
        if not self._busy and out.publish(topic, payload, flags, 0):
            return self._put(out.buf, out.off, out.n)
        return self._publish(topic, payload, flags, 0)

    async def _publish(self, topic, payload, flags, pid):
        if await self._turn():
            out = self._out
            if out.publish(topic, payload, flags, pid):
                await self._put(out.buf, out.off, out.n)
            else:
                self.sends += 1
                await self._later(out.buf, out.off, out.n, payload)

    async def send(self, slot):
        """Send what is in a slot, for the first time or again."""
        slot.sent_at = ticks_ms()
        await self._publish(slot.topic, slot.payload, slot.flags, slot.pid)

    async def subscribe(self, filters):
        """Subscribe with QoS 1; the codes of SUBACK (0x80: refused), one a filter."""
        self._granted.clear()
        if await self._turn():
            packet = packets.subscribe(_SUBSCRIBE_PID, filters)
            await self._put(packet, 0, len(packet))
            await self._granted.wait()
        if self.failure:
            raise self.failure
        return self._codes

    def acknowledge(self, pid):
        """Queue a PUBACK (3.4); it goes with the next flush."""
        self._acks.extend(bytes((packets.PUBACK, 2, pid >> 8, pid & 255)))

    def flush(self):
        """Send the queued acknowledgements in one write, unless a packet is half written."""
        if self._acks and not self._busy:
            acks = self._acks
            self._acks = bytearray()
            self._put(acks, 0, len(acks))

    def disconnect(self):
        """DISCONNECT (3.14), if nothing is half written: the server then drops the will."""
        if not self._busy:
            self._put(_DISCONNECT, 0, 2)

    # -- reading

    async def run(self):
        """Read and handle packets until the connection ends; raises Lost."""
        in_ = self._in
        turns = 0
        while True:
            try:
                n = self._read(in_.room())
            except (OSError, ValueError) as e:
                raise Lost("READ", "the connection broke (%s)" % e)
            if n is None:
                turns = 0
                await wait(self._raw, False)
                continue
            if not n:
                raise Lost("CLOSED", "the server closed the connection")
            self._heard_at = ticks_ms()
            in_.have += n
            while in_.next():
                self._handle(in_)
            self.flush()
            turns += 1
            if turns == _TURNS:
                turns = 0
                await asyncio.sleep_ms(0)

    def _handle(self, in_):
        op = in_.op
        at = in_.at
        size = in_.end - at
        if op & 0xF0 == packets.PUBLISH:
            in_.publish()
            if self._on_publish(in_) and in_.pid:
                self.acknowledge(in_.pid)
        elif op == packets.PUBACK and size == 2:
            pid = in_.buf[at] << 8 | in_.buf[at + 1]
            for slot in self._slots:
                if slot.pid == pid:
                    slot.pid = 0
                    slot.topic = slot.payload = None
                    slot.done.set()
                    self._room.set()
                    return
        elif op == packets.SUBACK and size >= 3:
            self._codes = bytes(in_.buf[at + 2 : in_.end])
            self._granted.set()
        elif op != packets.PINGRESP or size:
            raise Lost("MALFORMED", "the server sent a packet out of place (0x%02x)" % op)

    # -- liveness

    async def watch(self):
        """Ping when nothing was sent, or nothing was heard, for half a keep-alive. Raises Lost
        when the server is silent for one and a quarter, or an acknowledgement is overdue."""
        keepalive = self._keepalive_ms
        sends = self.sends
        while True:
            await asyncio.sleep_ms(keepalive // 8)
            now = ticks_ms()
            if self.sends != sends:
                sends = self.sends
                self._sent_at = now
            silent = ticks_diff(now, self._heard_at)
            if silent > keepalive * 5 // 4:
                raise Lost("SILENT", "the server was silent for %d s" % (silent // 1000))
            for slot in self._slots:
                unacknowledged = slot.pid and slot.sent_at is not None
                if unacknowledged and ticks_diff(now, slot.sent_at) > _ACK_MS:
                    raise Lost("NO_ACK", "a message was not acknowledged in time")
            if max(silent, ticks_diff(now, self._sent_at)) > keepalive // 2 and not self._busy:
                self._put(_PING, 0, 2)
            self.flush()


def wait(raw, for_write):
    """Await the raw socket: a TLS object has no descriptor, its poll sleeps (facts/ports 0.4)."""
    queue = asyncio.core._io_queue
    if for_write:
        queue.queue_write(raw)
    else:
        queue.queue_read(raw)
    yield

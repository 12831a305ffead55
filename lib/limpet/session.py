"""One MQTT 3.1.1 connection after CONNACK: writing, acknowledgements, keep-alive."""

import asyncio
import gc
from asyncio import Event, Lock  # loads them now, not later amid a sketch's data
from time import ticks_diff, ticks_ms

from micropython import const

from . import packets
from .errors import LimpetError, Lost, fault

_PIECE = const(4096)  # mbedTLS's largest outgoing record on the boards
_ACK_MS = const(20_000)  # a PUBACK overdue by this ends the connection; the next one repeats it
_SUBSCRIBE_PID = const(1)  # kept out of the publishes' range, so that it is never in use (2.3.1)
_TURNS = const(8)  # reads in a row before other tasks get the loop
_MOST_ACKS = const(1024)  # bytes of unsent acknowledgements before reading pauses


def _exhausted():
    return
    yield


DONE = _exhausted()  # awaiting an exhausted generator costs nothing
for _ in DONE:
    pass


class Session:
    """Owns the stream while the connection lasts; nothing here raises into a sketch.

    `ended` is set once, with the reason in `failure`. `stream` is read and written without
    waiting; for that `readable` and `writable` are awaited (aio.Ready). `flight` is
    the queue of QoS 1; `on_publish(in_, session)` handles a PUBLISH and answers whether to
    acknowledge it at once; `counters` counts.
    """

    PING = b"\xc0\0"  # PINGREQ (3.12)
    DISCONNECT = b"\xe0\0"  # 3.14

    def __init__(
        self, stream, readable, writable, keepalive, flight, out, in_, on_publish, counters
    ):
        self.write = stream.write
        self.read = stream.readinto
        self.readable = readable
        self.writable = writable
        self._keepalive_ms = keepalive * 1000
        self.flight = flight
        self._flowing = False  # messages of the queue wait until the subscriptions stand
        self.out = out
        self.in_ = in_
        self.on_publish = on_publish
        self.counters = counters
        self._busy = False  # a packet is only partly written: nothing else may be
        self._free = Event()
        self._writer = None
        self._acks = bytearray()
        self._wanted = 0  # how many codes the SUBACK that is awaited must bring
        self._asked_at = 0
        self._asking = Lock()
        self._granted = Event()
        self._codes = b""
        self._heard_at = self.sent_at = ticks_ms()
        self._sent = counters.bytes_out  # what it was at the last check
        self._pinged = False
        self.failure = None
        self.ended = Event()
        in_.have = in_.end = 0

    def fail(self, failure):
        """End the session; the first reason counts. Whoever waits for it is woken."""
        if self.failure:
            return
        self.failure = failure
        self._free.set()
        self._granted.set()
        self.ended.set()

    async def guard(self, work):
        """Run a part of the session; its end is the session's."""
        try:
            await work
        except LimpetError as e:
            self.fail(e)
        except Exception as e:
            self.fail(fault(e))

    def close(self):
        """Leave the socket alone from now on; before it is closed."""
        self.fail(Lost("CLOSED"))
        if self._writer:
            self._writer.cancel()
        self.flight.lost()

    # -- writing: one packet, one write; what does not go at once is finished by a task

    def publish(self, topic, payload, flags, pid=0):
        """Of bytes; with QoS 0 it has usually gone when this returns: await the answer.

        `pid` is that of QoS 1, which comes here only while no packet is half written.
        """
        if self._busy:
            return self._publish(topic, payload, flags)
        out = self.out
        left = out.publish(topic, payload, flags, pid)
        n = out.n
        self.counters.bytes_out += n + left
        try:  # not by _put: a call is an eighth of what a message costs
            done = self.write(out.buf, out.off, n)
        except (OSError, ValueError) as e:
            return self._failed(e)
        if done == n and not left:
            return DONE
        return self._left(done, out.buf, out.off, n, payload, left)

    async def _publish(self, topic, payload, flags):
        if await self._turn():
            await self.publish(topic, payload, flags)

    def _put(self, packet):
        """Write another packet. Returns DONE or what to await; until then its bytes are ours."""
        n = len(packet)
        self.counters.bytes_out += n
        try:
            done = self.write(packet)
        except (OSError, ValueError) as e:
            return self._failed(e)
        if done == n:
            return DONE
        return self._left(done, packet, 0, n)

    def _failed(self, error):
        self.fail(Lost("WRITE", error))
        return DONE

    def _left(self, done, buf, at, n, rest=b"", left=0):
        """Have a task write what of buf[at : at + n] has not gone, then the last `left` bytes of
        `rest`."""
        done = done or 0
        self._busy = True
        self._free.clear()
        self._writer = asyncio.create_task(self._finish(buf, at + done, n - done, rest, left))
        return self._free.wait()

    async def _finish(self, buf, at, n, rest, left):
        """Write what is left of a packet, then whatever has come up meanwhile."""
        try:
            await self._push(buf, at, n)
            await self._push(rest, len(rest) - left, left)
        except (OSError, ValueError) as e:
            self._failed(e)
        self._writer = None
        if not self.failure:
            self._busy = False
            self.flight.sent_at(ticks_ms())
            self._free.set()
            self.flush()

    async def _push(self, buf, at, n):
        # After None the same bytes are offered again: mbedTLS has sealed them already.
        while n and not self.failure:
            done = self.write(buf, at, min(n, _PIECE))
            if done:
                at += done
                n -= done
            else:
                await self.writable

    async def _turn(self):
        """Wait until no packet is half written; False when the session has ended."""
        while self._busy and not self.failure:
            await self._free.wait()
        return not self.failure

    def flow(self):
        """From now on messages of the queue are sent."""
        self._flowing = True
        self.pump()

    def pump(self):
        """Send what the queue has and the window allows, unless a packet is half written."""
        if not self._flowing:
            return
        while not self._busy and not self.failure:
            message = self.flight.next(ticks_ms())
            if not message:
                return
            self.publish(message.topic, message.payload, message.flags, message.pid)

    async def send(self, packet):
        """Write a packet when no other one is half written."""
        if await self._turn():
            await self._put(packet)

    async def ask(self, wanted, packet):
        """Write a packet of which the answer is awaited; `_codes` of that answer."""
        async with self._asking:  # one at a time: SUBSCRIBEs share a packet id
            self._granted.clear()
            self._wanted = wanted
            self._asked_at = ticks_ms()
            await self.send(packet)
            if not self.failure:
                await self._granted.wait()
            self._wanted = 0
            if self.failure:
                raise self.failure
            return self._codes

    def subscribe(self, filters):
        """Subscribe with QoS 1; await the codes of SUBACK (0x80: refused), one a filter."""
        return self.ask(len(filters), packets.subscribe(_SUBSCRIBE_PID, filters))

    def acknowledge(self, pid):
        """Queue a PUBACK (3.4); it goes with the next flush."""
        self._acks.extend(bytes((packets.PUBACK, 2, pid >> 8, pid & 255)))

    def flush(self):
        """Send the queued acknowledgements in one write, then what the queue has."""
        if self._acks and not self._busy and not self.failure:
            acks = self._acks
            self._acks = bytearray()
            self._put(acks)
        self.pump()

    def goodbye(self):
        """DISCONNECT, to be awaited: the server drops the will."""
        return self.send(self.DISCONNECT)

    # -- reading

    async def run(self):
        """Read and handle packets until the connection ends; raises Lost."""
        in_ = self.in_
        turns = 0
        while not self.failure:
            try:
                n = self.read(in_.room())
            except (OSError, ValueError) as e:
                raise Lost("READ", e)
            if n is None:
                turns = 0
                await self.readable
                continue
            if not n:
                raise Lost("CLOSED", "by the server")
            self._heard_at = ticks_ms()
            self._pinged = False
            self.counters.bytes_in += n
            in_.have += n
            while in_.next():
                self._handle(in_)
            self.flush()
            if len(self._acks) > _MOST_ACKS:
                await self._turn()
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
            self.counters.received += 1
            if self.on_publish(in_, self) and in_.pid:
                self.acknowledge(in_.pid)
        elif op == packets.PUBACK and size == 2:
            if self.flight.acknowledged(in_.buf[at] << 8 | in_.buf[at + 1]):
                self.counters.acknowledged += 1
        elif op == packets.SUBACK and self._is_granted(in_.buf, at, size):
            self._codes = bytes(in_.buf[at + 2 : in_.end])
            self._granted.set()
        elif op != packets.PINGRESP or size:
            raise Lost("MALFORMED", "0x%02x" % op)

    def _is_granted(self, buf, at, size):
        """Whether this SUBACK answers our SUBSCRIBE."""
        wanted = self._wanted
        return wanted and size == 2 + wanted and buf[at] << 8 | buf[at + 1] == _SUBSCRIBE_PID

    # -- liveness

    def check(self, now):
        """To be called a few times per keep-alive with the ticks of now: fails the session when
        the server was silent for one and a quarter, or a message is not acknowledged in time;
        pings when nothing was sent, or nothing was heard, for half a keep-alive."""
        keepalive = self._keepalive_ms
        if self.counters.bytes_out != self._sent:
            self._sent = self.counters.bytes_out
            self.sent_at = now
        silent = ticks_diff(now, self._heard_at)
        if silent > keepalive * 5 // 4:
            self.fail(Lost("SILENT", "%d s" % (silent // 1000)))
        elif self._busy:
            return
        elif self.flight.overdue(now, _ACK_MS):
            self.fail(Lost("NO_ACK", "message"))
        elif self._wanted and ticks_diff(now, self._asked_at) > _ACK_MS:
            self.fail(Lost("NO_ACK", "subscription"))
        else:
            half = keepalive // 2
            if ticks_diff(now, self.sent_at) > half or (silent > half and not self._pinged):
                self._pinged = True
                self._put(self.PING)


gc.collect()  # what was left over from loading is room for the next module

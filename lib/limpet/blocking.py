"""What a blocking sketch needs: the generators of waits (link.py) driven, and MQTT's packets."""

import select
import time
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from . import packets
from .errors import Lost

NAP_MS = 2_000  # between two feedings of the watchdog, and two looks at the connection
_ANSWER_MS = const(20_000)
_PIECE = const(4096)  # mbedTLS's largest outgoing record on the boards
_PING = const(b"\xc0\0")
_DISCONNECT = const(b"\xe0\0")


class Waits:
    """`feed()` is called before each step and at least every 2 s."""

    def __init__(self, feed):
        self._feed = feed
        self._poll = self._raw = None

    def drive(self, steps):
        """Run a generator of waits to its value."""
        try:
            while True:
                self._feed()
                try:
                    raw, for_write, ms = next(steps)
                except StopIteration as e:
                    return e.value
                if raw:
                    self.ready(raw, for_write, ms)
                else:
                    self.sleep(ms)
        finally:
            steps.close()

    def ready(self, raw, for_write, ms):
        """Wait until the raw socket can be read or written, at most `ms`."""
        if self._raw is not raw:
            self._poll = select.poll()
            self._poll.register(raw, select.POLLIN)
            self._raw = raw
        self._poll.modify(raw, select.POLLOUT if for_write else select.POLLIN)
        while ms > 0:
            self._feed()
            nap = min(ms, NAP_MS)
            if self._poll.poll(nap):
                return
            ms -= nap

    def sleep(self, ms):
        """Wait."""
        while ms > 0:
            self._feed()
            nap = min(ms, NAP_MS)
            time.sleep_ms(nap)
            ms -= nap

    def forget(self):
        """The socket is about to be closed."""
        self._poll = self._raw = None


class Connection:
    """One MQTT connection at a time, for a caller that blocks; raises Lost when it has ended.

    `out` and `in_` are buffers (packets.py), `feed` feeds a watchdog, `on_publish(in_)` handles a
    message. `waiting` are the ids of which a PUBACK is to come, `granted` the codes of the last
    SUBACK.
    """

    def __init__(self, waits, out, in_, feed, on_publish):
        self._waits = waits
        self._out = out
        self._in = in_
        self._feed = feed
        self._on_publish = on_publish
        self.link = None
        self.waiting = []
        self.granted = None

    def begin(self, link, keepalive):
        """A link has logged in; `keepalive` in s."""
        self.link = link
        self._keepalive_ms = keepalive * 1000
        self._in.have = self._in.end = 0
        self._heard_at = self._sent_at = ticks_ms()
        self._asked = False  # something that the server must answer was sent since it was heard

    def hang_up(self):
        """Close the link, if there is one."""
        self._waits.forget()
        if self.link:
            self.link.close()
        self.link = None

    def publish(self, topic, payload, flags, pid):
        """Send a PUBLISH of bytes; `pid` is 0 for QoS 0."""
        out = self._out
        left = out.publish(topic, payload, flags, pid)
        if pid:
            self._ask()
        self.send(out.buf, out.off, out.n)
        if left:
            self.send(payload, len(payload) - left, left)

    def subscribe(self, filters):
        """Subscribe with QoS 1; the codes of SUBACK, one a filter."""
        self.granted = None
        packet = packets.subscribe(1, filters)
        self._ask()
        self.send(packet, 0, len(packet))
        self.wait_for(lambda: self.granted)
        if len(self.granted) != len(filters):
            raise Lost("MALFORMED", "SUBACK")
        return self.granted

    def send(self, buf, at, n):
        """Write buf[at : at + n]."""
        if not self.link:
            raise Lost("CLOSED")
        self._sent_at = ticks_ms()
        until = ticks_add(self._sent_at, _ANSWER_MS)
        while n:
            # After None the same bytes are offered again: mbedTLS has sealed them already.
            done = self.link.stream.write(buf, at, min(n, _PIECE))
            if done:
                at += done
                n -= done
            elif ticks_diff(until, ticks_ms()) < 0:
                raise Lost("WRITE", "nothing taken for 20 s")
            else:
                self._waits.ready(self.link.raw, True, 1_000)

    def wait_for(self, found):
        """Handle packets until `found()`; Lost when that takes too long."""
        until = ticks_add(ticks_ms(), _ANSWER_MS)
        while not found():
            if ticks_diff(until, ticks_ms()) < 0:
                raise Lost("NO_ACK")
            self.next(NAP_MS)

    def next(self, ms):
        """Handle one packet that has come, or comes within `ms`; its first byte, or None."""
        if not self.link:
            raise Lost("CLOSED")
        in_ = self._in
        while not in_.next():
            n = self.link.stream.readinto(in_.room())
            if n is None:
                self._feed()
                self._check()
                if not ms:
                    return None
                self._waits.ready(self.link.raw, False, ms)
                ms = 0
            elif not n:
                raise Lost("CLOSED", "by the server")
            else:
                in_.have += n
                self._heard_at = ticks_ms()
                self._asked = False
        op = in_.op
        if op & 0xF0 == packets.PUBLISH:
            in_.publish()
            pid = in_.pid
            self._on_publish(in_)
            if pid:
                self.send(bytes((packets.PUBACK, 2, pid >> 8, pid & 255)), 0, 4)
        elif op == packets.PUBACK and in_.end - in_.at == 2:
            pid = in_.buf[in_.at] << 8 | in_.buf[in_.at + 1]
            if pid in self.waiting:
                self.waiting.remove(pid)
        elif op == packets.SUBACK and in_.end - in_.at > 2:
            self.granted = bytes(in_.buf[in_.at + 2 : in_.end])
        elif op != packets.PINGRESP:
            raise Lost("MALFORMED", "0x%02x" % op)
        return op

    def _check(self):
        """Ping as session.py does. Silence counts from what the server has to answer: a sketch
        may not have listened for long."""
        now = ticks_ms()
        keepalive = self._keepalive_ms
        silent = ticks_diff(now, self._heard_at)
        if self._asked:
            if silent > keepalive * 3 // 4:
                raise Lost("SILENT", "%d s" % (silent // 1000))
        elif max(silent, ticks_diff(now, self._sent_at)) > keepalive // 2:
            self.ping()

    def _ask(self):
        if not self._asked:
            self._asked = True
            self._heard_at = ticks_ms()

    def ping(self):
        """Have the server answer."""
        self._ask()
        self.send(_PING, 0, 2)

    def goodbye(self):
        """DISCONNECT (3.14): the server drops the will."""
        self.send(_DISCONNECT, 0, 2)

"""MQTT 3.1.1 packets in preallocated buffers; pure, no I/O. Section numbers are the standard's."""

from micropython import const

from .errors import Lost

_CONNECT = const(0x10)
PUBLISH = const(0x30)
PUBACK = const(0x40)
_SUBSCRIBE = const(0x82)  # with the reserved flags of 3.8.1
SUBACK = const(0x90)
PINGRESP = const(0xD0)
DUP = const(0x08)
QOS1 = const(0x02)
RETAIN = const(0x01)

_BODY = const(5)  # room for the fixed header: one byte and up to four of length (2.2.3)


class Out:
    """One outgoing packet; after each call it is buf[off : off + n], ready for one write."""

    def __init__(self, size):
        self.buf = bytearray(size)
        self.size = size
        self.off = 0
        self.n = 0

    def publish(self, topic, payload, flags, pid):
        """Assemble a PUBLISH (3.3) of bytes; how many bytes of the payload found no room.

        Those are its last ones: write the packet, then them.
        """
        buf = self.buf
        n = len(topic)
        end = _BODY + 2 + n
        if end + 2 > self.size:
            self.room(topic)
        buf[_BODY] = n >> 8
        buf[_BODY + 1] = n & 255
        buf[_BODY + 2 : end] = topic
        if pid:
            buf[end] = pid >> 8
            buf[end + 1] = pid & 255
            end += 2
        n = len(payload)
        left = end + n - self.size
        if left <= 0:
            left = 0
            buf[end : end + n] = payload
        else:
            buf[end:] = memoryview(payload)[: n - left]
        length = end + n - _BODY
        if length < 128:  # as _head, without the call: most messages are short
            self.off = _BODY - 2
            self.n = length + 2 - left
            buf[_BODY - 2] = PUBLISH | flags
            buf[_BODY - 1] = length
        else:
            self._head(PUBLISH | flags, length)
            self.n = end + n - left - self.off
        return left

    def room(self, topic):
        """ValueError where this topic finds no room."""
        if _BODY + 4 + len(topic) > self.size:
            raise ValueError("the topic is longer than the send buffer")

    def _head(self, op, size):
        """Put the fixed header right before the body."""
        buf = self.buf
        off = _BODY - (2 if size < 128 else 3 if size < 16384 else 4 if size < 2097152 else 5)
        self.off = off
        buf[off] = op
        while True:
            off += 1
            if size < 128:
                buf[off] = size
                return
            buf[off] = size & 127 | 128
            size >>= 7


def _strings(parts):
    """Length-prefixed strings (1.5.3), joined."""
    return b"".join([len(p).to_bytes(2, "big") + p for p in parts])


def _packet(op, body):
    """A small packet as a bytearray, so that its owner can wipe it."""
    n = len(body)
    head = bytes((op, n)) if n < 128 else bytes((op, n & 127 | 128, n >> 7))
    return bytearray(head + body)


def connect(client_id, user, password, keepalive, clean, will=None):
    """CONNECT (3.1) as a bytearray. `will` is (topic, payload, qos, retain); without a password
    the user is left out as well."""
    flags = (0xC0 if password else 0) | (2 if clean else 0)
    parts = [client_id]
    if will:
        flags |= 4 | will[2] << 3 | (32 if will[3] else 0)
        parts += will[:2]
    if password:
        parts += (user, password)
    body = b"\0\4MQTT\4" + bytes((flags, keepalive >> 8, keepalive & 255)) + _strings(parts)
    if len(body) >= 16384:
        raise ValueError("CONNECT is too long")
    return _packet(_CONNECT, body)


def subscribe(pid, filters, qos=1):
    """SUBSCRIBE (3.8) as a bytearray; all filters with the same QoS."""
    body = pid.to_bytes(2, "big")
    body += b"".join([_strings((f,)) + bytes((qos,)) for f in filters])
    if len(body) >= 16384:
        raise ValueError("too many subscriptions for one packet")
    return _packet(_SUBSCRIBE, body)


class In:
    """A receive buffer. Read into `room()`, tell `add(n)`, then call `next()` until it is False.

    The packet found is described by `op` (first byte), `at` and `end` (its body in buf).
    """

    def __init__(self, size):
        self.buf = bytearray(size)
        self.view = memoryview(self.buf)
        self.have = 0
        self.op = self.at = self.end = 0
        # of a PUBLISH: topic is buf[at + 2 : topic_end], payload is buf[payload : end]
        self.topic_end = self.payload = self.pid = 0

    def room(self):
        """Where to read more."""
        return self.view[self.have :] if self.have else self.buf

    def next(self):
        """Find the next whole packet; False when there is none yet. Raises Lost when malformed."""
        buf = self.buf
        pos = self.end
        have = self.have
        p = pos + 1
        n = shift = 0
        while True:
            if p >= have:
                return self._wait(pos)
            b = buf[p]
            p += 1
            n |= (b & 127) << shift
            if not b & 128:
                break
            shift += 7
            if shift > 21:
                raise Lost("MALFORMED", "length")
        if p - pos + n > len(buf):
            raise Lost("TOO_BIG", n)
        if p + n > have:
            return self._wait(pos)
        self.op = buf[pos]
        self.at = p
        self.end = p + n
        return True

    def _wait(self, at):
        """Move what is incomplete to the front, so that the rest of it can follow."""
        if at:
            left = self.have - at
            if left:
                self.buf[:left] = self.view[at : self.have]
            self.have = left
            self.end = 0
        return False

    def publish(self):
        """Take the packet as PUBLISH: sets topic_end, payload and pid (0 for QoS 0)."""
        buf = self.buf
        p = self.at
        op = self.op
        end = self.end
        q = p + 2 + (buf[p] << 8 | buf[p + 1]) if end - p >= 2 else end + 1
        self.topic_end = q
        pid = 0
        if op & 6 == 2:
            pid = buf[q] << 8 | buf[q + 1] if q + 2 <= end else 0
            bad = not pid
            q += 2
        else:  # QoS 2 was never asked for; QoS 0 is never sent again
            bad = op & 14 or q > end
        if bad or q == p + 2:
            raise Lost("MALFORMED", "PUBLISH")
        self.pid = pid
        self.payload = q


def matches(pattern, topic):
    """True when `topic` fits the filter `pattern` (4.7); both bytes-like."""
    i = j = 0
    n = len(pattern)
    m = len(topic)
    if m and topic[0] == 36 and n and (pattern[0] == 35 or pattern[0] == 43):
        return False  # "$..." is never matched by a leading wildcard (4.7.2)
    while i < n:
        c = pattern[i]
        if c == 35:  # "#": the rest
            return True
        if c == 43:  # "+": one level
            while j < m and topic[j] != 47:
                j += 1
            i += 1
        elif j < m and topic[j] == c:
            i += 1
            j += 1
        else:
            # "a/#" also fits "a"
            return j == m and i + 2 == n and c == 47 and pattern[i + 1] == 35
    return j == m

"""SMQ on the wire: frames, the login, and what the server sends afterwards.

What each frame holds, measured at the real broker: SMQ.md.
"""

import struct

from micropython import const

from .errors import Lost, Refused
from .link import Link
from .packets import In
from .session import Session

_INIT = const(1)
_CONNACK = const(3)
_PUBLISH = const(8)
_DISCONNECT = const(11)
_PONG = const(13)
_CHANGE = const(16)
TAKEN = "TAKEN"  # cause: somebody else logged in with this device's account


class Frames(In):
    """A receive buffer for frames: u16 length, which counts itself, u8 type, body."""

    def next(self):
        """Find the next whole frame; False when there is none yet. Raises Lost when malformed."""
        at = self.end
        left = self.have - at
        if left < 3 or left < self.size(at):
            return self._wait(at)
        self.op = self.buf[at + 2]
        self.at = at + 3
        self.end = at + self.size(at)
        return True

    def size(self, at):
        """The length that the frame at `at` claims; nothing is allocated for it."""
        size = self.buf[at] << 8 | self.buf[at + 1]
        if not 3 <= size <= len(self.buf):
            raise Lost("MALFORMED", size)
        return size


class SmqLink(Link):
    """Its login: an HTTP head or none, Init, Connect, Connack."""

    def __init__(self, keeper):
        super().__init__()
        self._keeper = keeper

    def login(self):
        """A generator of this connection's address (etid). It reads no byte too many."""
        frames = self._keeper.in_
        buf = frames.buf
        self._step = "HTTP"
        n = 0
        while n < 3 or (buf[0] == 72 and buf[n - 4 : n] != b"\r\n\r\n"):  # 72: "H" of HTTP
            if n == len(buf):
                break
            n += yield from self.read(frames.view[n : n + 1])
        if buf[0] == 72:
            if n == len(buf) or buf[9:12] != b"200":
                raise Lost("HTTP", bytes(buf[9:12]))
            n = 0
        if (yield from self._next(frames, n)) != _INIT or buf[3] != 1:
            raise Lost("HTTP")
        yield from self.write(self._keeper.connect())
        self._step = "CLOSED_ON_LOGIN"
        if (yield from self._next(frames, 0)) != _CONNACK or frames.end < 8:
            raise Lost("MALFORMED", "CONNACK")
        code = buf[3]
        if code > 2:
            raise Refused("REFUSED", code)
        if code:
            raise Lost("CONNACK", code)
        return struct.unpack_from(">I", buf, 4)[0]

    def _next(self, frames, n):
        end = 3
        while n < end or end == 3:
            if n >= 3:
                end = frames.end = frames.size(0)
                if n == end:
                    break
            n += yield from self.read(frames.view[n:end])
        return frames.buf[2]


def frame(op, body):
    """One frame."""
    return struct.pack(">HB", 3 + len(body), op) + body


class SmqSession(Session):
    PING = b"\0\3\x0c"
    DISCONNECT = b"\0\3\x0b"

    def _handle(self, in_):
        op = in_.op
        body = bytes(in_.view[in_.at : in_.end])
        if op == _PUBLISH and len(body) >= 12:
            self.counters.received += 1
            self.on_publish(struct.unpack(">III", body), body[12:])
        elif (op, body[5:]) == self._wanted:
            self._codes = None if body[0] else struct.unpack(">I", body[1:5])[0]
            self._granted.set()
        elif op == _CHANGE and len(body) == 8:
            self.on_publish(struct.unpack(">II", body), None)
        elif op == _DISCONNECT:
            if body == b"reconnect":
                raise Refused(TAKEN)
            raise Lost("CLOSED", "by the server")
        elif op != _PONG or body:
            raise Lost("MALFORMED", op)

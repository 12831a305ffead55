"""From an address to a verified stream with the CONNACK read, under one deadline.

A plain generator that yields the direction to wait for on the raw socket, so that the asyncio
client and the blocking drop-in can each drive it. It never waits itself; a handshake still
computes for 0.75 to 1.5 s on an RP2040, in one call.
"""

import gc
import socket
import sys

from micropython import const

from .errors import Lost, Refused

READ = const(0)
WRITE = const(1)

# One deadline from SYN to CONNACK, in s. Shorter cuts turn a storm into a livelock (DESIGN.md).
DEADLINE = const(60)


class Link:
    """One try at one address. `stream` is usable once `open` has ended; `close` in any case."""

    def __init__(self):
        self.raw = None
        self.stream = None

    def open(self, address, trust, hello):
        """Connect, verify, send `hello` (CONNECT, one write), read CONNACK.

        Yields READ or WRITE to wait for; its value is CONNACK's session-present flag.
        Raises Lost, Untrusted or Refused; after that the link is dead and must be closed.
        """
        family, _, _, _, where = address
        raw = self.raw = socket.socket(family, socket.SOCK_STREAM)
        raw.setblocking(False)
        _no_delay(raw, 1)  # or each handshake waits 40 ms for an acknowledgement
        try:
            raw.connect(where)
        except OSError as e:
            # Any number that means "in progress" differs by port; a real failure shows at the
            # first write as well.
            if e.args[0] not in _IN_PROGRESS:
                raise Lost("CONNECT", "no connection to the server (%s)" % e)
        yield WRITE
        gc.collect()  # the TLS object needs one free piece of 17 KB
        stream = self.stream = trust.wrap(raw)
        yield from self._say(stream, trust, hello)
        answer = bytearray(4)
        have = 0
        while have < 4:
            n = self._try(trust, stream.readinto, memoryview(answer)[have:])
            if n is None:
                yield READ
            elif not n:
                raise Lost("CLOSED_ON_LOGIN", "the server closed the connection after CONNECT")
            else:
                have += n
                if answer[0] != 0x20 or (have > 1 and answer[1] != 2):
                    raise Lost("MALFORMED", "the server's answer to CONNECT is not a CONNACK")
        if sys.platform == "rp2":
            # lwIP there blocks 10 s at the 33rd small segment and then claims success.
            _no_delay(raw, 0)
        code = answer[3]
        if code == 4 or code == 5:
            raise Refused("REFUSED", "the server refused this device's account (code %d)" % code)
        if code:
            raise Lost("CONNACK", "the server cannot take this device now (code %d)" % code)
        return answer[2] & 1

    def _say(self, stream, trust, hello):
        """Write all of `hello`; the first write drives the handshake, so wait for reading."""
        at = 0
        n = len(hello)
        view = memoryview(hello)
        while at < n:
            done = self._try(trust, stream.write, view[at:])
            if done is None:
                # The same bytes are offered again, untouched: mbedTLS may have sealed them.
                yield READ if not at else WRITE
            else:
                at += done

    def _try(self, trust, call, buf):
        try:
            return call(buf)
        except (OSError, ValueError) as e:
            failure = trust.failure(e)
        raise failure

    def close(self):
        """Close stream and socket: after a failed handshake the stream has forgotten it."""
        for s in (self.stream, self.raw):
            try:
                if s:
                    s.close()
            except OSError:
                pass
        self.stream = self.raw = None


def _in_progress():
    import errno

    names = ("EINPROGRESS", "EAGAIN", "EALREADY", "EWOULDBLOCK")
    return [getattr(errno, name) for name in names if hasattr(errno, name)]


_IN_PROGRESS = _in_progress()


def _no_delay(raw, value):
    """TCP_NODELAY by the port's own constant: on rp2 it is not 1, and a wrong one is ignored."""
    try:
        raw.setsockopt(getattr(socket, "IPPROTO_TCP", 6), getattr(socket, "TCP_NODELAY", 1), value)
    except OSError:
        pass  # a port without the option is slower, not broken

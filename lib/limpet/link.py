"""From an address to a verified stream with the CONNACK read, under one deadline.

A plain generator that yields (socket, for_write, ms): what to wait for, and how long at most.
The asyncio client and the blocking drop-in each drive it. It never waits itself; a handshake
still computes for 0.75 to 1.5 s on an RP2040, in one call.
"""

import errno
import gc
import socket
import sys
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from .errors import Lost, Refused, forget

# One deadline from SYN to CONNACK, in ms. Shorter cuts turn a storm into a livelock: a
# broker then works for sockets that have already gone (host_tests/bench/storm.py).
DEADLINE_MS = 60_000

_LOOK_MS = const(1_000)  # in a handshake: it may also wait for room to write


class Link:
    """One try at one address. `stream` is usable once `open` has ended; `close` in any case."""

    def __init__(self):
        self.raw = None
        self.stream = None
        self._step = "CONNECT"  # code of what a failure now means, None in the handshake

    def open(self, address, trust, hello):
        """Connect, verify, send CONNECT, read CONNACK; a generator.

        `address` is one of getaddrinfo's tuples. `hello()` makes the CONNECT, a bytearray that
        is wiped here: it holds the password. The value is CONNACK's session-present flag.
        Raises Lost, Untrusted or Refused; after that the link is dead and must be closed.
        """
        self._trust = trust
        self.address = address[-1]
        self._until = ticks_add(ticks_ms(), DEADLINE_MS)
        raw = self.raw = socket.socket(address[0], socket.SOCK_STREAM)
        raw.setblocking(False)
        _no_delay(raw, 1)  # or each handshake waits 40 ms for an acknowledgement
        try:
            raw.connect(address[-1])
        except OSError as e:
            # Which number means "in progress" differs by port.
            if e.args[0] not in (errno.EINPROGRESS, errno.EAGAIN, errno.EALREADY):
                raise Lost("CONNECT", e)
        yield raw, True, self._left()
        self._left()
        yield from self.write(hello())
        present = yield from self.login()
        if sys.platform == "rp2":
            # lwIP there blocks 10 s at the 33rd small segment and then claims success.
            _no_delay(raw, 0)
        return present

    def write(self, packet):
        """Write a bytearray and wipe it; a generator."""
        view = memoryview(packet)
        at = 0
        try:
            if not self.stream:
                gc.collect()  # the TLS object needs one free piece of 17 KB
                self.stream = self._try(self._trust.wrap, self.raw)
            while at < len(packet):
                # The first write drives the handshake, in which the server is waited for. What
                # was not taken is offered again, untouched: it may be sealed already.
                done = self._try(self.stream.write, view[at:])
                if done:
                    at += done
                else:
                    self._step = None
                    yield self.raw, at > 0, min(self._left(), _LOOK_MS)
        finally:
            for i in range(len(packet)):
                packet[i] = 0

    def read(self, view):
        """Read at least a byte into `view`; a generator of how many."""
        while True:
            n = self._try(self.stream.readinto, view)
            if n:
                return n
            if n is not None:
                raise Lost(self._step or "CLOSED", "closed")
            yield self.raw, False, self._left()

    def login(self):
        """Read the server's answer to CONNECT; a generator of its session-present flag."""
        self._step = "CLOSED_ON_LOGIN"
        answer = bytearray(4)
        view = memoryview(answer)
        have = 0
        while have < 4:
            have += yield from self.read(view[have:])
            if answer[0] != 0x20 or (have > 1 and answer[1] != 2) or answer[2] > 1:
                raise Lost("MALFORMED", "CONNACK")
        code = answer[3]
        if code == 4 or code == 5:
            raise Refused("REFUSED", code)
        if code:
            raise Lost("CONNACK", code)
        return answer[2]

    def _try(self, call, what):
        try:
            return call(what)
        except (OSError, ValueError, MemoryError) as e:
            error = e
        self.close()  # its memory is needed to say why
        failure = self._trust.failure(error)  # its own reason comes first, then the step
        if isinstance(failure, Lost):
            try:
                from .faults import at_step

                failure = at_step(failure, self._step, error)
            except MemoryError:
                failure = Lost("MEMORY")
        forget("faults")
        raise failure

    def _left(self):
        left = ticks_diff(self._until, ticks_ms())
        if left <= 0:
            raise Lost("DEADLINE")
        return left

    def close(self):
        """Close stream and socket: after a failed handshake the stream has forgotten it."""
        for s in (self.stream, self.raw):
            try:
                if s:
                    s.close()
            except OSError:
                pass
        self.stream = self.raw = None


def _no_delay(raw, value):
    """TCP_NODELAY by the port's own constant: on rp2 it is not 1, and a wrong one is ignored."""
    try:
        raw.setsockopt(getattr(socket, "IPPROTO_TCP", 6), getattr(socket, "TCP_NODELAY", 1), value)
    except OSError:
        pass  # a port without the option is slower, not broken


gc.collect()  # what was left over from loading is room for the next module

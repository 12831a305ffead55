"""What a port's TCP holds of what was written: little room, given back as the peer acknowledges.

The desktop's buffers take megabytes and so never say "full". Here bytes wait while nothing
passes, and count against the room until `ack_ms` (setting) after they left.
"""

from time import sleep_ms, ticks_diff, ticks_ms

from . import config, network

_RP2 = config.board["port"] == "rp2"
ROOM = 6_400 if _RP2 else 5_760  # TCP_SND_BUF: lwipopts_common.h; IDF's default
_MSS = 800 if _RP2 else 1_440
_SEGMENTS = 32  # MEMP_NUM_TCP_SEG of the rp2 port
_SEGMENT_WAIT_MS = 10_000  # how long tcp_write is tried again when they are used up (modlwip.c)


class Flow:
    """The sending side of one connection; `write(bytes)` is the desktop socket's."""

    def __init__(self, write):
        self._write = write
        self._unsent = bytearray()
        self._taken = []  # of each write: [bytes, segments, bytes unsent, ticks of the ack]
        self._tail = 0  # bytes in the last segment, which small writes join without NODELAY
        self.no_delay = False

    def room(self):
        """Bytes that a write would take now."""
        self.advance()
        return ROOM - sum([entry[0] for entry in self._taken])

    def advance(self):
        """Send what waited, forget what was acknowledged; nothing while nothing passes."""
        if not network.passing():
            return
        taken = self._taken
        while taken and not taken[0][2] and ticks_diff(ticks_ms(), taken[0][3]) >= 0:
            taken.pop(0)
        if self._unsent:
            done = self._write(self._unsent) or 0
            self._unsent[:] = self._unsent[done:]
            acknowledged = ticks_ms() + config.recent("ack_ms", 10)
            for entry in taken:
                sent = min(done, entry[2])
                done -= sent
                entry[2] -= sent
                if sent:
                    entry[3] = acknowledged

    def put(self, buf):
        """Take what there is room for, at least one byte; how many were taken.

        On rp2 each small write with TCP_NODELAY is a segment. With all of them unacknowledged
        the port blocks, also a socket that must not, and then claims to have sent everything.
        """
        n = min(len(buf), self.room())
        segments = self._segments(n)
        waited = 0
        while _RP2 and sum([entry[1] for entry in self._taken]) + segments > _SEGMENTS:
            if waited >= config.recent("segment_wait_ms", _SEGMENT_WAIT_MS):
                return len(buf)
            sleep_ms(50)
            waited += 50
            self.advance()
        self._taken.append([n, segments, n, 0])
        self._unsent += buf[:n]
        self.advance()
        return n

    def _segments(self, n):
        tail = 0 if self.no_delay or not self._taken else self._tail
        self._tail = (tail + n) % _MSS
        return -(-(tail + n) // _MSS) - (1 if tail else 0)

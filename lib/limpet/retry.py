"""Classes of failure and when to try again; pure.

The network's schedule is what `host_tests/bench/storm.py` found to bring 100,000 devices back.
"""

from micropython import const

NETWORK = const(0)
UNTRUSTED = const(1)
REFUSED = const(2)
CLOSED = const(3)  # closed right after CONNECT, without an answer: network, but slower in the end

_CAP_MS = const(300_000)
_CLOSED_CAP_MS = const(900_000)
_CLOSED_FROM = const(5)
_HOUR_MS = const(3_600_000)


class Retry:
    """Waits in ms. `random` gives an int of 24 bits; it is asked once a wait."""

    def __init__(self, random):
        self.random = random
        self._tries = [0, 0]
        self._closed = 0

    def wait(self, kind):
        """How long to wait before the next try after a failure of this kind, in ms.

        Not for REFUSED, whose step is kept in the flash: `refusal`.
        """
        self._closed = self._closed + 1 if kind == CLOSED else 0
        i = NETWORK if kind == CLOSED else kind
        k = self._tries[i]
        self._tries[i] = k + 1
        if kind == UNTRUSTED:  # 1, 2, 4 ... 60 min, times 0.8 to 1.2
            return _around(60_000 * min(60, 1 << min(k, 6)), self.random)
        if k == 0:
            return _between(self.random, 0, 2_000)
        if k == 1:  # the spread that keeps a fleet from coming back as one
            return _between(self.random, 0, 30_000)
        # Three waits of up to a minute, then doubling: growing at once strands the last devices
        # of a short outage (all back after 1.5 times the ideal time instead of 1.0).
        cap = _CLOSED_CAP_MS if self._closed >= _CLOSED_FROM else _CAP_MS
        return _between(self.random, 2_000, min(cap, 60_000 << max(0, min(k - 4, 4))))

    def healthy(self):
        """A subscription was granted, or a minute of health has passed: begin anew."""
        self._tries[0] = self._tries[1] = 0
        self._closed = 0


def refusal(step, random):
    """The wait after the `step`th refusal in a row: 1, 2, 4, 8, 16, 24 h, times 0.8 to 1.2."""
    return _around(_HOUR_MS * min(24, 1 << min(step - 1, 5)), random)


def _around(middle, random):
    return _between(random, middle * 4 // 5, middle * 6 // 5)


def _between(random, low, high):
    return low + ((high - low) * random() >> 24)

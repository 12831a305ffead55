"""How often somebody may try, or send: counted in memory, and the memory is bounded."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable

KEPT = 4096  # sources that are remembered at a time; the one seen longest ago is forgotten


class Limiter:
    """At most `count` failures of one source within `window_s`; `clock` gives seconds."""

    def __init__(self, count: int, window_s: float, clock: Callable[[], float]) -> None:
        self._count = count
        self._window_s = window_s
        self._clock = clock
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, source: str) -> float:
        """Seconds until this source may try again; 0 for now."""
        times = self._recent(source)
        if len(times) < self._count:
            return 0.0
        return times[0] + self._window_s - self._clock()

    def failed(self, source: str) -> None:
        """Count a failure."""
        times = self._recent(source)
        times.append(self._clock())
        self._seen[source] = times
        self._seen.move_to_end(source)
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)

    def forget(self, source: str) -> None:
        """It did well: its failures do not count any more."""
        self._seen.pop(source, None)

    def _recent(self, source: str) -> deque[float]:
        times = self._seen.get(source) or deque(maxlen=self._count)
        while times and times[0] <= self._clock() - self._window_s:
            times.popleft()
        return times


class Allowance:
    """What one page may send: `rate` units a second, and up to `burst` at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = self._left = burst
        self._clock = clock
        self._at = clock()

    def spend(self, units: float) -> bool:
        """Take so much; False when that is more than is left."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if units > self._left:
            return False
        self._left -= units
        return True


def network(address: str) -> str:
    """Who is counted for an address: itself, of IPv6 its /64, which one customer holds whole."""
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(number, ipaddress.IPv6Address):
        if number.ipv4_mapped:
            return str(number.ipv4_mapped)
        return str(ipaddress.ip_network((number, 64), strict=False))
    return str(number)

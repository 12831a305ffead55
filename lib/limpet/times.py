"""What may set the clock, and how far: PROTOCOLS.md 8.

The floor is a time that has certainly passed; the clock is never set below it. NTP may move the
clock between the floor and the end of our anchors; it is asked when the clock stands before the
floor, as after a reset, and after a refusal because of time. The kit's word (`limpet/time`, which
only the kit may write) may also raise the floor, but never beyond the chain that was verified on
that link: so no liar locks a device out for good.
"""

from micropython import const

from . import clock, x509
from .errors import Untrusted, forget
from .record import ANCHOR

_DAY = const(86_400)
_SLACK = const(2)  # s by which the clock may be off before it is set
SERVERS = ("0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org")


class Times:
    """`logins` keeps the floor, `dialler` knows the verified chain; `servers` are for NTP."""

    def __init__(self, logins, dialler, log, servers=SERVERS):
        self.logins = logins
        self.dialler = dialler
        self.log = log
        self.servers = servers
        self._floor = 0
        self._ask = False  # the clock is not known
        self.refused = ""  # words for a time of the kit that could not be

    def before(self, used):
        """Make the clock fit for a try with the record `used`; a generator of waits."""
        self._floor = self.logins.floor(used)
        if clock.raise_to(self._floor):
            self._ask = True
        if self._ask and self.servers:
            from .ntp import set_clock

            self._ask = False
            ends = max([x509.Certificate(der).not_after for der in used.all(ANCHOR)] or [0])
            resolver = self.dialler.resolver
            yield from set_clock(self.servers, resolver, self._floor, ends, self.log)
            forget("ntp")

    def failed(self, failure):
        """After a try: whether it was for time, and what to do about it before the next one."""
        if isinstance(failure, Untrusted) and failure.code in ("CLOCK", "EXPIRED"):
            clock.set_to(self._floor)  # whoever has set it before may have lied
            self._ask = True

    def told(self, payload, retained):
        """The kit's time: u64, s since 1970. A retained one is at least in the past."""
        if len(payload) != 8:
            return
        t = int.from_bytes(payload, "big")
        ends = self.dialler.ends
        if retained and t < self._floor:
            return  # true, and no news: as after an enrolment, until the next one
        if t < self._floor or (ends and t > ends):
            self.refused = "the kit's time %d lies outside of what can be" % t
            self.log(self.refused)
            return
        self.refused = ""
        if retained:
            clock.raise_to(t)
        elif abs(clock.now() - t) > _SLACK:
            clock.set_to(t)
        new = min(t, ends - _DAY)
        if ends and new > self._floor + _DAY:
            self._floor = new
            self.logins.raise_floor(new)

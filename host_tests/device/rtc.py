"""A clock that can be set, as a board's: for Python and mbedTLS alike; runs on MicroPython.

Import it after warp, before anything that uses `machine`. The process runs under libfaketime
(rig/clocks.py), which adds the seconds in a file to the machine's clock. What warp skips does not
move it: the calendar stands still while waits pass in no time.
"""

import os
import sys

from warp import clock

_FILE = os.getenv("FAKETIME_TIMESTAMP_FILE")


class RTC:
    """The part of `machine.RTC` that the library uses."""

    def datetime(self, when):
        """Set (year, month, day, weekday, hours, minutes, seconds, subseconds)."""
        year, month, day, _, hour, minute, second, _ = when
        wanted = clock.mktime((year, month, day, hour, minute, second, 0, 0))
        with open(_FILE) as f:
            added = float(f.read())
        with open(_FILE, "w") as f:
            f.write("%+d" % int(wanted - (clock.real() - added)))


class _Machine:
    RTC = RTC


sys.modules["machine"] = _Machine
clock.time = lambda: int(clock.real())

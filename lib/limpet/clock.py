"""The board's clock as seconds since 1970, and the floor below which it is never trusted.

Boards wake in 2021 (rp2) or 2000 (esp32); certificates are not valid yet then. Ports count from
1970 or 2000; this is the one place that knows.
"""

import time

from micropython import const

# Seconds from 1970 to the port's epoch; time.gmtime(0) tells which one that is.
_EPOCH = const(946_684_800)


def offset():
    """What to add to the port's time to get seconds since 1970."""
    return _EPOCH if time.gmtime(0)[0] == 2000 else 0


def now():
    """Seconds since 1970, as far as this board knows."""
    return int(time.time()) + offset()


def raise_to(floor):
    """Set the clock to `floor` (seconds since 1970) when it stands before it; whether it did."""
    if now() >= floor:
        return False
    set_to(floor)
    return True


def set_to(seconds):
    """Set the clock (seconds since 1970).

    A desktop has no clock of ours to set: there the system's stays as it is.
    """
    try:
        from machine import RTC
    except ImportError:
        return
    t = time.gmtime(seconds - offset())
    RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))


def date(seconds):
    """`2026-11-24` for seconds since 1970."""
    t = time.gmtime(seconds - offset())
    return "%04d-%02d-%02d" % (t[0], t[1], t[2])

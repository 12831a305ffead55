"""The port's `time`: whole seconds, its epoch, and ticks that wrap at 2^30 soon after a reset."""

from time import gmtime as _gmtime
from time import mktime as _mktime  # the host's part sets TZ: UTC
from time import sleep, sleep_ms, sleep_us  # noqa: F401
from time import ticks_ms as _ms
from time import ticks_us as _us

from micropython import const

from . import config, control

_MASK = const(0x3FFFFFFF)
_HALF = const(0x20000000)
_2000 = const(946_684_800)  # s from 1970 to 2000

EPOCH = _2000 if config.board["epoch"] == 2000 else 0
_started = config.state["started"]  # the host's ticks of the last hard reset, in ms
_wrap = _MASK + 1 - config.setting("ticks_before_wrap", 20_000)
_offset = config.state.get("clock")  # ms from the host's ticks to the board's clock since 1970
if _offset is None:
    _offset = int(_mktime((config.board["boot_year"], 1, 1, 0, 0, 0, 0, 0))) * 1000 - _started


def ticks_ms():
    """ms, wrapping at 2^30."""
    return (_ms() - _started + _wrap) & _MASK


def ticks_us():
    """us, wrapping at 2^30."""
    return (_us() - _started * 1000 + _wrap) & _MASK


ticks_cpu = ticks_us


def ticks_diff(a, b):
    """a - b, right for half the period."""
    return ((a - b + _HALF) & _MASK) - _HALF


def ticks_add(ticks, delta):
    """ticks + delta, |delta| below half the period."""
    if not -_HALF < delta < _HALF:
        raise OverflowError("ticks interval overflow")
    return (ticks + delta) & _MASK


def time():
    """Seconds since the port's epoch, an int."""
    return (_ms() + _offset) // 1000 - EPOCH


def time_ns():
    """ns since the port's epoch."""
    return (_ms() + _offset - EPOCH * 1000) * 1_000_000


def gmtime(seconds=None):
    """(year, month, day, hour, minute, second, weekday, day of the year); ports know no zones."""
    return _gmtime(int(time() if seconds is None else seconds) + EPOCH)[:8]


localtime = gmtime


def mktime(when):
    """Seconds since the port's epoch."""
    return int(_mktime(when[:8] + (0,))) - EPOCH


def set_clock(seconds):
    """Set the clock to seconds since 1970; it survives a soft reset."""
    global _offset
    _offset = seconds * 1000 - _ms()
    control.keep("clock", _offset)


def subseconds():
    """us of the running second."""
    return (_ms() + _offset) % 1000 * 1000

"""What CPython lacks of MicroPython, so that the device library's unit tests run there as well."""

import sys
import time
import types

_PERIOD = 1 << 30  # ticks wrap there on boards


def _ticks_diff(a: int, b: int) -> int:
    return (a - b + _PERIOD // 2) % _PERIOD - _PERIOD // 2


def _ticks_add(a: int, ms: int) -> int:
    if not -_PERIOD // 2 < ms < _PERIOD // 2:
        raise OverflowError("ticks_add")
    return (a + ms) % _PERIOD


def install() -> None:
    """Add `micropython` and the tick functions of `time`; asyncio and tls stay CPython's."""
    micropython = types.ModuleType("micropython")
    micropython.const = lambda value: value  # type: ignore[attr-defined]
    sys.modules.setdefault("micropython", micropython)
    added = {
        "ticks_ms": lambda: int(time.monotonic() * 1000) % _PERIOD,
        "ticks_us": lambda: int(time.monotonic() * 1_000_000) % _PERIOD,
        "ticks_diff": _ticks_diff,
        "ticks_add": _ticks_add,
        "sleep_ms": lambda ms: time.sleep(ms / 1000),
    }
    for name, function in added.items():
        if not hasattr(time, name):
            setattr(time, name, function)

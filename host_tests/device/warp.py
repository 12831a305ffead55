"""A clock that skips waiting, so that an hour of pauses takes a moment; runs on MicroPython.

Import it before anything that uses `time`. While no socket is waited for, the time to the next
timer passes at once. While one is, real time passes; only with `clock.eager` a silence of 100 ms
is taken for silence until the next timer.
"""

import json
import sys
import time as real

_PATIENCE_MS = 100


class Clock:
    """Takes the place of the module `time` on the desktop."""

    eager = False
    skipped = 0

    def __init__(self, host_ms):
        self._host_ms = host_ms
        self._begun = host_ms()

    def now(self):
        """Ms since the start."""
        return self.ticks_ms() - self._begun

    def ticks_ms(self):
        return self._host_ms() + self.skipped

    def time(self):
        return int(real.time()) + self.skipped // 1000

    def real(self):
        """Seconds since 1970 as the machine counts them, without what was skipped."""
        return real.time()

    def __getattr__(self, name):
        return getattr(real, name)


if hasattr(real, "_ms"):  # an imitated port's clock, which counts from the host's (sim/port)
    clock = Clock(real._ms)
    real._ms = clock.ticks_ms
else:
    clock = Clock(real.ticks_ms)
    sys.modules["time"] = clock

import asyncio  # noqa: E402


class _Queue(asyncio.core.IOQueue):
    def wait_io_event(self, dt):
        if dt > 0 and (not self.map or clock.eager):
            until = clock.now() + dt
            if self.map:
                patience = min(dt, _PATIENCE_MS)
                if self.poller.poll(patience):
                    dt = 0
            if dt > 0:
                clock.skipped += max(0, until - clock.now())
                dt = 0
        super().wait_io_event(dt)


asyncio.core._io_queue = _Queue()


def ask(event, **values):
    """Tell the test, and stand still until it answers; the answer."""
    values["event"] = event
    values["at"] = clock.now()
    print(json.dumps(values))
    return sys.stdin.readline().strip()

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
    """Takes the place of the module `time`."""

    eager = False
    skipped = 0

    def __init__(self):
        self._begun = real.ticks_ms()

    def now(self):
        """Ms since the start."""
        return self.ticks_ms() - self._begun

    def ticks_ms(self):
        return real.ticks_ms() + self.skipped

    def time(self):
        return int(real.time()) + self.skipped // 1000

    def __getattr__(self, name):
        return getattr(real, name)


clock = Clock()
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

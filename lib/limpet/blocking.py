"""Where a blocking sketch and the generators of waits (link.py) meet."""

import select
import time

from micropython import const

_NAP_MS = const(2_000)  # between two feedings of the watchdog


class Waits:
    """`feed()` is called before each step and at least every 2 s."""

    def __init__(self, feed):
        self._feed = feed
        self._poll = self._raw = None

    def drive(self, steps):
        """Run a generator of waits to its value."""
        try:
            while True:
                self._feed()
                try:
                    raw, for_write, ms = next(steps)
                except StopIteration as e:
                    return e.value
                if raw:
                    self.ready(raw, for_write, ms)
                else:
                    self.sleep(ms)
        finally:
            steps.close()

    def ready(self, raw, for_write, ms):
        """Wait until the raw socket can be read or written, at most `ms`."""
        if self._raw is not raw:
            self._poll = select.poll()
            self._poll.register(raw, select.POLLIN)
            self._raw = raw
        self._poll.modify(raw, select.POLLOUT if for_write else select.POLLIN)
        while ms > 0:
            self._feed()
            nap = min(ms, _NAP_MS)
            if self._poll.poll(nap):
                return
            ms -= nap

    def sleep(self, ms):
        """Wait."""
        while ms > 0:
            self._feed()
            nap = min(ms, _NAP_MS)
            time.sleep_ms(nap)
            ms -= nap

    def forget(self):
        """The socket is about to be closed."""
        self._poll = self._raw = None

"""Where asyncio and the generators of waits (link.py) meet."""

import asyncio
from asyncio import wait_for_ms  # loads it now, not later amid a sketch's data


async def drive(steps, step):
    """Run a generator of waits to its value.

    `step(ms)` is called right before each of its steps and waits, with how long a wait may take.
    """
    try:
        while True:
            step(0)
            try:
                raw, for_write, ms = next(steps)
            except StopIteration as e:
                return e.value
            step(ms)
            if raw:
                try:
                    await wait_for_ms(wait(raw, for_write), ms)
                except asyncio.TimeoutError:
                    pass
            else:
                await asyncio.sleep_ms(ms)
    finally:
        steps.close()


def wait(raw, for_write):
    """Await the raw socket: a TLS object has no descriptor, its poll sleeps (facts/ports 0.4)."""
    queue = asyncio.core._io_queue
    if for_write:
        queue.queue_write(raw)
    else:
        queue.queue_read(raw)
    yield


class Ready:
    """Await it, again and again, for a raw socket to be readable or writable; without a heap."""

    def __init__(self, raw, for_write):
        queue = asyncio.core._io_queue
        self._enqueue = queue.queue_write if for_write else queue.queue_read
        self._raw = raw
        self._armed = False
        self._end = StopIteration()

    def __iter__(self):
        self._armed = True
        return self

    def __next__(self):
        if self._armed:
            self._armed = False
            self._enqueue(self._raw)
            return
        self._end.__traceback__ = None
        raise self._end

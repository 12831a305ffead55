"""The kit's clock for boards: `limpet/time`, u64 seconds since 1970, retained (PROTOCOLS.md 8).

A board that has logged in learns the time from here; only the kit may write the topic.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

from ..errors import KitError
from .client import KitClient
from .settings import Settings

TOPIC = "limpet/time"
PERIOD_S = 60.0
ANSWER_S = 2.0  # it runs on this machine
RETRY_S = 5.0  # the broker is away or all sessions of the kit are taken


class Timekeeper:
    """Publishes the time of this machine while it is entered; use it as a context manager.

    It never fails: without a broker it tries again, and a board then keeps the time it has.
    """

    def __init__(self, settings: Settings, period_s: float = PERIOD_S) -> None:
        self._settings = settings
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="limpet/time", daemon=True)

    def __enter__(self) -> Timekeeper:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with KitClient(self._settings, ANSWER_S) as kit:
                    while not self._stop.is_set():
                        kit.publish(TOPIC, encode(time.time()), retain=True)
                        self._stop.wait(self._period_s)
            except KitError:
                self._stop.wait(RETRY_S)


def encode(seconds: float) -> bytes:
    """A time as it goes on the wire: 8 bytes, whole seconds since 1970."""
    return int(seconds).to_bytes(8, "big")

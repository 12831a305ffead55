"""Work that must be put right again, however it ends: Ctrl-C, SIGTERM, a closed terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_ALL = (signal.SIGINT, *_ENDING)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt what is inside as Ctrl-C does, so that it is cleaned up."""
    with _handled(_ENDING, _interrupt):
        yield


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """What is inside is not interrupted; it asks whether Ctrl-C or one of the others came.

    For a loop that starts programs: an exception in the midst of a fork is lost.
    """
    came: list[int] = []
    with _handled(_ALL, lambda number, _: came.append(number)):
        yield lambda: bool(came)


@contextmanager
def deferred() -> Iterator[None]:
    """What is inside runs to its end, and is interrupted then, if one of them came meanwhile."""
    if threading.current_thread() is not threading.main_thread():  # none of them comes there
        yield
        return
    came: list[int] = []
    with _handled(_ALL, lambda number, _: came.append(number)):
        yield
    if came:
        signal.raise_signal(came[0])


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is inside runs to its end: none of them is heard meanwhile."""
    with _handled(_ALL, signal.SIG_IGN):
        yield


@contextmanager
def _handled(numbers: Iterable[signal.Signals], handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt

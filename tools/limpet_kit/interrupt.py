"""Work that must be put right again, however it ends: Ctrl-C, SIGTERM, a closed terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt what is inside as Ctrl-C does, so that it is cleaned up."""
    before = {number: signal.signal(number, _interrupt) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """What is inside is not interrupted; it asks whether Ctrl-C or one of the others came.

    For a loop that starts programs: an exception in the midst of a fork is lost.
    """
    came: list[int] = []
    numbers = (signal.SIGINT, *_ENDING)
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in numbers}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """What is inside runs to its end, and is interrupted then, if one of them came meanwhile."""
    if threading.current_thread() is not threading.main_thread():  # none of them comes there
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, *_ENDING)
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is inside runs to its end: none of them is heard meanwhile."""
    numbers = (signal.SIGINT, *_ENDING)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt

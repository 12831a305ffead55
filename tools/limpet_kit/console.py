"""What a person sees: plain lines, a progress bar on a terminal, one JSON object when asked."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from .errors import USAGE, KitError
from .secret import Secret


class Advance(Protocol):
    """Report that `done` of `total` units are done."""

    def __call__(self, done: int, total: int) -> None: ...


def printable(text: str, limit: int = 200) -> str:
    """Text that a board or a server sent, safe for a terminal: no control characters, bounded."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def csv_cell(value: object) -> str:
    """Text of a CSV cell; what a spreadsheet would take for a formula gets a quote before it."""
    text = "" if value is None else str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def typed_secret(words: str, twice: bool = True) -> Secret:
    """Asked for at a terminal without echo, a new one `twice`; else the first line of stdin."""
    if not sys.stdin.isatty():
        return Secret(sys.stdin.readline().rstrip("\r\n").encode())
    try:
        typed = getpass.getpass(f"{words}: ")
        if twice and getpass.getpass("once more: ") != typed:
            raise KitError("The two are not the same; nothing was changed.", USAGE)
    except EOFError:
        raise KitError("Nothing was typed; nothing was changed.", USAGE) from None
    return Secret(typed.encode())


def seconds(text: str) -> float:
    """The type of an option that is a time: neither below 0 nor without end."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def ask(question: str) -> str:
    """The line that a person types, empty also at the end of input.

    The question goes to stderr: stdout may be a file of JSON.
    """
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().rstrip("\r\n")


def nobody_reads(stream: IO[str]) -> None:
    """Go on without who has read it (`| head`): what has been begun is done all the same."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Rich(RichConsole):
    @property
    def is_terminal(self) -> bool:
        """Not by FORCE_COLOR, usual in CI, which would draw the bar into files."""
        return self.file.isatty()

    def on_broken_pipe(self) -> None:
        nobody_reads(self.file)


class Console:
    """Lines for people; with `as_json` they go to stderr and stdout gets one object at the end."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._rich = _Rich(
            stderr=as_json, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    def line(self, text: str) -> None:
        """One line of progress or result."""
        self._rich.print(text)

    def warn(self, text: str) -> None:
        """Something that the reader should act on; always on stderr."""
        self._rich.file.flush()
        print("limpet: " + text, file=sys.stderr)

    def result(self, value: dict[str, Any] | list[Any]) -> None:
        """The JSON result, printed only when it was asked for."""
        if self.as_json:
            print(json.dumps(value, sort_keys=True), flush=True)

    @contextmanager
    def progress(self, label: str) -> Iterator[Advance]:
        """A bar for long work; shows nothing where stdout is not a terminal."""
        if not self._rich.is_terminal:
            yield lambda done, total: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self._rich, transient=True) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

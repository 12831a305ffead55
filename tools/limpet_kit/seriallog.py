"""What a running board prints: its application's log, read along without interrupting it."""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType

import serial

from .console import printable

_LONGEST = 400


class SerialLog:
    """Lines that a board prints, from entry on; use it as a context manager."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._lines: queue.Queue[str] = queue.Queue()
        self._stop = threading.Event()
        self._trace = ""  # last line of the last traceback
        self.crash = ""  # the exception with which the program ended and gave the prompt back

    def __enter__(self) -> SerialLog:
        self._port = serial.Serial(self._device, 115200, timeout=0.1)
        self._thread = threading.Thread(target=self._read, daemon=True)
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
        self._port.close()

    def wait(self, beginning: str, timeout_s: float) -> str | None:
        """The next line that begins so, safe to show; None when none comes in time."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return None
            if line.startswith(beginning):
                return line

    def rest(self) -> list[str]:
        """The lines read so far that nobody took."""
        found = []
        while not self._lines.empty():
            found.append(self._lines.get())
        return found

    def _read(self) -> None:
        half = b""
        while not self._stop.is_set():
            try:
                half += self._port.read(self._port.in_waiting or 1)
            except (serial.SerialException, OSError):
                return  # the board was unplugged, or switched off
            *lines, half = half.split(b"\n")
            for line in lines:
                self._take(line.decode("utf-8", "replace"))
            half = half[-_LONGEST:]

    def _take(self, line: str) -> None:
        """MicroPython's banner behind a traceback is the end of the program."""
        said = printable(line.strip(), _LONGEST)
        self._lines.put(said)
        if said.startswith("Traceback "):
            self._trace = "..."
        elif self._trace == "..." and line[:1] not in (" ", "\r", ""):
            self._trace = said
        elif self._trace and said.startswith("MicroPython "):
            self.crash = self._trace

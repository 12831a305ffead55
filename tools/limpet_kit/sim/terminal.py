"""Pseudo-terminals as a board's serial port needs them: every byte passes as it is."""

from __future__ import annotations

import os
import pty
import termios
import time

PATIENCE_S = 0.5  # a board drops what nobody fetches (rp2: 500 ms), it never stops for it
ROOM = 65536


def open_raw() -> tuple[int, int]:
    """(master, slave) of a new pseudo-terminal without echo, signals or changed line ends."""
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[0] = attributes[1] = attributes[3] = 0
    attributes[2] |= termios.CS8
    attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.set_blocking(master, False)
    return master, slave


class Outlet:
    """What waits to be written to a descriptor that may be full."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.waiting = bytearray()
        self._since = 0.0

    def write(self, data: bytes) -> None:
        """Write what goes now, keep the rest."""
        if not self.waiting:
            self._since = time.monotonic()
        self.waiting += data
        self.flush()

    def flush(self) -> None:
        """Write on."""
        while self.waiting:
            try:
                done = os.write(self.fd, self.waiting[:4096])
            except (BlockingIOError, OSError):
                return
            self._since = time.monotonic()
            del self.waiting[:done]

    def expire(self) -> None:
        """Drop what nobody fetched."""
        if self.waiting and time.monotonic() - self._since > PATIENCE_S:
            self.waiting.clear()

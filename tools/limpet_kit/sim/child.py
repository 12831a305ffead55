"""One run of the MicroPython program, from a reset to the next."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from . import terminal

BOOT = Path(__file__).with_name("port") / "boot.py"
CTRL_C = b"\x03"
# A second SIGINT before MicroPython has seen the first one ends it (ports/unix/main.c), where a
# board would see one Ctrl-C.
_ONE_INTERRUPT_S = 0.1
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """MicroPython on a pseudo-terminal of its own, with a pipe for `port/control.py`.

    Nothing survives the bridge: its end closes the terminal, and on Linux kills the child.
    """

    def __init__(self, program: str, folder: Path, state: dict[str, Any], keep: int) -> None:
        board = json.loads((folder / "board.json").read_text())
        self.fd, slave = terminal.open_raw()
        self.pipe, pipe = os.pipe()
        os.set_blocking(self.pipe, False)
        self.typed = terminal.Outlet(self.fd)
        self._lines = b""
        self._interrupted = 0.0
        self._memory: tuple[int, int] | None = None
        heap = board["heap_free"] + board["heap_own"]
        self.process = subprocess.Popen(
            [
                program,
                "-i",
                "-X",
                f"heapsize={heap}",
                str(BOOT),
                str(folder),
            ],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            pass_fds=(pipe, keep),
            preexec_fn=lambda: _die_together(slave),
            env={
                **os.environ,
                "TZ": "UTC0",
                "MICROPYPATH": "",
                "LIMPET_SIM_STATE": json.dumps({**state, "pipe": pipe}),
            },
        )
        os.close(slave)
        os.close(pipe)

    def messages(self) -> list[list[Any]]:
        """What the board's part said since the last look."""
        try:
            while data := os.read(self.pipe, 4096):
                self._lines += data
        except BlockingIOError:
            pass
        *lines, self._lines = self._lines.split(b"\n")
        found = [json.loads(line) for line in lines]
        for message in found:
            if message[0] == "memory":
                self._memory = (message[1], message[2])
        return found

    def type(self, data: bytes) -> None:
        """What arrives on the serial port. Ctrl-C interrupts while MicroPython listens for it.

        `micropython.kbd_intr(-1)` switches that off: then the byte is data, as on a board.
        """
        while data:
            text, found, data = data.partition(CTRL_C)
            self.typed.write(text)
            if found and not self.interrupt():
                self.typed.write(CTRL_C)

    def interrupt(self, again: bool = False) -> bool:
        """Ctrl-C by signal; False when MicroPython does not listen for it.

        `again`: MicroPython has seen the last one, at a moment when it could not obey.
        """
        if not again and time.monotonic() - self._interrupted < _ONE_INTERRUPT_S:
            return self._listens()
        self.process.send_signal(signal.SIGSTOP)  # so that it cannot stop listening in between
        try:
            listens = self._stopped() and self._listens()
            if listens:
                self._interrupted = time.monotonic()
                self.process.send_signal(signal.SIGINT)
        finally:
            self.process.send_signal(signal.SIGCONT)
        return listens

    def _stopped(self) -> bool:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if re.search(r"^State:\s*[TtZX]", self._status(), re.M):
                return True
            time.sleep(0.0002)
        return False

    def _listens(self) -> bool:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", self._status(), re.M)
        return bool(caught and int(caught[1], 16) & 1 << signal.SIGINT - 1)

    def _status(self) -> str:
        try:
            return Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return "State: X"

    def kill(self) -> None:
        """End it at once, as power does."""
        self.process.kill()
        self.process.wait()

    def memory(self) -> bytes | None:
        """What is in the board's backup memory; None when it is not known (the child is gone)."""
        if not self._memory:
            return None
        try:
            with open(f"/proc/{self.process.pid}/mem", "rb") as memory:
                memory.seek(self._memory[0])
                return memory.read(self._memory[1])
        except OSError:
            return None

    def close(self) -> None:
        """Forget the ends of terminal and pipe."""
        os.close(self.fd)
        os.close(self.pipe)


def _die_together(terminal_fd: int) -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    fcntl.ioctl(terminal_fd, termios.TIOCSCTTY, 0)  # a closed terminal hangs it up

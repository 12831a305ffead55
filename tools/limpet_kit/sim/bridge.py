"""The process behind a simulated board: its serial port on one side, MicroPython on the other.

`python -m limpet_kit.sim.bridge FOLDER PROGRAM LOCK`; says `ready DEVICE` on stdout and goes on
until SIGTERM; SIGUSR1 is the reset line of its port. The lock is an inherited descriptor: it is
free when bridge and child have ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from ..broker.files import write_private
from .child import Child
from .terminal import ROOM, Outlet, open_raw

MARK = b"\0limpet board is up\0"  # port/start.py
RAW = b"raw REPL; CTRL-B to exit\r\n>"
FRIENDLY = b"\r\n>>> "
STARTS_MS = 150  # after a pulled reset, for Ctrl-C; a board takes longer to start
SOFT = b"MPY: soft reboot\r\n"
_TICK_S = 0.25  # how often the clock of dropped output and a dead child are looked at


class Bridge:
    """Carries bytes both ways, and performs what `port/control.py` asks for."""

    def __init__(self, folder: Path, program: str, lock: int) -> None:
        self._folder = folder
        self._program = program
        self._lock = lock
        self._board = json.loads((folder / "board.json").read_text())
        self.port, self._slave = open_raw()
        self.device = os.ttyname(self._slave)
        self._out = Outlet(self.port)
        self._raw = False  # the prompt is the raw REPL's
        self._left_raw = False  # Ctrl-B was typed there
        self._kept: dict[str, Any] = {}
        self._backup = bytes(self._board["backup"])
        self._hard_cause = "power"
        self._watchdog: tuple[float, float] | None = None  # (time-out in s, end)
        self._wake: float | None = None
        self._child: Child | None = None
        self._reset_line, self._reset_pull = os.pipe()
        self._hard("power")

    # -- resets

    def _hard(self, cause: str, starts_ms: int = 0) -> None:
        survives = self._board["clock_survives"]
        self._kept = {k: v for k, v in self._kept.items() if k == "clock" and cause in survives}
        self._started = int(time.monotonic() * 1000)
        self._hard_cause = cause
        self._watchdog = None
        self._raw = False
        self._start(cause, starts_ms)

    def _soft(self) -> None:
        self._out.write(SOFT)
        self._start("soft")

    def _start(self, cause: str, starts_ms: int = 0) -> None:
        state = {
            **self._kept,
            "started": self._started,
            "cause": cause,
            "hard_cause": self._hard_cause,
            "backup": self._backup.hex(),
            "main": not self._raw,
            "starts_ms": starts_ms,
        }
        self._child = Child(self._program, self._folder, state, self._lock)
        self._user = False  # user code runs: what is typed may reach it
        self._held: bytearray | None = bytearray()  # output until the mark, then until the prompt
        self._marked = False
        self._typed = bytearray()
        self._tail = b""

    def _end(self) -> Child:
        child = self._child
        assert child is not None
        self._backup = child.memory() or self._backup
        child.kill()
        self._read_child(child)
        child.close()
        self._child = None
        return child

    # -- the child's words

    def _obey(self, child: Child) -> None:
        for word, *values in child.messages():
            if word == "user":
                self._user = True
                self._type(b"")
            elif word == "keep":
                self._kept[values[0]] = values[1]
            elif word == "watchdog":
                self._watchdog = (values[0] / 1000, time.monotonic() + values[0] / 1000)
            elif word == "feed" and self._watchdog:
                self._watchdog = (self._watchdog[0], time.monotonic() + self._watchdog[0])
            elif word == "interrupt":
                child.interrupt(again=True)
            elif word == "reset":
                self._end()
                self._hard("hard")
                return
            elif word == "soft":
                self._end()
                self._soft()
                return
            elif word == "off":
                self.power_off()
                os._exit(0)
            elif word == "sleep":
                self._end()
                self._wake = time.monotonic() + values[0] / 1000 if values[0] else None
                return

    def _read_child(self, child: Child) -> bool:
        """Pass on what the child printed; False when it has ended."""
        try:
            data = os.read(child.fd, 4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self._print(data)
        return True

    def _print(self, data: bytes) -> None:
        if self._held is not None:
            data = self._hold(data)
        self._tail = (self._tail + data)[-len(RAW) :]
        if self._tail.endswith(RAW):
            self._raw, self._left_raw = True, False
        elif self._left_raw and self._tail.endswith(FRIENDLY):
            self._raw = self._left_raw = False
        self._out.write(data)

    def _hold(self, data: bytes) -> bytes:
        """Cut the mark out, and after a soft reset of the raw REPL lead back into it."""
        assert self._held is not None and self._child is not None
        self._held += data
        before = b""
        if not self._marked:
            text, found, rest = bytes(self._held).partition(MARK)
            if not found:
                keep = next((n for n in range(len(MARK), 0, -1) if text.endswith(MARK[:n])), 0)
                self._held[:] = text[len(text) - keep :]
                return text[: len(text) - keep]
            self._marked = True
            if not self._raw:
                self._held = None
                return text + rest
            before, self._held[:] = text, rest
        if self._held.endswith(b">>> "):
            self._held.clear()
            self._child.typed.write(b"\x01")
        elif self._held.endswith(RAW):
            self._held = None
            before += RAW
            self._child.type(bytes(self._typed))
            self._typed.clear()
        return before

    def _type(self, data: bytes) -> None:
        """What the other end typed; kept until there is somebody to read it."""
        self._typed += data
        leading = self._raw and self._marked and self._held is not None
        if self._user and not leading and self._child:
            if self._raw and b"\x02" in self._typed:
                self._left_raw = True
            self._child.type(bytes(self._typed))
            self._typed.clear()

    # -- the loop

    def run(self) -> None:
        """Go on until a signal ends it."""
        while True:
            child = self._child
            reads = [self._reset_line] + ([self.port] if len(self._typed) < ROOM else [])
            writes = [self.port] if self._out.waiting else []
            if child:
                reads.append(child.pipe)
                if len(self._out.waiting) < ROOM:
                    reads.append(child.fd)
                if child.typed.waiting:
                    writes.append(child.fd)
                    reads = [fd for fd in reads if fd != self.port]
            ready, room, _ = select.select(reads, writes, [], self._pause())
            if self.port in room:
                self._out.flush()
            if self.port in ready:
                self._type(self._read_port())
            if self._reset_line in ready:
                os.read(self._reset_line, 4096)
                self._reset()
                continue
            if child:
                self._serve(child, ready, room)
            self._out.expire()
            now = time.monotonic()
            if self._watchdog and now >= self._watchdog[1] and self._child:
                self._end()
                self._hard("watchdog")
            if self._wake and now >= self._wake:
                self._wake = None
                self._hard("sleep")

    def _serve(self, child: Child, ready: list[int], room: list[int]) -> None:
        if child.fd in room:
            child.typed.flush()
        alive = child.fd not in ready or self._read_child(child)
        self._obey(child)
        if self._child is child and not alive:
            self._end()
            if not self._user:
                # never a board's fault, and it would happen again at once
                sys.exit("MicroPython ended before boot.py: " + repr(bytes(self._held or b"")))
            self._soft()

    def _read_port(self) -> bytes:
        try:
            return os.read(self.port, 4096)
        except OSError:
            return b""

    def _pause(self) -> float | None:
        now = time.monotonic()
        ends = [end for end in (self._watchdog and self._watchdog[1], self._wake) if end]
        if self._out.waiting:
            ends.append(now + _TICK_S)
        return max(0.0, min(ends) - now) if ends else None

    def pull_reset(self) -> None:
        """Have the loop reset the board: safe within a signal handler."""
        os.write(self._reset_pull, b"!")

    def _reset(self) -> None:
        if self._child:
            self._end()
        self._wake = None
        self._hard("hard", STARTS_MS)

    def power_off(self) -> None:
        """The end of the board: nothing of it stays."""
        if self._child:
            self._child.kill()


def main() -> None:
    """Run the board in this process."""
    folder, program, lock = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    bridge = Bridge(folder, program, lock)

    def leave(number: int, frame: FrameType | None) -> None:
        bridge.power_off()
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGUSR1, lambda number, frame: bridge.pull_reset())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    state = {"pid": os.getpid(), "device": bridge.device}
    write_private(folder / "run.json", json.dumps(state).encode())
    print("ready", flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    bridge.run()


if __name__ == "__main__":
    main()

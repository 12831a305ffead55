"""Simulated boards: real MicroPython behind a serial port, its file system on a NOR flash image.

`start`, `find` and `all` give a `SimBoard`. A board is a detached process that survives whoever
started it; its flash, number and settings lie in `sim/NAME/` of the kit's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import boards, micropython, paths
from ..broker.files import try_lock, write_private
from ..errors import NO_BOARD, USAGE, KitError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
DEFAULT_BOARD = "SIM_RP2"
ALONE = Path(__file__).with_name("port") / "alone.py"
_END_S = 10
_POWER = "power.bin"  # layout: port/flash.py
_BACKUP = {"rp2": 28, "esp32": 2048}  # bytes of machine.mem_backup()


@dataclass(frozen=True)
class SimBoard:
    """One simulated board, running or not."""

    name: str
    board: str
    folder: Path

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        lock = try_lock(self.folder / "lock", shared=True)
        if lock is None:
            return True
        os.close(lock)
        return False

    @property
    def device(self) -> Path:
        """Its serial port; `KitError` when it does not run."""
        if not self.running:
            raise KitError(
                f"The simulated board {self.name} does not run; start it with: "
                f"limpet sim start {self.name}",
                NO_BOARD,
            )
        return Path(self._run()["device"])

    @property
    def image(self) -> Path:
        """Its flash, byte by byte."""
        return self.folder / "flash.bin"

    @property
    def wear(self) -> list[int]:
        """How often each sector was erased."""
        data = (self.folder / "wear.bin").read_bytes()
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]

    @property
    def operations(self) -> int:
        """How many flash operations there were: sectors erased and pages programmed."""
        return int.from_bytes((self.folder / _POWER).read_bytes()[:8], "little")

    def cut_power(self, after: int, percent: int = 0, garbled: bool = True) -> None:
        """Have the power fail in the `after`-th flash operation from now (1: the next one).

        `percent` of it are done then; in the rest each bit that was to change may be either, or
        is as before when not `garbled`. The board is off after that. 0: no cut.
        """
        if after < 0 or not 0 <= percent <= 100:
            raise ValueError("after from 0, percent from 0 to 100")
        words = (self.operations + after if after else 0).to_bytes(8, "little")
        with open(self.folder / _POWER, "r+b") as file:
            file.seek(8)
            file.write(words + bytes([percent, garbled]))

    def wait_off(self, timeout_s: float = 10) -> bool:
        """Whether the board is off, or went off within this time."""
        end = time.monotonic() + timeout_s
        while self.running:
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """What the world around the board is like: networks, pins (boards/README.md)."""
        return dict(json.loads((self.folder / "settings.json").read_text()))

    def configure(self, **changes: Any) -> None:
        """Change settings, also while the board runs; None takes one away."""
        new = {**self.settings, **changes}
        kept = {name: value for name, value in new.items() if value is not None}
        write_private(self.folder / "settings.json", json.dumps(kept, indent=2).encode())

    def pull_reset(self) -> bool:
        """Pull the reset line of its serial port; False where the board has none there."""
        if not json.loads((self.folder / "board.json").read_text()).get("reset_line"):
            return False
        os.kill(self._run()["pid"], signal.SIGUSR1)
        return True

    def stop(self) -> None:
        """End it; the flash stays."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Cut its power, whatever it is doing."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.running:
            return
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(self._run()["pid"], number)
        if not self.wait_off(_END_S):
            raise KitError(f"The simulated board {self.name} does not end.")

    def _run(self) -> dict[str, Any]:
        file, end = self.folder / "run.json", time.monotonic() + _END_S
        while not file.exists():
            if time.monotonic() > end:
                raise KitError(f"The simulated board {self.name} does not start.")
            time.sleep(0.01)  # it is being started
        return dict(json.loads(file.read_text()))


def folder() -> Path:
    """Where simulated boards live."""
    return paths.home() / "sim"


def find(name: str) -> SimBoard | None:
    """The board of this name, None when there is none."""
    home = folder() / name
    if not NAME.fullmatch(name) or not (home / "board.json").exists():
        return None
    return SimBoard(name, json.loads((home / "board.json").read_text())["name"], home)


def all() -> list[SimBoard]:
    """Every board there is, running or not."""
    names = sorted(file.parent.name for file in folder().glob("*/board.json"))
    return [board for name in names if (board := find(name))]


def start(name: str, board: str | None = None, new: bool = False) -> SimBoard:
    """Start a board, made at its first start; one that runs already is given back.

    `new` takes a blank flash and a new number. `KitError` for a bad name, or another kind of
    board under this name.
    """
    if not NAME.fullmatch(name):
        raise KitError(f"{name!r} is no name: 1 to 32 of a-z, 0-9 and -, no - first.", USAGE)
    program = micropython.require()
    found = find(name)
    if found and board and found.board != board and not new:
        raise KitError(
            f"{name} is a {found.board}; take another name, or --new for a new board.", USAGE
        )
    if found and found.running:
        if new:
            raise KitError(f"{name} runs; stop it first: limpet sim stop {name}", USAGE)
        return found
    if not found or new:
        found = _make(name, board or (found.board if found else DEFAULT_BOARD))
    return _launch(found, program)


def describe(home: Path, board: str, **settings: Any) -> Path:
    """Write what `port/config.py` reads, `board.json` and `settings.json`, into a folder.

    That is all that `ALONE FOLDER SCRIPT` needs, the port's modules without a board. Returns it.
    """
    definition = boards.load(board)
    if not definition.simulated:
        raise KitError(f"{board} is a real board; simulated ones begin with SIM_.", USAGE)
    home.mkdir(parents=True, mode=0o700, exist_ok=True)
    values = {
        **asdict(definition),
        **definition.sim,
        "unique_id": secrets.token_hex(definition.unique_id),
        "backup": _BACKUP[definition.port],
    }
    (home / "settings.json").write_text(json.dumps(settings))
    write_private(home / "board.json", json.dumps(values, indent=2).encode())
    return home


def _make(name: str, board: str) -> SimBoard:
    flash = boards.load(board).flash
    home = folder() / name
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True, mode=0o700)
    with open(home / "flash.bin", "wb") as image:
        for _ in range(flash.size // flash.sector):
            image.write(b"\xff" * flash.sector)
    (home / "wear.bin").write_bytes(bytes(4 * (flash.size // flash.sector)))
    (home / _POWER).write_bytes(bytes(18))
    describe(home, board)
    return SimBoard(name, board, home)


def _launch(board: SimBoard, program: str) -> SimBoard:
    lock = try_lock(board.folder / "lock")
    if lock is None:
        return board  # somebody else was quicker
    (board.folder / "run.json").unlink(missing_ok=True)  # of a process that is gone
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__name__}.bridge", str(board.folder), program, str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=open(board.folder / "log", "w"),  # noqa: SIM115 - the child's from here on
            start_new_session=True,
            pass_fds=(lock,),
            cwd="/",
        )
    finally:
        os.close(lock)
    assert process.stdout is not None
    with process.stdout:
        if process.stdout.readline() != b"ready\n":
            words = (board.folder / "log").read_text(errors="replace").strip().splitlines()
            raise KitError(f"The simulated board did not start: {words[-1] if words else '?'}")
    return board

"""Writing firmware: esptool as a program for an ESP32, a UF2 file onto the drive of an RP2.

Both can be cut at any point and done again: the boot ROMs they talk to cannot be overwritten.
Not tried on hardware.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .boards import Board
from .console import Advance, printable
from .errors import FAILED, NO_BOARD, NO_SPACE, REFUSED, KitError

_PLACES = ("/media/*/*", "/media/*", "/run/media/*/*", "/Volumes/*", "/mnt/*")
_INFO = "INFO_UF2.TXT"
_NOTHING: Advance = lambda done, total: None  # noqa: E731
_WRONG_CHIP = re.compile(r"This chip is (\S{1,20}),? not (\S{1,20})")
_ATTEMPTS = "4"  # to reach a boot ROM, 2 s each; esptool itself makes seven
_CALM = ("--after", "no-reset")  # a board whose BOOT button was held stays where it is


@dataclass(frozen=True)
class Chip:
    """What an ESP32's boot ROM says: `kind` as in boot.chip, `flash` in bytes (0: not known)."""

    kind: str
    flash: int


def look(port: str, reset: bool = False) -> Chip:
    """Ask the boot ROM of an ESP32; `KitError` (NO_BOARD) when none answers.

    It stops what runs on the board, which waits for firmware afterwards; with `reset` it starts
    again instead, as far as the board lets its port reset it.
    """
    after = () if reset else _CALM
    said = _esptool(["--no-stub", "--port", port, *after, "flash-id"], port)
    found = re.search(r"^Connected to (ESP32[A-Z0-9-]{0,6}) ", said, re.MULTILINE)
    if "Secure Download Mode" in said:
        raise KitError(
            f"The board at {port} is in its secure download mode: a fuse lets it take firmware "
            "only from whoever closed it.",
            REFUSED,
        )
    if not found:
        raise KitError(f"esptool does not say which chip is at {port}.", NO_BOARD)
    size = re.search(r"^Detected flash size: (\d{1,4})(K|M)B", said, re.MULTILINE)
    flash = int(size[1]) << (20 if size[2] == "M" else 10) if size else 0
    return Chip(found[1].lower().replace("-", ""), flash)


def head(port: str, board: Board, size: int = 1024) -> bytes:
    """The first bytes of what is where this board's firmware begins."""
    assert board.boot is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "head"
        where = [hex(board.boot.offset), str(size), str(file)]
        _esptool(["--no-stub", "--port", port, *_CALM, "read-flash", *where], port, board)
        return file.read_bytes()


def esptool(
    board: Board, port: str, file: Path, progress: Advance = _NOTHING, erase: bool = False
) -> None:
    """Write; the chip's own MD5 of what it then holds is compared. `erase` empties it first.

    `port` is a serial port or, for a test, socket://HOST:PORT.
    """
    assert board.boot is not None
    more = ["--erase-all"] if erase else []
    write = ["write-flash", *more, hex(board.boot.offset), str(file)]
    said = _esptool(["--chip", board.boot.chip, "--port", port, *write], port, board, progress)
    if "Hash of data verified" not in said:
        raise KitError(
            f"esptool wrote to {port} and did not read it back. Run the same command again.",
            FAILED,
        )


def drives(kind: str | None = None) -> list[tuple[Path, str]]:
    """Drives of boot ROMs that are there: (folder, the kind it says that it is)."""
    places = [place for pattern in _PLACES for place in Path("/").glob(pattern[1:])]
    if os.name == "nt":
        places = [Path(f"{letter}:\\") for letter in "DEFGHIJKLMNOPQRSTUVWXYZ"]
    found = [(place, board_id(place)) for place in places]
    return [(place, is_a) for place, is_a in found if is_a and kind in (None, is_a)]


def drive(board: Board) -> Path | None:
    """The drive that the board shows in its boot ROM; None when picotool has to do it.

    Raises `KitError` (NO_BOARD) when there is none, or more than one.
    """
    assert board.boot is not None
    found = drives(board.boot.drive)
    if len(found) == 1:
        return found[0][0]
    label = Path("/dev/disk/by-label") / board.boot.drive
    if not found and label.exists():
        if shutil.which("picotool"):
            return None
        raise KitError(
            f"A board is in its boot mode, but its drive {board.boot.drive} is not mounted: "
            f"udisksctl mount -b {label}, and run the same command again.",
            NO_BOARD,
        )
    raise KitError(
        f"{'No' if not found else 'More than one'} drive {board.boot.drive} is there. Plug in "
        f"one board: {board.boot.how}. Or name the drive with --drive.",
        NO_BOARD,
    )


def uf2(board: Board, folder: Path | None, file: Path, progress: Advance = _NOTHING) -> None:
    """Copy the file onto the drive; the board starts it when the last block has arrived.

    Without a folder picotool does it, with a check of what it wrote.
    """
    assert board.boot is not None
    if folder is None:
        _picotool(board, file)
        return
    if board_id(folder) != board.boot.drive:
        raise KitError(
            f"{folder} is not the drive of a {board.name} in its boot mode: {board.boot.how}.",
            REFUSED if (folder / _INFO).exists() else NO_BOARD,
        )
    data = file.read_bytes()
    done = 0
    try:
        with open(folder / "firmware.uf2", "wb", buffering=0) as out:
            while done < len(data):
                done += out.write(data[done : done + 65536])
                progress(done, len(data))
            os.fsync(out.fileno())
    except OSError as e:
        if done < len(data):  # afterwards the drive may go: the board has started
            raise KitError(
                f"Writing to {folder} ended after {done} of {len(data)} bytes: {e.strerror}. The "
                f"board is unharmed: {board.boot.how}, and run the same command again.",
                NO_SPACE if e.errno == errno.ENOSPC else NO_BOARD,
            ) from None


def board_id(folder: Path) -> str:
    """What the boot ROM that shows this drive says that it is; empty when it is no such drive."""
    try:
        text = (folder / _INFO).read_bytes()[:1000].decode("ascii", "replace")
    except OSError:
        return ""
    match = re.search(r"^Board-ID: ([A-Za-z0-9._-]{1,40})\s*$", text, re.MULTILINE)
    return match[1] if match else ""


def _picotool(board: Board, file: Path) -> None:
    assert board.boot is not None
    done = subprocess.run(
        ["picotool", "load", "-v", "-x", str(file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise KitError(
            f"picotool could not finish: {_last(done.stdout)} To go on: {board.boot.how}, and "
            "run the same command again.",
            FAILED,
        )


def _esptool(
    arguments: list[str], port: str, board: Board | None = None, progress: Advance = _NOTHING
) -> str:
    """Run esptool; what it said. Its percentages go to `progress`, its complaint into words."""
    process = subprocess.Popen(
        [sys.executable, "-m", "esptool", "--connect-attempts", _ATTEMPTS, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"},
    )
    said = b""
    try:
        assert process.stdout is not None
        with process.stdout:
            while chunk := process.stdout.read1(4096):  # type: ignore[attr-defined]
                said = (said + chunk)[-20_000:]
                if found := re.findall(rb"(\d{1,3})(?:\.\d)? ?%", chunk):
                    progress(min(int(found[-1]), 100), 100)
    except BaseException:
        process.kill()
        raise
    finally:
        process.wait()
    if process.returncode:
        raise _failed(said, port, board, process.returncode)
    return _plain(said)


def _failed(said: bytes, port: str, board: Board | None, code: int) -> KitError:
    """What esptool's last words mean, and how to go on."""
    if wrong := _WRONG_CHIP.search(_plain(said)):
        is_a, wanted = wrong[1].rstrip("."), wrong[2].rstrip(".")
        return KitError(
            f"The board at {port} has an {is_a} and not an {wanted}; nothing was written. Leave "
            "--board out, and the one that fits is found.",
            REFUSED,
        )
    why = _last(said) if code > 0 else f"it was ended by signal {-code}."
    how = (board.boot and board.boot.how) if board else "hold BOOT while you press EN (reset)"
    lost = re.search("onnect|open|serial port|eceived|timed out", why)
    return KitError(
        f"esptool could not finish on {port}: {why} To go on: {how}, and run the same command "
        "again.",
        NO_BOARD if lost else FAILED,
    )


def _plain(said: bytes) -> str:
    """Text without the escape sequences of a terminal."""
    return re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", said.decode("utf-8", "replace"))


def _last(said: bytes) -> str:
    """The complaint in what a tool said, on one line."""
    lines = [line for line in _plain(said).splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line] or lines
    return printable(errors[-1].strip() if errors else "no reason given.")

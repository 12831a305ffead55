"""Writing firmware: esptool as a program for an ESP32, a UF2 file onto the drive of an RP2.

Both can be cut at any point and done again: the boot ROMs they talk to cannot be overwritten.
Not tried on hardware.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from .boards import Board
from .console import Advance, printable
from .errors import FAILED, NO_BOARD, NO_SPACE, REFUSED, KitError

_PLACES = ("/media/*/*", "/media/*", "/run/media/*/*", "/Volumes/*", "/mnt/*")
_INFO = "INFO_UF2.TXT"


def esptool(board: Board, port: str, file: Path, progress: Advance) -> None:
    """Write and verify; `port` is a serial port or, for a test, socket://HOST:PORT."""
    assert board.boot is not None
    offset = hex(board.boot.offset)
    for action in (["write-flash", offset, str(file)], ["verify-flash", offset, str(file)]):
        _run(board, ["--chip", board.boot.chip, "--port", port, *action], port, progress)


def drive(board: Board) -> Path:
    """The drive that the board shows in its boot ROM; `KitError` (NO_BOARD) when there is none."""
    assert board.boot is not None
    places = [place for pattern in _PLACES for place in Path("/").glob(pattern[1:])]
    if os.name == "nt":
        places = [Path(f"{letter}:\\") for letter in "DEFGHIJKLMNOPQRSTUVWXYZ"]
    found = [place for place in places if _board_id(place) == board.boot.drive]
    if len(found) != 1:
        raise KitError(
            f"{'No' if not found else 'More than one'} drive {board.boot.drive} is there. Plug in "
            f"one board: {board.boot.how}. Or name the drive with --drive.",
            NO_BOARD,
        )
    return found[0]


def uf2(board: Board, folder: Path, file: Path, progress: Advance) -> None:
    """Copy the file onto the drive; the board starts it when the last block has arrived."""
    assert board.boot is not None
    if _board_id(folder) != board.boot.drive:
        raise KitError(
            f"{folder} is not the drive of a {board.name} in its boot mode: {board.boot.how}.",
            REFUSED if (folder / _INFO).exists() else NO_BOARD,
        )
    data = file.read_bytes()
    done = 0
    try:
        with open(folder / file.name, "wb", buffering=0) as out:
            while done < len(data):
                done += out.write(data[done : done + 65536])
                progress(done, len(data))
            os.fsync(out.fileno())
    except OSError as e:
        if done < len(data):  # afterwards the drive may go: the board has started
            raise KitError(
                f"Writing to {folder} ended after {done} of {len(data)} bytes: {e.strerror}. The "
                f"board is unharmed: {board.boot.how}, and run the same command again.",
                NO_SPACE if e.errno == 28 else NO_BOARD,
            ) from None


def _board_id(folder: Path) -> str:
    try:
        text = (folder / _INFO).read_bytes()[:1000].decode("ascii", "replace")
    except OSError:
        return ""
    match = re.search(r"^Board-ID: (\S+)", text, re.MULTILINE)
    return match[1] if match else ""


def _run(board: Board, arguments: list[str], port: str, progress: Advance) -> None:
    """Run esptool; its percentages go to `progress`, its complaint into our sentence."""
    assert board.boot is not None
    process = subprocess.Popen(
        [sys.executable, "-m", "esptool", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
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
        lines = [x for x in said.decode("utf-8", "replace").splitlines() if "rror" in x]
        why = printable(re.sub("\x1b\\[[0-9;]*m", "", lines[-1] if lines else "no reason given"))
        code = NO_BOARD if re.search("onnect|open|serial port", why) else FAILED
        raise KitError(
            f"esptool could not finish on {port}: {why} To go on: {board.boot.how}, and run the "
            "same command again.",
            code,
        )

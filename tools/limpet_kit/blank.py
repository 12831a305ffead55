"""A board without MicroPython: which one it is, what fits it, written, and waited for.

Nothing is written before the image was checked against the board, and nothing over a program that
the person did not give up. Cut at any point, the same call again goes on. Not tried on hardware.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import serial
from serial.tools import list_ports

from . import boards, firmware, flash, ports
from .board import Board
from .boards import Board as Definition
from .console import Console, printable
from .errors import FAILED, NO_BOARD, REFUSED, USAGE, KitError

PROMPT_S = 60.0  # the first start makes a file system
_DRIVE_S = 15.0  # for the drive of a board that was sent into its boot mode
_OLDEST = (1, 23)  # MicroPython that the library runs on
_ABOUT = (
    "import sys,os\ni=sys.implementation\ntry:f=int(os.statvfs('/')[2]>0)\nexcept OSError:f=0\n"
    "print('.'.join(map(str,i[1][:3])),f,getattr(i,'_machine',''),sep='|')"
)

Step = Callable[[str, str], None]  # a step is done: its name, and one line for a person


@dataclass(frozen=True)
class Wish:
    """What the person decided.

    `board` is the name of a definition, None to find the one that fits; `firmware` a file or a
    version; `drive` where an RP2 in its boot mode is mounted. `agreed` is asked before a program
    that is no MicroPython is written over; `erase` empties the whole flash first; `locked` writes
    only firmware that the lock names.
    """

    board: str | None = None
    firmware: str | None = None
    drive: Path | None = None
    agreed: Callable[[str], bool] = lambda question: False
    erase: bool = False
    locked: bool = False


@dataclass(frozen=True)
class About:
    """What a MicroPython says of itself, all of it claims; `files`: its file system is there."""

    version: str
    machine: str
    files: bool


@dataclass(frozen=True)
class Filled:
    """A board that has MicroPython now: what was written, the port where it answers, its words."""

    board: Definition
    file: Path
    port: str
    about: About


def about(board: Board) -> About:
    """Ask a board at its prompt. Raises `KitError` when the answer has another form."""
    found = re.fullmatch(r"(\d{1,3}\.\d{1,3}\.\d{1,3})\|([01])\|(.*)", board.exec(_ABOUT).strip())
    if not found:
        raise KitError(f"The board at {board.port} does not say what it is.", NO_BOARD)
    return About(found[1], printable(found[3], 80), found[2] == "1")


def check(board: Board, wanted: str | None = None) -> About:
    """What a board at its prompt is. Raises `KitError` when the library cannot be put there: too
    old, without files, or with another chip than the board definition `wanted`."""
    said = about(board)
    if wanted and _mcu(said.machine) != _mcu(boards.load(wanted).machine):
        raise KitError(
            f"What answers at {board.port} calls itself {said.machine!r}, which is no {wanted}. "
            "Name the right port, or leave --board out.",
            REFUSED,
        )
    again = f"limpet flash {board.port} --board BOARD"
    if tuple(map(int, said.version.split(".")))[:2] < _OLDEST:
        raise KitError(
            f"The board at {board.port} runs MicroPython {said.version}, and the library needs "
            f"1.23 or later: {again}",
            REFUSED,
        )
    if not said.files:
        raise KitError(
            f"The file system of the board at {board.port} cannot be read ('appears to be "
            f"corrupted', an ESP32 says). Empty the board and begin anew: {again} --erase",
            NO_BOARD,
        )
    return said


def fill(port: str | None, wish: Wish, console: Console, step: Step) -> Filled:
    """Write MicroPython and wait for its prompt, which may come at another port.

    Raises `KitError` as `write` does, and NO_BOARD when no prompt comes.
    """
    before = {found.device for found in list_ports.comports()}
    board, file = write(port, wish, console, step)
    return _wait(port, before, board, file, step)


def write(port: str | None, wish: Wish, console: Console, step: Step) -> tuple[Definition, Path]:
    """Write MicroPython: the board that it was written for, and the file.

    `port` may be missing for an RP2, which in its boot mode is a drive. Raises `KitError`:
    REFUSED for an image that is not for this board, or without leave to write over what is
    there; NO_BOARD when it stops answering.
    """
    wanted = boards.load(wish.board) if wish.board else None
    if (port or "").startswith(ports.SIM) or (wanted and wanted.simulated):
        raise KitError("A simulated board has its MicroPython already.", USAGE)
    device = ports.resolve(port) if port else None
    method = wanted.boot.method if wanted and wanted.boot else None
    there = device if device and ports.is_there(device) else None
    if device and method is None and there is None and not (wish.drive or flash.drives()):
        ports.check(device, port or "")
    if method == "bootsel" or (method is None and there is None):
        return _over_drive(there, wanted, wish, console, step)
    if device is None:
        raise KitError("This board is flashed over a serial port; name it.", USAGE)
    return _over_serial(device, wanted, wish, console, step)


def _over_serial(
    port: str, wanted: Definition | None, wish: Wish, console: Console, step: Step
) -> tuple[Definition, Path]:
    """The way of an ESP32."""
    ports.ready(port, port)
    chip = flash.look(port)
    fits = boards.booting(chip=chip.kind)
    board = wanted or _only(fits, f"an {chip.kind}")
    assert board.boot is not None
    if board.boot.chip != chip.kind:
        raise KitError(
            f"The board at {port} has an {chip.kind}, and {board.name} one an {board.boot.chip}: "
            f"nothing was written. {_names(fits)}",
            REFUSED,
        )
    step("board", f"{chip.kind}, {chip.flash >> 20 or '?'} MiB of flash: {board.name}")
    file, data = _image(board, wish, console, step)
    firmware.check_size(board, data, chip.flash)
    there = b"\xff" if wish.erase else flash.head(port, board)
    if there.strip(b"\xff") and there != data[: len(there)]:
        question = (
            f"There is a program on the board at {port} that does not answer as MicroPython does."
        )
        if not wish.agreed(question):
            raise KitError(f"{question} To write over it, say --yes.", REFUSED)
    with console.progress("write") as progress:
        flash.esptool(board, port, file, progress, wish.erase)
    step("written", f"{len(data)} bytes, and read back")
    return board, file


def _over_drive(
    port: str | None, wanted: Definition | None, wish: Wish, console: Console, step: Step
) -> tuple[Definition, Path]:
    """The way of an RP2: a drive takes the file."""
    if wish.erase:
        raise KitError(
            "The flash of an RP2 is not emptied from here: copy Raspberry Pi's flash_nuke.uf2 "
            "onto its drive by hand, then run this without --erase.",
            USAGE,
        )
    if wanted is None:
        kind = flash.board_id(wish.drive) if wish.drive else _only_drive()
        fits = boards.booting(drive=kind)
        wanted = _only(fits, f"the drive of an {kind or 'unknown board'}")
    file, data = _image(wanted, wish, console, step)
    if port:
        _to_boot_mode(port, wanted, wish)
    folder = wish.drive or flash.drive(wanted)
    with console.progress("write") as progress:
        flash.uf2(wanted, folder, file, progress)
    step("written", f"{len(data)} bytes to {folder or 'the board, by picotool'}")
    return wanted, file


def _image(board: Definition, wish: Wish, console: Console, step: Step) -> tuple[Path, bytes]:
    """The firmware, checked against the board's definition."""
    with console.progress("fetch") as progress:
        file = firmware.obtain(board, wish.firmware, progress, wish.locked)
    data = file.read_bytes()
    firmware.check(board, data)
    step("firmware", f"{file.name} is for a {board.name}")
    return file, data


def _to_boot_mode(port: str, board: Definition, wish: Wish) -> None:
    """An RP2 whose MicroPython answers is sent into its boot mode; nobody presses BOOTSEL."""
    assert board.boot is not None
    with contextlib.suppress(KitError), Board(port) as running:
        running.exec("import machine;machine.bootloader()", timeout_s=2)
    end = time.monotonic() + _DRIVE_S
    while time.monotonic() < end:
        if flash.board_id(wish.drive) if wish.drive else flash.drives(board.boot.drive):
            return
        time.sleep(0.2)


def _only(fits: list[Definition], what: str) -> Definition:
    if len(fits) == 1:
        return fits[0]
    raise KitError(f"This is {what}. {_names(fits)}", USAGE)


def _names(fits: list[Definition]) -> str:
    if not fits:
        return "No board definition fits it; boards/README.md says how to write one."
    names = " or ".join(board.name for board in fits)
    return f"What fits it is {names}; say it with --board."


def _only_drive() -> str:
    kinds = {kind for _, kind in flash.drives()}
    if len(kinds) != 1:
        if not kinds:
            raise KitError(
                "No board is plugged in: no port, and no drive of a board in its boot mode. Does "
                "the cable carry data? To try without a board: limpet up sim",
                NO_BOARD,
            )
        names = [board.name for board in boards.real()]
        raise KitError(f"Say which board it is, with --board: {', '.join(names)}.", USAGE)
    return kinds.pop()


def _wait(port: str | None, before: set[str], board: Definition, file: Path, step: Step) -> Filled:
    """Wait until MicroPython answers, at the same port or at the one that came."""
    end = time.monotonic() + PROMPT_S
    while True:
        found = _candidates(port, before, board)
        for device in found:
            if not _prompts(device):
                continue  # it is still starting, or it is another board
            with Board(device) as opened:
                said = about(opened)
            _confirm(device, said, board, file)
            step("prompt", f"MicroPython {said.version} answers at {device}")
            return Filled(board, file, device, said)
        if time.monotonic() > end:
            raise KitError(
                f"The firmware is written, but no MicroPython answers at {port or 'a new port'} "
                f"within {PROMPT_S:.0f} s. Press the board's reset button, or plug it in again, "
                "then run the same command again.",
                NO_BOARD,
            )
        time.sleep(0.2)


def _prompts(device: str) -> bool:
    """Whether a prompt answers to an empty line.

    Not more than that: a board that starts for the first time makes its file system, and must
    not be interrupted.
    """
    try:
        with serial.Serial(device, 115200, timeout=0.3, exclusive=True) as wire:
            wire.write(b"\r")
            return b">>> " in wire.read_until(b">>> ", 4096)
    except (OSError, ValueError):  # SerialException is an OSError
        return False


def _candidates(port: str | None, before: set[str], board: Definition) -> list[str]:
    """Where the board may be now: a USB board may come back under another name."""
    if port and ports.is_there(port):
        return [port]
    new = [
        found.device
        for found in list_ports.comports()
        if found.device not in before and ports.usb_id(found) in board.usb
    ]
    if len(new) > 1:
        raise KitError(
            f"The firmware is written, but several boards came at once: {', '.join(new)}. Go on "
            "with one of them: limpet up PORT",
            NO_BOARD,
        )
    return new


def _confirm(port: str, said: About, board: Definition, file: Path) -> None:
    """What answers must be what was written, as far as the file's name says it."""
    version = re.search(r"-v(\d+\.\d+(?:\.\d+)?)", file.name)
    if version and said.version != version[1]:
        raise KitError(
            f"At {port} MicroPython {said.version} answers and not {version[1]}: the firmware was "
            "not taken. Run the same command again.",
            FAILED,
        )
    if _mcu(said.machine) != _mcu(board.machine):
        raise KitError(
            f"What answers at {port} calls itself {said.machine!r} and not {board.machine!r}. "
            "Name the right board with --board.",
            FAILED,
        )


def _mcu(machine: str) -> str:
    """`RP2040` of `Raspberry Pi Pico W with RP2040`."""
    return machine.removesuffix(" (simulated)").split(" with ")[-1]

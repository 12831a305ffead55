"""`limpet flash`: MicroPython onto a board."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import boards, firmware, flash
from ..console import Console
from ..errors import OK, USAGE, KitError

HELP = "write MicroPython onto a board: fetched once, pinned by SHA-256, checked before it erases"
EPILOG = """example:  limpet flash /dev/ttyUSB0 --board ESP32_GENERIC
          limpet flash --board RPI_PICO_W           (hold BOOTSEL while plugging it in)
          limpet flash /dev/ttyACM0 --board ESP32_GENERIC_S3 --firmware my-build.bin

Not tried on hardware. Interrupted at any point, the same command again goes on."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("port", metavar="PORT", nargs="?", help="serial port; none for an RP2")
    real = [board.name for board in boards.everyone() if not board.simulated]
    parser.add_argument("--board", choices=real, required=True, metavar="BOARD", help=str(real))
    parser.add_argument(
        "--firmware", metavar="FILE|VERSION", help="(default: the version that the kit names)"
    )
    parser.add_argument(
        "--drive", metavar="DIR", type=Path, help="the drive of an RP2's boot mode"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Flash; returns the exit code."""
    console = Console(args.json)
    board = boards.load(args.board)
    assert board.boot is not None
    if board.boot.method == "esptool" and not args.port:
        raise KitError(f"{board.name} is flashed over a serial port; name it.", USAGE)
    with console.progress("fetch") as progress:
        file = firmware.obtain(board, args.firmware, progress)
    firmware.check(board, file.read_bytes())
    console.line(f"firmware     {file.name} is for a {board.name}")
    with console.progress("write") as progress:
        if board.boot.method == "esptool":
            flash.esptool(board, args.port, file, progress)
        else:
            flash.uf2(board, args.drive or flash.drive(board), file, progress)
    console.line("written      " + ("and read back" if board.boot.method == "esptool" else ""))
    console.line(f"next         limpet up {args.port or 'PORT'}")
    console.result({"ok": True, "board": board.name, "firmware": file.name})
    return OK

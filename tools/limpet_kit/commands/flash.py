"""`limpet flash`: MicroPython onto a board."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .. import blank, boards
from ..console import Console, ask
from ..errors import OK

HELP = "write MicroPython onto a board: fetched once, pinned by SHA-256, checked before it erases"
EPILOG = """examples:
  limpet flash /dev/ttyUSB0                    an ESP32: the board is found by its chip
  limpet flash --board RPI_PICO_W              an RP2 in its boot mode (hold BOOTSEL, plug it in)
  limpet flash /dev/ttyACM0 --board RPI_PICO_W an RP2 with MicroPython goes there by itself
  limpet flash /dev/ttyACM0 --board ESP32_GENERIC_S3 --firmware my-build.bin

Its files stay, also the credential, unless --erase is said. Interrupted at any point, the same
command again goes on. Not tried on hardware."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "port", metavar="PORT", nargs="?", help="serial port; none for an RP2 in its boot mode"
    )
    choice(parser)
    parser.add_argument(
        "--erase",
        action="store_true",
        help="empty the whole flash first: files and credential are lost",
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="do not wait for the prompt (a firmware that has none)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def choice(parser: argparse.ArgumentParser) -> None:
    """The options that say which firmware goes onto which board; `wish` reads them."""
    real = [board.name for board in boards.real()]
    parser.add_argument(
        "--board",
        choices=real,
        metavar="BOARD",
        help=f"which board it is (default: the one that fits), of {', '.join(real)}",
    )
    parser.add_argument(
        "--firmware", metavar="FILE|VERSION", help="(default: the version that the kit names)"
    )
    parser.add_argument(
        "--locked", action="store_true", help="write only firmware that firmware.lock names"
    )
    parser.add_argument(
        "--drive", metavar="DIR", type=Path, help="where the drive of an RP2's boot mode is"
    )


def wish(args: argparse.Namespace, yes: bool, erase: bool = False) -> blank.Wish:
    """What the person decided; unless `yes`, a terminal is asked before a program is lost."""
    return blank.Wish(
        board=args.board,
        firmware=args.firmware,
        drive=args.drive,
        agreed=lambda question: yes or _asked(question),
        erase=erase,
        locked=args.locked,
    )


def run(args: argparse.Namespace) -> int:
    """Flash; returns the exit code."""
    console = Console(args.json)

    def step(name: str, words: str) -> None:
        console.line(f"{name:<12} {words}")

    decided = wish(args, yes=True, erase=args.erase)
    result: dict[str, Any] = {"ok": True}
    if args.no_wait:
        board, file = blank.write(args.port, decided, console, step)
    else:
        done = blank.fill(args.port, decided, console, step)
        board, file = done.board, done.file
        result.update(port=done.port, micropython=done.about.version)
        console.line(f"next         limpet up {done.port}")
    console.result({**result, "board": board.name, "firmware": file.name})
    return OK


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return ask(f"{question} Write over it? [y/N] ").strip().lower() in ("y", "yes")

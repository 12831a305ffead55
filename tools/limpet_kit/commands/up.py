"""`limpet up`: the main job in one go."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from .. import bringup, paths, ports, wifi
from ..console import Console, printable
from ..errors import OK, USAGE, KitError
from ..secret import Secret
from ..wifi import Network
from . import enroll, flash

HELP = "bring a board online: MicroPython, library, credential, application, until its first word"
EPILOG = """examples:
  limpet up sim                      a simulated board, with a broker on this machine
  limpet up /dev/ttyACM0 --name lamp-7
  limpet up /dev/ttyUSB0 --board ESP32_GENERIC     blank: MicroPython is written first
  limpet up --board RPI_PICO_W       held at BOOTSEL while it was plugged in
  limpet up /dev/ttyACM0             on an enrolled board: newer library, same credential"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "port",
        metavar="PORT",
        nargs="?",
        help="a serial port, sim:NAME, or sim for the first simulated board (default: the only "
        "board that is plugged in)",
    )
    enroll.choice(parser)
    flash.choice(parser)
    parser.add_argument("--main", metavar="SKETCH", type=Path, help="your main.py")
    parser.add_argument(
        "--replace-main", action="store_true", help="put our main.py over the board's own"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object last")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)

    def step(name: str, words: str) -> None:
        console.line(f"{name:<12} {words}")

    def arrived(topic: str, payload: bytes) -> None:
        console.line(f"  {topic}  {printable(payload.decode('utf-8', 'replace'))}")

    if args.main and not args.main.is_file():
        raise KitError(f"There is no sketch {args.main}.", USAGE)
    port = bringup.simulated(args.port, step) if args.port else bringup.find()
    for_simulated = port is not None and ports.simulated(ports.resolve(port))
    chosen = bringup.broker(
        args.broker or paths.home() / "broker", for_simulated and not args.broker, step
    )
    plan = enroll.plan(args)
    if for_simulated and not args.wifi and wifi.VARIABLE not in os.environ:
        # Its default world holds any network: nobody has to type one.
        plan = replace(plan, networks=lambda: [Network(b"simulated", Secret(b""))])
    done = bringup.bring_up(
        port,
        chosen,
        plan,
        console,
        step,
        arrived,
        args.main,
        args.replace_main,
        wish=flash.wish(args, args.yes),
    )
    console.line("next         limpet status")
    console.result(
        {
            "ok": True,
            "name": done.unit.name,
            "port": done.port,
            "flashed": done.flashed,
            "enrolled": done.enrolled,
            "files": done.files,
            "default_main": done.our_main and args.main is None,
            "broker": str(chosen.folder),
            "online_s": round(done.online_s, 2),
        }
    )
    return OK

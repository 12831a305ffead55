"""`limpet up`: the main job in one go."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from .. import arrival, bringup, install, kitkey, line, linereport, paths, ports, wifi
from ..console import Console, printable
from ..errors import FAILED, INTERRUPTED, OK, USAGE, KitError
from . import enroll, flash

HELP = "bring a board online: MicroPython, library, credential, application, until its first word"
EPILOG = """examples:
  limpet up sim                      a simulated board, with a broker on this machine
  limpet up /dev/ttyACM0 --name lamp-7
  limpet up /dev/ttyUSB0 --board ESP32_GENERIC     blank: MicroPython is written first
  limpet up --board RPI_PICO_W       held at BOOTSEL while it was plugged in
  limpet up /dev/ttyACM0 --main blink.py --wifi networks.txt     two lines a network: name, key
  limpet up /dev/ttyACM0             on an enrolled board: newer library, same credential
  limpet up --watch --prefix lamp --wifi networks.txt --run batch-7
                                     a production line: each board that is plugged in, until
                                     Ctrl-C; the same command goes on with the run. With
                                     --board RPI_PICO_W also Picos held at BOOTSEL"""


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
    parser.add_argument(
        "--via",
        choices=("mpremote", "ampy"),
        default="mpremote",
        help="what carries the files (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    batch = parser.add_argument_group("a production line")
    batch.add_argument("--watch", action="store_true", help="bring up every board plugged in")
    batch.add_argument(
        "--run",
        dest="run_",
        metavar="DIR",
        type=Path,
        help="the run's folder: its report; goes on with an older one",
    )
    batch.add_argument("--ports", metavar="P,P...", help="these alone, each once, then end")
    batch.add_argument("--count", metavar="N", type=int, help="end after so many boards")
    batch.add_argument(
        "--at-once", metavar="N", type=int, default=4, help="(default: %(default)s)"
    )
    batch.add_argument(
        "--kit-key",
        metavar="FILE",
        type=Path,
        help="the line's own (default: line.key, drawn now)",
    )


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)

    def step(name: str, words: str) -> None:
        console.line(f"{name:<12} {words}")

    def arrived(topic: str, payload: bytes) -> None:
        console.line(f"  {topic}  {printable(payload.decode('utf-8', 'replace'))}")

    if args.main:
        install.check_sketch(args.main)
    if args.watch:
        return _watch(args, console, step)
    if args.kit_key or args.ports or args.run_ or args.count is not None:
        raise KitError("--kit-key, --ports, --run and --count go with --watch.", USAGE)
    plan = enroll.plan(args)
    port = bringup.simulated(args.port, step) if args.port else bringup.find()
    for_simulated = port is not None and ports.simulated(ports.resolve(port))
    chosen = bringup.broker(
        args.broker or paths.home() / "broker", for_simulated and not args.broker, step
    )
    if for_simulated and not args.wifi and wifi.VARIABLE not in os.environ:
        plan = replace(plan, networks=wifi.simulated)
    done = bringup.bring_up(
        port,
        chosen,
        plan,
        console,
        step,
        arrived,
        bringup.Goods(args.main, args.replace_main, args.via == "ampy"),
        args.wait,
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
            "tampered": done.tampered,
            "default_main": done.our_main and args.main is None,
            "broker": str(chosen.folder),
            "online_s": round(done.online_s, 2),
        }
    )
    return OK


def _watch(args: argparse.Namespace, console: Console, step: arrival.Step) -> int:
    """Run a production line until Ctrl-C or its end; returns the exit code."""
    if args.port or args.name or args.replace or args.force:
        raise KitError("--watch goes without PORT, --name, --replace and --force.", USAGE)
    if args.at_once < 1 or (args.count is not None and args.count < 1):
        raise KitError("--at-once and --count are 1 or more.", USAGE)
    chosen = bringup.broker(args.broker or paths.home() / "broker", False, step)
    given = [port for port in (args.ports or "").split(",") if port] or None
    environment = dict(os.environ)
    key = args.kit_key or paths.home() / "line.key"
    kitkey.load(make=True, file=key.absolute())
    environment[kitkey.VARIABLE] = str(key.absolute())
    simulated = given and all(port.startswith(ports.SIM) for port in given)
    if args.wifi or not (args.no_wifi or simulated):
        environment[wifi.VARIABLE] = wifi.text(wifi.networks(args.wifi))
    flashing = ["--locked"]
    for name in ("board", "firmware"):
        if getattr(args, name):
            flashing += [f"--{name}", str(getattr(args, name))]
    options = ["--broker", str(chosen.folder), "--prefix", args.prefix, *flashing]
    options += ["--wait", str(args.wait), "--via", args.via]
    if args.main:
        options += ["--main", str(args.main)]
    for name in ("no_wifi", "replace_main", "yes"):
        if getattr(args, name):
            options.append("--" + name.replace("_", "-"))
    work = line.Run(args.run_ or paths.home() / "line" / time.strftime("%Y-%m-%d-%H%M%S"))
    console.line(f"run          {work.folder}; {len(work.online)} online so far; end with Ctrl-C")

    def told(port: str, record: line.Record | None) -> None:
        if record is None:
            console.line(f"{port:<16} begins")
            return
        linereport.write(work)
        if record.ok and not record.name:
            console.line(f"{port:<16} MicroPython is written; its port is next")
        elif record.ok:
            console.line(f"{port:<16} {record.name} is online, after {record.seconds:.1f} s")
        else:
            console.line(f"{port:<16} SET APART: {record.words}")

    stopped = line.watch(
        work, options, environment, args.at_once, told, given, args.count, flashing
    )
    linereport.write(work)
    console.line(
        f"{len(work.online)} online, {len(work.apart)} set apart, {linereport.rate(work):.0f} "
        f"boards an hour; {work.folder / 'report.html'}"
    )
    console.result(
        {
            "ok": not work.apart,
            "run": str(work.folder),
            "online": sorted(work.online),
            "apart": [{"port": r.port, "code": r.code, "words": r.words} for r in work.apart],
            "boards_an_hour": round(linereport.rate(work), 1),
        }
    )
    if work.apart:
        return FAILED
    return INTERRUPTED if stopped and given else OK

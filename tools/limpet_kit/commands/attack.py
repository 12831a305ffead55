"""`limpet attack`: a device against hostile servers in its broker's place."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import bringup, paths
from ..attack.cases import cases
from ..attack.trial import FELL, HELD, Result, Trial, junit
from ..broker import settings
from ..broker.files import write_private
from ..console import Console, printable
from ..errors import FELL_FOR_IT, OK, USAGE, KitError

HELP = "put hostile servers in the place of a device's broker, and see whether it falls for one"
EPILOG = """examples:
  limpet attack sim:lamp
  limpet attack /dev/ttyACM0 --broker ~/broker --listen 192.168.1.20 --junit attack.xml
  limpet attack sim:lamp --only expired other-name --json

The broker stands still meanwhile and is started again at the end. The board is reset for each
case. Hostile servers listen on loopback; on another address only where --listen names it. The
device must have been enrolled at this broker, but need not run Limpet: any program that logs in
there can be attacked. Nothing here was tried on hardware."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("port", metavar="PORT", help="the device's serial port, or sim:NAME")
    parser.add_argument(
        "--broker", metavar="DIR", type=Path, help="its broker's folder (default: the kit's own)"
    )
    parser.add_argument("--listen", metavar="ADDRESS", help="where, if it is not loopback")
    parser.add_argument("--only", metavar="CASE", nargs="+", help="these cases only")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit XML")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)
    chosen = settings.load(args.broker or paths.home() / "broker")
    trial = Trial(bringup.simulated(args.port, lambda name, words: None), chosen, args.listen)
    chosen_cases = cases(trial.world)
    names = [case.name for case in chosen_cases]
    unknown = set(args.only or ()) - set(names)
    if unknown:
        raise KitError(
            f"There is no case {', '.join(sorted(unknown))}; there are {', '.join(names)}.", USAGE
        )
    results: list[Result] = []
    with trial.place():
        took = trial.control()
        console.line(f"ok         {'honest server':14} logged in after {took:.1f} s")
        for case in chosen_cases:
            if not args.only or case.name in args.only:
                results.append(trial.run(case))
                _show(console, results[-1])
    held = all(one.verdict == HELD for one in results)
    if args.junit:
        write_private(args.junit, junit(results).encode())
    console.result({"ok": held, "control_s": took, "cases": [one.as_dict() for one in results]})
    return OK if held else FELL_FOR_IT


def _show(console: Console, one: Result) -> None:
    mark = {HELD: "ok", FELL: "FELL"}.get(one.verdict, "NOT TRIED")
    back = f"back after {one.back_s:.1f} s" if one.back_s is not None else "not back"
    console.line(f"{mark:10} {one.case:14} {one.words}; {one.why or back}")
    if one.log:
        console.line(f"{'':25} it says: {printable(one.log, 120)}")

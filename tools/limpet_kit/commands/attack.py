"""`limpet attack`: a device against hostile servers in its broker's place."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import bringup, paths
from ..attack.cases import Case
from ..attack.result import FELL, HELD, Result, junit
from ..attack.trial import STAY_S, Trial
from ..broker import settings
from ..broker.files import refuse_no_folder, write_private
from ..console import Console, printable, seconds
from ..errors import FELL_FOR_IT, OK, USAGE, KitError
from ..interrupt import like_ctrl_c

HELP = "put hostile servers in the place of a device's broker, and see whether it falls for one"
EPILOG = """examples:
  limpet attack sim:lamp
  limpet attack /dev/ttyACM0 --broker ~/broker --listen 192.168.1.20 --junit attack.xml
  limpet attack sim:lamp --only expired other-name --json
  limpet attack sim:mine --account lamp        a program of your own that logs in as lamp

The broker stands still meanwhile. At the end, also after Ctrl-C, it runs again, and so does the
device's program, without a wait that a refusal began. The board is reset for each case; a case
takes at most four minutes, all of them about three on a device that behaves. Hostile servers
listen on loopback; on another address only where --listen names it.

Only logins of this device count: of a unit of the kit's ledger, or of the account that is named.
It need not run Limpet: any program that logs in at this address can be attacked. Time servers lie
to simulated boards only. Nothing here was tried on hardware."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("port", metavar="PORT", help="the device's serial port, or sim:NAME")
    parser.add_argument(
        "--broker", metavar="DIR", type=Path, help="its broker's folder (default: the kit's own)"
    )
    parser.add_argument("--listen", metavar="ADDRESS", help="where, if it is not loopback")
    parser.add_argument(
        "--account", metavar="NAME", help="its user name or client id, for one not enrolled by us"
    )
    parser.add_argument(
        "--stay",
        metavar="SECONDS",
        type=seconds,
        default=STAY_S,
        help="of a server that must not be trusted, after the device's first try: for a program "
        "that then tries again without checking (default: %(default).0f)",
    )
    parser.add_argument("--only", metavar="CASE", nargs="+", help="these cases only")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit XML")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)
    refuse_no_folder(args.junit)
    chosen = settings.load(args.broker or paths.home() / "broker")
    port = bringup.simulated(args.port, lambda name, words: None)
    results: list[Result] = []
    trial = Trial(port, chosen, args.listen, args.account, console.warn, args.stay)
    with like_ctrl_c(), trial:
        wanted = _chosen(args.only, trial.cases())
        with console.progress("honest server"):
            took = trial.control()
        console.line(f"ok         {'honest server':14} logged in after {took:.1f} s")
        for number, case in enumerate(wanted):
            with console.progress(f"{number + 1} of {len(wanted)}: {case.name}") as advance:
                advance(number, len(wanted))
                results.append(trial.run(case))
            _show(console, results[-1])
    held = all(one.verdict == HELD for one in results)
    if args.junit:
        write_private(args.junit, junit(results).encode())
    console.result({"ok": held, "control_s": took, "cases": [one.as_dict() for one in results]})
    return OK if held else FELL_FOR_IT


def _chosen(only: list[str] | None, every: list[Case]) -> list[Case]:
    names = [case.name for case in every]
    unknown = set(only or ()) - set(names)
    if unknown:
        raise KitError(
            f"There is no case {', '.join(sorted(unknown))}; there are {', '.join(names)}.", USAGE
        )
    return [case for case in every if not only or case.name in only]


def _show(console: Console, one: Result) -> None:
    mark = {HELD: "ok", FELL: "FELL"}.get(one.verdict, "NOT TRIED")
    back = f"back after {one.back_s:.1f} s" if one.back_s is not None else "not back"
    why = f"; {printable(one.why, 120)}" if one.why else ""
    console.line(f"{mark:10} {one.case:14} {back:19} {one.words}{why}")
    console.line(f"{'':25} it sent: {one.sent}")
    if one.log:
        console.line(f"{'':25} it says: {printable(one.log, 120)}")

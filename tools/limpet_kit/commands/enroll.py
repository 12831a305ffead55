"""`limpet enroll`: give a board that carries the library a credential of its own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .. import arrival, enrolment, install, paths, wifi
from ..board import Board, going_on
from ..broker import accounts, settings
from ..console import Console, ask
from ..errors import OK, USAGE, KitError
from ..ledger import REGISTERED, Ledger
from . import wait

HELP = "write a credential of its own into a board, over its cable"
EPILOG = """\
example:  limpet enroll /dev/ttyACM0 --name lamp-1
          limpet enroll sim:bench --name lamp-2 --no-wifi

The library has to be on the board: limpet up does all of it in one go.
Wi-Fi networks, several in order, come from --wifi FILE (mode 0600; - is stdin), from LIMPET_WIFI,
or are asked for without echo; as text, each is two lines: name, key. A run that was cut goes on
where it was. What the kit must not lose: kit.key and ledger.db in its own folder."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("port", metavar="PORT", help="device path of the board, or sim:NAME")
    choice(parser)
    parser.add_argument(
        "--no-start", action="store_true", help="do not start the board and wait for its login"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def choice(parser: argparse.ArgumentParser) -> None:
    """The options that say as what a board is enrolled; `plan` reads them."""
    parser.add_argument("--name", help="the device's name (default: unit-1, unit-2 ...)")
    parser.add_argument(
        "--prefix", default="unit", help="of a name that is drawn (default: %(default)s)"
    )
    parser.add_argument(
        "--replace", metavar="NAME", help="take the place of this unit, whose account ends"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before something is lost")
    parser.add_argument(
        "--force",
        action="store_true",
        help="take over a board of another ledger; begin a cut enrolment anew",
    )
    login(parser)


def login(parser: argparse.ArgumentParser) -> None:
    """The options that say where a board logs in, over which network, and for how long it may
    try."""
    parser.add_argument(
        "--broker", metavar="DIR", type=Path, help="the broker's folder (default: the kit's own)"
    )
    parser.add_argument("--wifi", metavar="FILE", help="networks and keys, mode 0600; - for stdin")
    parser.add_argument("--no-wifi", action="store_true", help="the board is on a cable")
    wait(parser, arrival.ONLINE_S, "for the login")


def plan(args: argparse.Namespace) -> enrolment.Plan:
    """What the person decided, checked as far as it can be; asks before a unit is replaced.

    Networks that lie ready are read at once, so that what is wrong with them is told before
    anything is written; a person at the terminal is asked only when a board needs them.
    """
    if args.name:
        accounts.device_acl(args.name)  # refuses what cannot be a name
    given: Callable[[], list[wifi.Network]] = wifi.networks
    if args.wifi or wifi.VARIABLE in os.environ:
        read = wifi.networks(args.wifi)
        given = lambda: read  # noqa: E731
    if args.replace and not args.yes:
        _confirm(args.replace)
    return enrolment.Plan(
        networks=given,
        name=args.name,
        replace=args.replace,
        force=args.force,
        wired=args.no_wifi,
        prefix=args.prefix,
    )


def steps(console: Console) -> arrival.Step:
    """What prints the steps of an enrolment."""

    def step(name: str, words: str) -> None:
        console.line(f"  {name:<11} {words}")

    return step


def run(args: argparse.Namespace) -> int:
    """Enrol; returns the exit code."""
    console = Console(args.json)
    chosen = settings.load(args.broker or paths.home() / "broker")
    decided = plan(args)

    step = steps(console)
    with Ledger() as ledger, Board(args.port) as board, going_on(board):
        board.calm(install.harmless())
        unit = enrolment.enroll(board, ledger, chosen, decided, step)
        if not args.no_start:
            unit = enrolment.activate(board, ledger, chosen, unit, step, args.wait)
        account = ledger.account(unit.vault)
    if unit.state == REGISTERED:
        console.line(f"{unit.name} is enrolled. It has not logged in yet.")
    else:
        console.line(f"{unit.name} is enrolled and online.")
    console.result(
        {"ok": True, "name": unit.name, "state": unit.state, "account": account, "port": args.port}
    )
    return OK


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise KitError(f"To replace {name} without being asked, say --yes.", USAGE)
    if ask(f"The account of {name} will end. To go on, type its name: ").strip() != name:
        raise KitError("Nothing was replaced.", USAGE)

"""`limpet wipe`: a device forgets its credential, by cable or over the link."""

from __future__ import annotations

import argparse
import sys

from .. import changes, paths, protocol, registry
from ..board import Board, going_on
from ..broker import settings
from ..broker.client import KitClient
from ..console import Console, ask
from ..enrolment import NoLibrary, held, look
from ..errors import OK, USAGE, KitError
from ..ledger import Ledger, Unit
from . import rotate

HELP = "have a device forget its credential, and end its account"
EPILOG = """examples:
  limpet wipe lamp-1                       over the link, when it is online
  limpet wipe --port /dev/ttyACM0          by cable, whatever is on the board

Nothing under cmd/ can wipe a device; only the kit that enrolled it, or a cable."""

_VAULT = "/.limpet"  # the library's folder for credentials


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    rotate.targets(parser)
    parser.set_defaults(receive=protocol.RECEIVE)
    parser.add_argument("--port", metavar="PORT", help="the board on this cable")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    if args.port:
        if args.device or args.all:
            raise KitError("Name devices or a port, not both.", USAGE)
        return _by_cable(args)
    with Ledger() as ledger:
        chosen = settings.load(args.broker or paths.home() / "broker")
        units = rotate.select(ledger, chosen, args)
        _confirm(args, [unit.name for unit in units])
        return rotate.exchange(ledger, [chosen], units, args, changes.WIPE, _name)


def _name(unit: Unit) -> protocol.Fields:
    return [(protocol.NAME, unit.name.encode())]


def _by_cable(args: argparse.Namespace) -> int:
    """The account goes first: whatever is cut, no account outlives its unit."""
    console = Console(args.json)
    with Ledger() as ledger, Board(args.port) as board, going_on(board):
        try:
            hello = look(board)
        except NoLibrary:
            if board.names(_VAULT):
                raise
            console.line(f"The board at {args.port} holds no credential: nothing to wipe.")
            console.result({"ok": True, "name": None, "port": args.port})
            return OK
        unit = held(ledger, hello)
        if unit and unit.alert:
            console.warn(unit.alert)
        _confirm(args, [unit.name if unit else "the board"])
        if unit:
            ledger.retire(unit)
            for broker in changes.brokers_of(ledger, unit):
                chosen = settings.load(ledger.broker_folder(broker))
                if registry.sync(ledger, chosen):
                    with KitClient(chosen) as client:
                        client.clear(unit.name, changes.RETAINED_S)
            console.line(f"the account of {unit.name} has ended")
        board.call("limpet.enroll", "wipe", timeout_s=60)
        if hello.slots:
            console.line(f"the board at {args.port} holds no credential any more")
        else:
            console.line(f"the board at {args.port} held no credential that could be read")
    console.result({"ok": True, "name": unit.name if unit else None, "port": args.port})
    return OK


def _confirm(args: argparse.Namespace, names: list[str]) -> None:
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise KitError("To wipe without being asked, say --yes.", USAGE)
    ends = f"This ends the credential of {', '.join(names)}; each must be enrolled anew by cable."
    if ask(f"{ends}\nTo go on, type wipe: ").strip() != "wipe":
        raise KitError("Nothing was wiped.", USAGE)

"""`limpet ledger rename`: another name for a unit, over its cable.

A name stands in the board's sealed record, in its topics and in its account's rights, so another
one is a new credential: the unit takes its own place, and nothing is gone before that works.
"""

from __future__ import annotations

import argparse

from .. import enrolment, install, paths
from ..board import Board, going_on
from ..broker import settings
from ..console import Console
from ..errors import ENROLLED, OK, USAGE, KitError
from ..ledger import Ledger, Unit
from . import enroll


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options, by the names by which `enroll.plan` reads them."""
    parser.add_argument("replace", metavar="NAME", help="what it is called now")
    parser.add_argument("name", metavar="NEW", help="what it is to be called")
    parser.add_argument("port", metavar="PORT", help="device path of the board, or sim:NAME")
    enroll.login(parser)
    parser.set_defaults(yes=True, force=False, prefix="")


def run(console: Console, ledger: Ledger, old: Unit, args: argparse.Namespace) -> int:
    """Do it, or go on where it was cut; the exit code. `old` is the unit as it is called."""
    if args.name == old.name:
        raise KitError(f"It is called {old.name} already.", USAGE)
    chosen = settings.load(args.broker or paths.home() / "broker")
    plan, step = enroll.plan(args), enroll.steps(console)
    with Board(args.port) as board, going_on(board):
        board.calm(install.harmless())
        found = enrolment.held(ledger, enrolment.look(board))
        if not found or (found.vault != old.vault and not _was_cut(found, old, args.name)):
            is_what = found.name if found else "no unit of this ledger"
            raise KitError(
                f"The board at {args.port} is {is_what}, not {old.name}. Nothing was changed.",
                ENROLLED,
            )
        unit = enrolment.enroll(board, ledger, chosen, plan, step)
        unit = enrolment.activate(board, ledger, chosen, unit, step, args.wait)
    console.line(f"{old.name} is {unit.name} now, and online.")
    console.result({"ok": True, "name": unit.name, "was": old.name, "port": args.port})
    return OK


def _was_cut(found: Unit, old: Unit, new: str) -> bool:
    """Whether the board carries the new name already, and the old one has not gone yet."""
    return found.name == new and found.replaces == old.vault

"""`limpet ledger`: the units that were enrolled, and what was left unfinished."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from .. import protocol
from ..console import Console
from ..errors import FAILED, OK, REFUSED, KitError
from ..ledger import NEW, Ledger, Unit

HELP = "list the enrolled units, and give up enrolments that were cut"
EPILOG = "example:  limpet ledger list && limpet ledger show lamp-1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, words: str, example: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(
            name,
            help=words,
            description=words,
            epilog=f"example:  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    listed = action("list", "all units", "limpet ledger list")
    listed.add_argument("--all", action="store_true", help="also those that were replaced")
    action("show", "all about one unit", "limpet ledger show lamp-1").add_argument("name")
    dropped = action(
        "drop",
        "give up an enrolment that was cut before it had an account at the broker",
        "limpet ledger drop lamp-1",
    )
    dropped.add_argument("name", nargs="?", help="(default: all of them)")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)
    with Ledger() as ledger:
        if args.action == "list":
            return _list(console, ledger.units(gone=args.all))
        if args.action == "show":
            return _show(console, ledger, _named(ledger, args.name))
        return _drop(console, ledger, args.name)


def describe(unit: Unit) -> str:
    """Name, state and kind of board in one line."""
    state = unit.state + (" (takes another's place)" if unit.replaces else "")
    return f"{unit.name:<20} {state:<12} {unit.machine}"


def record(ledger: Ledger, unit: Unit) -> dict[str, Any]:
    """A unit as JSON: its columns, its account where it has one, times as UTC."""
    found: dict[str, Any] = asdict(unit)
    found["source"] = protocol.SOURCES[unit.source][0]
    found["account"] = ledger.account(unit.vault)
    for key in ("created", "changed"):
        found[key] = when(found[key])
    return found


def when(seconds: int) -> str:
    """Seconds since 1970 as UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _list(console: Console, units: list[Unit]) -> int:
    for unit in units:
        console.line(describe(unit))
    if not units:
        console.line("No unit yet. Enrol one with: limpet up PORT")
    console.result([asdict(unit) for unit in units])
    return OK


def _show(console: Console, ledger: Ledger, unit: Unit) -> int:
    found = record(ledger, unit)
    for key, value in found.items():
        if value is not None:
            console.line(f"{key:<12} {value}")
    console.result(found)
    return OK


def _drop(console: Console, ledger: Ledger, name: str | None) -> int:
    units = [_named(ledger, name)] if name else [u for u in ledger.units() if u.state == NEW]
    for unit in units:
        if unit.state != NEW:
            raise KitError(
                f"{unit.name} has an account at its broker; end that with: limpet revoke "
                f"{unit.name}",
                REFUSED,
            )
        ledger.drop(unit)
        console.line(f"The enrolment of {unit.name} is given up.")
    if not units:
        console.line("Nothing was left unfinished.")
    console.result({"ok": True, "dropped": [unit.name for unit in units]})
    return OK


def _named(ledger: Ledger, name: str) -> Unit:
    unit = ledger.named(name)
    if unit is None:
        raise KitError(f"There is no unit {name}. `limpet ledger list` shows all.", FAILED)
    return unit

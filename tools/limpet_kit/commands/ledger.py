"""`limpet ledger`: the units that were enrolled, and what was left unfinished."""

from __future__ import annotations

import argparse
import csv
import io
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import kitkey, protocol
from ..broker.files import refuse_no_folder, write_private
from ..console import Console, csv_cell
from ..errors import OK, REFUSED, USAGE, KitError
from ..ledger import NEW, Ledger, Unit
from . import action as add_action
from . import rename

HELP = "list the enrolled units, give up what was cut, clear alerts"
EPILOG = "example:  limpet ledger list && limpet ledger show lamp-1"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, words: str, example: str) -> argparse.ArgumentParser:
        sub = add_action(actions, name, words, example)
        sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    listed = action("list", "all units", "limpet ledger list")
    listed.add_argument("--all", action="store_true", help="also those that were replaced")
    action("show", "all about one unit", "limpet ledger show lamp-1").add_argument("name")
    exported = action("export", "all units as a table", "limpet ledger export units.csv")
    exported.add_argument("file", metavar="FILE", type=Path, help="a CSV file to be made")
    backup = action("backup", "a copy of the ledger", "limpet ledger backup ledger-copy.db")
    backup.add_argument("file", metavar="FILE", type=Path, help="a file to be made")
    action(
        "clear", "take a unit's alert away, once its cause is known", "limpet ledger clear lamp-1"
    ).add_argument("name")
    taken = action(
        "import", "take the units of a copy that are not here", "limpet ledger import copy.db"
    )
    taken.add_argument("file", metavar="FILE", type=Path, help="what `ledger backup` made")
    rename.arguments(
        action(
            "rename",
            "give a unit another name, over its cable",
            "limpet ledger rename unit-3 lamp-3 /dev/ttyACM0 --wifi networks.txt",
        )
    )
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
        if args.action == "export":
            return _export(console, ledger, args.file)
        if args.action == "import":
            return _import(console, ledger, args.file)
        if args.action == "backup":
            return _backup(console, ledger, args.file)
        if args.action == "clear":
            return _clear(console, ledger, _named(ledger, args.name))
        if args.action == "rename":
            return rename.run(console, ledger, _named(ledger, args.replace), args)
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
    if unit.older:
        found.update(alert=unit.alert, older_at=when(unit.older_at))
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


def _export(console: Console, ledger: Ledger, file: Path) -> int:
    """A CSV file; cells that a spreadsheet would take for a formula get a quote before them."""
    free(file)
    units = ledger.units(gone=True)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([field.name for field in fields(Unit)])
    for unit in units:
        values = {**asdict(unit), "source": protocol.SOURCES[unit.source][0]}
        values.update(created=when(unit.created), changed=when(unit.changed))
        table.writerow([csv_cell(value) for value in values.values()])
    write_private(file, text.getvalue().encode())
    console.line(f"{len(units)} units are in {file}. No secret is in it.")
    console.result({"ok": True, "units": len(units), "file": str(file)})
    return OK


def _backup(console: Console, ledger: Ledger, file: Path) -> int:
    free(file)
    ledger.backup(file)
    console.line(f"{file} is a copy. No secret is in it; the kit key needs a backup of its own:")
    console.line(f"  {kitkey.path()}")
    console.result({"ok": True, "file": str(file)})
    return OK


def _clear(console: Console, ledger: Ledger, unit: Unit) -> int:
    ledger.clear(unit)
    console.line(f"The alert of {unit.name} is cleared." if unit.alert else "There was no alert.")
    console.result({"ok": True, "name": unit.name, "cleared": bool(unit.alert)})
    return OK


def _import(console: Console, ledger: Ledger, file: Path) -> int:
    if not file.is_file():
        raise KitError(f"There is no file {file}.", USAGE)
    names = ledger.take(file)
    console.line(f"{len(names)} units were taken: {', '.join(names) or 'all were here already'}")
    console.line("Their kit key is not in it: bring that back from its own backup.")
    console.result({"ok": True, "units": names})
    return OK


def free(file: Path) -> None:
    """See that `file` can be made and is not there yet."""
    refuse_no_folder(file)
    if file.exists():
        raise KitError(f"{file} is there already; nothing was written.", USAGE)


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
        raise KitError(f"There is no unit {name}. `limpet ledger list` shows all.", USAGE)
    return unit

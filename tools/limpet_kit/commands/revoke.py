"""`limpet revoke`: a device is out of its broker at once, its live session too."""

from __future__ import annotations

import argparse
import time

from .. import registry
from ..broker import settings
from ..broker.client import KitClient
from ..console import Console
from ..errors import NO_BROKER, OK, USAGE, KitError
from ..ledger import ACTIVE, REVOKED, Ledger, Unit

HELP = "lock a device out: its accounts end and its live session is closed"
EPILOG = """examples:
  limpet revoke lamp-1
  limpet revoke lamp-1 --undo       the same credential counts again

There is no list for devices or brokers to fetch: a line leaves the broker's file. Revoke whatever
is lost or stolen; for a board that is at hand, limpet wipe also clears its flash."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("device", metavar="DEVICE", nargs="+", help="names of devices")
    parser.add_argument("--undo", action="store_true", help="let them in again")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)
    began = time.monotonic()
    with Ledger() as ledger:
        units = [_named(ledger, name, args.undo) for name in args.device]
        for unit in units:
            if args.undo:
                ledger.let_in(unit)
            else:
                ledger.revoke(unit)
        taken = [_tell(ledger, broker, units, args.undo) for broker in {u.broker for u in units}]
    took = time.monotonic() - began
    for unit in units:
        console.line(f"{unit.name} {'may log in again' if args.undo else 'is revoked'}")
    if all(taken):
        console.line(f"the broker took it after {took:.2f} s; a live session ends at once")
    console.result(
        {"ok": all(taken), "devices": [unit.name for unit in units], "seconds": round(took, 3)}
    )
    if not all(taken):
        raise KitError("The broker does not run; it will know when it is started.", NO_BROKER)
    return OK


def _named(ledger: Ledger, name: str, undo: bool) -> Unit:
    unit = ledger.named(name)
    if unit is None or unit.state not in ((REVOKED,) if undo else (ACTIVE, REVOKED)):
        what = "let in again" if undo else "revoked"
        raise KitError(
            f"There is no unit {name} that could be {what}. `limpet ledger list` shows all.", USAGE
        )
    return unit


def _tell(ledger: Ledger, broker: str, units: list[Unit], undo: bool) -> bool:
    """Sync one broker and clear what it retains of the units; whether it runs."""
    chosen = settings.load(ledger.broker_folder(broker))
    if not registry.sync(ledger, chosen):
        return False
    if not undo:
        with KitClient(chosen) as client:
            for unit in units:
                if unit.broker == broker:
                    for branch in ("state", "kit/set", "kit/ack"):
                        client.publish(f"limpet/{unit.name}/{branch}", b"", retain=True)
    return True

"""`limpet revoke`: a device is out of its broker at once, its live session too."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack, suppress

from .. import changes, registry
from ..broker import server, settings
from ..broker.client import KitClient
from ..console import Console
from ..errors import NO_BROKER, OK, USAGE, KitError
from ..ledger import ACTIVE, PROVED, REGISTERED, REVOKED, Ledger, Unit

HELP = "lock a device out: its accounts end and its live session is closed"
EPILOG = """examples:
  limpet revoke lamp-1
  limpet revoke lamp-1 --undo       the same credential counts again

There is no list for devices or brokers to fetch: a line leaves the broker's file. Revoke whatever
is lost or stolen; for a board that is at hand, limpet wipe also clears its flash."""

_STATE_S = 2.0  # for what the broker has retained to arrive


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
        units = [unit for name in args.device for unit in _named(ledger, name, args.undo)]
        if args.undo and (lost := [unit.name for unit in units if unit.profile == "psk"]):
            raise KitError(
                f"The shared key of {', '.join(lost)} was erased when it was revoked. Enrol it "
                f"again by cable: limpet up PORT --replace {lost[0]}",
                USAGE,
            )
        for unit in units:
            if args.undo:
                ledger.let_in(unit)
            else:
                ledger.revoke(unit)
        at: dict[str, set[str]] = {}  # a unit that is being moved has accounts at two brokers
        for unit in units:
            for broker in changes.brokers_of(ledger, unit):
                at.setdefault(broker, set()).add(unit.name)
        taken, yours = [], set[str]()
        for broker, names in at.items():
            try:  # what is wrong at one of them keeps nobody in at the other
                taken.append(_tell(ledger, broker, names, args.undo))
                if settings.load(ledger.broker_folder(broker)).given:
                    for unit in units:
                        yours |= ledger.logins(unit.vault, broker)
            except KitError as e:
                console.warn(str(e))
                taken.append(None)
    took = time.monotonic() - began
    live = {name for done in taken if done for name in done}
    every = list(dict.fromkeys(unit.name for unit in units))
    for name in every:
        if args.undo:
            console.line(f"{name} may log in again")
        else:
            session = "; its live session is closed" if name in live else ""
            console.line(f"{name} is revoked{session}")
    if args.undo:
        console.line(
            "A device that was refused meanwhile waits before its next try: an hour after the "
            "first refusal, later up to a day, over resets too. Have it try now, by cable: "
            "limpet up PORT"
        )
    running, listed = None not in taken, ", ".join(sorted(yours))
    if running and not yours:
        console.line(f"the broker took it after {took:.2f} s")
    console.result(
        {
            "ok": running and not (yours and not args.undo),
            "yours": sorted(yours),
            "devices": every,
            "live": sorted(live),
            "seconds": round(took, 3),
        }
    )
    if yours and args.undo:
        console.warn(f"Let it in again at your broker: {listed}")
    elif yours:
        raise KitError(
            f"Remove its account at your broker: {listed}. Until then it can log in.", NO_BROKER
        )
    if not running:
        raise KitError("The broker does not run; it will know when it is started.", NO_BROKER)
    return OK


def _named(ledger: Ledger, name: str, undo: bool) -> list[Unit]:
    """All that could log in under this name: also one that was never seen online, and one that is
    to take its place."""
    states = (REVOKED,) if undo else (PROVED, REGISTERED, ACTIVE, REVOKED)
    units = [unit for unit in ledger.enrolments(name) if unit.state in states]
    if not units:
        what = "let in again" if undo else "revoked"
        raise KitError(
            f"There is no unit {name} that could be {what}. `limpet ledger list` shows all.", USAGE
        )
    return units


def _tell(ledger: Ledger, broker: str, names: set[str], undo: bool) -> set[str] | None:
    """Sync one broker and clear what it retains of the units of these names.

    The units that were online there until now; None when it does not run.
    """
    chosen = settings.load(ledger.broker_folder(broker))
    if undo or not server.open_broker(chosen).running():
        return set() if registry.sync(ledger, chosen) else None
    with ExitStack() as stack:
        client, live = None, set()
        with suppress(KitError):  # whatever it is, revoking comes first
            client = stack.enter_context(KitClient(chosen))
            states = client.retained("limpet/+/state", _STATE_S)
            live = {
                name for name in names if b'"online"' in states.get(f"limpet/{name}/state", b"")
            }
        if not registry.sync(ledger, chosen, at_once=True):
            return None
        for name in names:
            for branch in ("state", "kit/set", "kit/ack"):
                if client:
                    client.publish(f"limpet/{name}/{branch}", b"", retain=True)
    return live

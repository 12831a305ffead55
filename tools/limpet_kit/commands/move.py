"""`limpet broker move`: devices log in at another broker, each with a new account there."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import arrival, boards, changes, destination, protocol
from ..broker import given, keyed, server, settings
from ..broker.client import KitClient
from ..broker.settings import Settings
from ..console import Console
from ..errors import NO_BROKER, REFUSED, USAGE, KitError
from ..ledger import ACTIVE, Ledger, Unit
from . import rotate, wait

HELP = "have devices log in at another broker, over the link"
EXAMPLE = """limpet broker move ~/broker ~/cluster   (back: limpet broker move ~/cluster ~/broker)

A device tries the other broker and keeps it only if it works; its account at the old one
ends then. One that is off moves when it is back. Both brokers must run. Run the same command
again to finish: nothing is lost by stopping."""
WAIT_S = 60.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("source", metavar="FROM", type=Path, help="the broker's folder")
    parser.add_argument("target", metavar="TO", type=Path, help="the other broker's folder")
    parser.add_argument(
        "--device", metavar="NAME", nargs="+", help="only these (default: all that are there)"
    )
    wait(parser, WAIT_S, "for the devices")
    rotate.room(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    source, target = settings.load(args.source), settings.load(args.target)
    if source.kit == target.kit:
        raise KitError("FROM and TO are the same broker; there is nothing to move.", USAGE)
    way = f"{source.kit} {target.kit}"
    with Ledger() as ledger:
        for chosen in (source, target):
            ledger.know_broker(chosen.kit, chosen.folder, chosen.server)
        console = Console(args.json)
        arrival.late(ledger, source, lambda _, words: console.line(words))
        units = _chosen(ledger, source, target, way, args.device)
        _may_move(ledger, [unit for unit in units if unit.broker == source.kit], target)

        def fields(unit: Unit) -> protocol.Fields:
            return [
                (protocol.PROFILE, bytes([protocol.PROFILES[target.profile]])),
                *_destination(unit, target),
                (protocol.NO_PINS, b"\1"),  # they are of the old broker's keys
            ]

        code = rotate.exchange(ledger, [source, target], units, args, changes.MOVE, fields, way)
        if server.open_broker(source).running():
            _tidy(source, {unit.name for unit in ledger.units() if unit.broker == target.kit})
    return code


def _chosen(
    ledger: Ledger, source: Settings, target: Settings, way: str, names: list[str] | None
) -> list[Unit]:
    """The units to move, and those that have moved and left something behind."""
    active = [unit for unit in ledger.units() if unit.state == ACTIVE]
    for name in names or ():
        if name not in {u.name for u in active if u.broker in (source.kit, target.kit)}:
            raise KitError(
                f"There is no unit {name} at the broker of {source.folder} that was online. "
                "`limpet ledger list` shows all.",
                USAGE,
            )
    begun = {c.vault for c in ledger.changes() if c.detail == way and not c.settled}
    return [
        unit
        for unit in active
        if (names is None or unit.name in names)
        and (unit.broker == source.kit or (unit.broker == target.kit and unit.vault in begun))
    ]


def _tidy(source: Settings, moved: set[str]) -> None:
    """Have the old broker keep nothing of these devices; their last wills were said by now.

    Each run looks anew: a broker that was killed may remember what it was told to forget.
    """
    with KitClient(source) as client:
        states = client.retained("limpet/+/state", changes.RETAINED_S, also=moved)
        for name in moved & {topic.split("/")[1] for topic in states}:
            client.clear(name, changes.RETAINED_S)


def _may_move(ledger: Ledger, units: list[Unit], target: Settings) -> None:
    """Raise `KitError` when one of them cannot log in there, before anything is drawn."""
    for unit in units:
        keys = {unit.profile, target.profile} & set(keyed.PROFILES)
        if keys and unit.profile != target.profile:
            raise KitError(
                f"{unit.name} has profile {unit.profile} and the broker of {target.folder} has "
                f"{target.profile}. Over the link a device changes neither from nor to "
                f"{' or '.join(sorted(keys))}; enrol it there by cable: limpet up PORT --replace "
                f"{unit.name} --broker {target.folder}",
                REFUSED,
            )
        _destination(unit, target)
    if target.given and (left := given.left(target)) < len(units):
        raise KitError(
            f"{len(units)} devices are to move and {left} accounts are left there. Make some at "
            f"your broker {target.server}, and add them with: limpet broker use",
            NO_BROKER,
        )


def _destination(unit: Unit, target: Settings) -> protocol.Fields:
    vault = bytes.fromhex(unit.vault)
    return destination.fields(target, vault, boards.is_simulated(unit.machine))

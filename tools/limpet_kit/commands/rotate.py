"""`limpet rotate`: new credentials over the link, for one device or all."""

from __future__ import annotations

import argparse
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from .. import arrival, ca, changes, paths, protocol, wifi
from ..broker import settings
from ..broker.settings import Settings
from ..console import Console
from ..errors import FAILED, NO_NETWORK, NOT_ONLINE, OK, USAGE, KitError
from ..ledger import ACTIVE, APPLIED, Ledger, Unit
from . import wait

HELP = "give devices a new account over the link, or new servers or networks"
EPILOG = """examples:
  limpet rotate lamp-1                     a new account; the old one ends when it works
  limpet rotate --all --older-than 90d     every account that is older
  limpet rotate --all --wifi FILE          all Wi-Fi networks anew, two lines each: name, key
  limpet rotate lamp-1 --server broker.local:8883 --server 192.168.1.20:8883

The device tries what it got and keeps it only if it works. A device that is off gets it when it
is back; run the same command again to finish: nothing is lost by stopping."""
WAIT_S = 30.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    targets(parser)
    room(parser)
    parser.add_argument(
        "--older-than", metavar="AGE", type=_age, help="only accounts of that age: 90d, 12h"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--server", metavar="HOST:PORT", action="append", help="new servers, in order"
    )
    what.add_argument(
        "--wifi", metavar="FILE", help="new networks and keys, mode 0600; - for stdin"
    )


def room(parser: argparse.ArgumentParser) -> None:
    """The option that says how large a change may be."""
    parser.add_argument(
        "--receive",
        metavar="BYTES",
        type=int,
        default=protocol.RECEIVE,
        help="what the devices take at once, Client(receive=...) (default: %(default)d)",
    )


def targets(parser: argparse.ArgumentParser) -> None:
    """The options that say which devices, and how long to wait for them."""
    parser.add_argument("device", metavar="DEVICE", nargs="*", help="names of devices")
    parser.add_argument("--all", action="store_true", help="all of this broker")
    parser.add_argument(
        "--broker", metavar="DIR", type=Path, help="the broker's folder (default: the kit's own)"
    )
    wait(parser, WAIT_S, "for the devices")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    kind, detail = changes.ACCOUNT, ""
    fields: protocol.Fields = []
    if args.server:
        kind = changes.SERVERS
        if len(args.server) > protocol.REPEATS:
            raise KitError(f"A board keeps {protocol.REPEATS} servers at most.", USAGE)
        fields = [(protocol.SERVER, _server(text)) for text in args.server]
        detail = " ".join(args.server)
    elif args.wifi is not None:
        kind = changes.NETWORKS
        found = wifi.networks(args.wifi)
        if not found:
            raise KitError("That names no network; nothing was sent.", NO_NETWORK)
        fields = [(protocol.NETWORK, protocol.network(n.ssid, n.key)) for n in found]
        # No digest of the keys: whoever has the ledger could guess against it.
        detail = secrets.token_hex(8)
    with Ledger() as ledger:
        chosen = settings.load(args.broker or paths.home() / "broker")
        units = select(ledger, chosen, args)
        if args.older_than is not None:
            limit = time.time() - args.older_than
            units = [unit for unit in units if _drawn(ledger, unit) < limit]
        return exchange(ledger, [chosen], units, args, kind, lambda unit: fields, detail)


def select(ledger: Ledger, chosen: Settings, args: argparse.Namespace) -> list[Unit]:
    """The units that the command line names. Raises `KitError` for one that is not there.

    Those that came online after their enrolment had stopped waiting are among them.
    """
    if args.all == bool(args.device):
        raise KitError("Name the devices, or say --all.", USAGE)
    console = Console(args.json)
    arrival.late(ledger, chosen, lambda _, words: console.line(words))
    units = [u for u in ledger.units() if u.state == ACTIVE and u.broker == chosen.kit]
    if args.all:
        return units
    known = {unit.name: unit for unit in units}
    for name in args.device:
        if name not in known:
            raise KitError(
                f"There is no unit {name} at the broker of {chosen.folder} that was online. "
                "`limpet ledger list` shows all.",
                USAGE,
            )
    return [known[name] for name in dict.fromkeys(args.device)]


def exchange(
    ledger: Ledger,
    brokers: list[Settings],
    units: list[Unit],
    args: argparse.Namespace,
    kind: str,
    make: Callable[[Unit], protocol.Fields],
    detail: str = "",
) -> int:
    """Send a change to these units, wait for them, say what became of it; the exit code.

    `brokers` must run, as must any other at which one of the units may be.
    """
    console = Console(args.json)
    ended: set[str] = set()
    if not units:
        console.line("There is nothing to do.")
        console.result({"ok": True, "applied": [], "failed": {}, "waiting": [], "alerts": {}})
        return OK
    with (
        changes.places(ledger, units, *brokers) as places,
        console.progress("devices") as advance,
    ):

        def step(unit: Unit, words: str, is_done: bool) -> None:
            console.line(f"{unit.name:<20} {words}")
            ended.update([unit.name] if is_done else [])
            advance(len(ended), len(units))

        run = changes.Exchange(ledger, places, units, step, args.receive)
        end = time.monotonic() + args.wait
        run.recover()
        run.clear_way(kind, detail, args.wait)
        run.begin(kind, make, detail)
        done = run.finish(max(0.0, end - time.monotonic()))
    for name in done.waiting:
        console.line(f"{name:<20} has not answered yet; it gets the change when it is online")
    console.result(
        {
            "ok": not done.failed and not done.waiting,
            "applied": done.applied,
            "failed": done.failed,
            "waiting": done.waiting,
            "alerts": done.alerts,
        }
    )
    for words in done.alerts.values():
        console.warn(words)
    if done.failed:
        return FAILED
    if done.waiting:
        console.warn("run the same command again to finish")
        return NOT_ONLINE
    return OK


def _drawn(ledger: Ledger, unit: Unit) -> int:
    """When a unit's account was drawn, in seconds since 1970."""
    drawn = [
        change.changed
        for change in ledger.changes(unit.vault)
        if change.kind in (changes.ACCOUNT, changes.MOVE) and change.state == APPLIED
    ]
    return max(drawn, default=unit.created)


def _server(text: str) -> bytes:
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 0 < int(port) < 65536:
        raise KitError(f"{text!r} is not HOST:PORT.", USAGE)
    ca.general_name(host.strip("[]"))  # refuses what no certificate can hold
    return text.encode()


def _age(text: str) -> int:
    match = re.fullmatch(r"(\d+)([dhm])", text)
    if not match:
        raise argparse.ArgumentTypeError("a number and d, h or m: 90d")
    return int(match[1]) * {"d": 86400, "h": 3600, "m": 60}[match[2]]

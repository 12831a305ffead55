"""`limpet status`: where things are, and what comes next."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serial.tools import list_ports

from .. import boards as definitions
from .. import paths, protocol, sim
from ..board import Board
from ..broker import server, settings
from ..console import Console, printable
from ..enrolment import Hello, held, look
from ..errors import OK, KitError
from ..ledger import ACTIVE, NEW, PROVED, REGISTERED, Ledger, Unit
from ..ports import SIM, holder, why_not
from .ledger import describe

HELP = "what is plugged in, which units there are, how the broker is, what comes next"
EPILOG = """examples:
  limpet status
  limpet status /dev/ttyACM0     what that board holds, how well; its program starts anew"""

_NEXT = {
    NEW: "cut before it had an account: plug it in and run limpet enroll, or limpet ledger drop",
    PROVED: "cut before the broker knew it: plug it in and run limpet enroll",
    REGISTERED: "written, but never seen online: power it, or run limpet enroll",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("port", metavar="PORT", nargs="?", help="a board to be asked itself")
    parser.add_argument(
        "--broker", metavar="DIR", type=Path, help="the broker's folder (default: the kit's own)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Say it; returns the exit code."""
    console = Console(args.json)
    if args.port:
        return _one(console, args.port)
    found = boards()
    broker = _broker(args.broker or paths.home() / "broker")
    with Ledger() as ledger:
        units = ledger.units()
    steps = _next(found, broker, units)

    console.line("Boards")
    for board in found:
        console.line(f"  {board['port']:<20} {board['what']}")
    if not found:
        console.line("  none is plugged in")
    console.line("Broker")
    console.line(f"  {broker['words']}")
    console.line("Units")
    for unit in units:
        console.line(f"  {describe(unit)}")
        if unit.state in _NEXT:
            console.line(f"    {_NEXT[unit.state]}")
        if unit.alert:
            console.line(f"    ALERT: {unit.alert}")
    if not units:
        console.line("  none yet")
    console.line("Next")
    for step in steps:
        console.line(f"  {step}")
    console.result(
        {"boards": found, "broker": broker, "units": [asdict(u) for u in units], "next": steps}
    )
    return OK


def _one(console: Console, port: str) -> int:
    """What one board holds, as it says itself, against what the ledger knows of it."""
    with Ledger() as ledger, Board(port) as board:
        hello = look(board)
        unit = held(ledger, hello)
        board.soft_reset(run_main=True)
    slot = hello.slots[-1] if hello.slots else None
    source, claim = protocol.SOURCES.get(slot.source, ("unknown", "none")) if slot else ("", "")
    console.line(f"{port:<12} {_what_it_is(hello)}")
    if not slot:
        console.line(f"credential   none; give it one with: limpet up {port}")
    else:
        console.line(
            f"credential   generation {slot.generation}"
            + (f", {unit.name}, {unit.state}" if unit else ", of no unit in this ledger")
        )
        console.line(f"key source   {source}: {claim}")
    if hello.scrub_due:
        console.line(
            "old secrets  may lie in free flash; it overwrites them while its program runs"
        )
    if unit and unit.alert:
        console.warn(unit.alert)
    console.result(
        {
            "port": port,
            "board": asdict(hello),
            "unit": unit.name if unit else None,
            "generation": slot.generation if slot else None,
            "known_generation": unit.generation if unit else None,
            "source": source or None,
            "claim": claim or None,
            "alert": unit.alert if unit and unit.alert else None,
        }
    )
    return OK


def _what_it_is(hello: Hello) -> str:
    machine = hello.machine or "a board"
    return f"{machine}, MicroPython {hello.micropython}, Limpet {hello.library}"


def boards() -> list[dict[str, Any]]:
    """Ports with something that may be a board, and the simulated ones; nothing is opened."""
    found: list[dict[str, Any]] = []
    for port in sorted(list_ports.comports()):
        if port.vid is not None:
            found.append(
                {
                    "port": port.device,
                    "usb": f"{port.vid:04x}:{port.pid or 0:04x}",
                    "what": _what(port),
                }
            )
    for board in sim.all():
        running = "running" if board.running else "switched off"
        what = f"simulated {board.board}, {running}"
        found.append({"port": SIM + board.name, "usb": None, "what": what})
    return found


def _what(port: Any) -> str:
    """What a port says of itself, which definitions its USB id fits, and what is in the way."""
    usb = f"{port.vid:04x}:{port.pid or 0:04x}"
    fits = [one.name for one in definitions.everyone() if usb in one.usb]
    words = printable(port.description or "serial port", 60)
    if fits:
        words += f"; by its USB id {' or '.join(fits)}"
    if by := holder(port.device):
        words += f"; in use by {by}"
    elif not os.access(port.device, os.R_OK | os.W_OK):
        words += f"; {why_not(port.device, port.device)}"
    return words


def _broker(folder: Path) -> dict[str, Any]:
    try:
        chosen = settings.load(folder)
    except KitError as e:
        return {"folder": str(folder), "running": False, "words": str(e), "server": None}
    running = server.open_broker(chosen).running()
    words = f"{chosen.server} ({chosen.kind}), {'running' if running else 'not running'}"
    return {
        "folder": str(chosen.folder),
        "server": chosen.server,
        "running": running,
        "words": words,
    }


def _next(found: list[dict[str, Any]], broker: dict[str, Any], units: list[Unit]) -> list[str]:
    """The commands that make sense now."""
    steps = []
    if broker["server"] is None:
        steps.append("limpet broker init")
    elif not broker["running"]:
        steps.append(f"limpet broker run {broker['folder']}")
    if not found:
        steps.append("limpet up sim    (or plug a board in)")
    elif not any(unit.state == ACTIVE for unit in units):
        steps.append(f"limpet up {found[0]['port']}")
    return steps or ["limpet audit PORT    (how well is the credential kept?)"]

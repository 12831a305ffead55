"""`limpet status`: where things are, and what comes next."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import changes, paths, plugged, presence, protocol
from ..broker import given, server, settings
from ..console import Console
from ..enrolment import Hello
from ..errors import OK, KitError
from ..ledger import NEW, OPEN, PROVED, REGISTERED, Change, Ledger, Unit
from ..plugged import Answer, Plugged
from .ledger import describe

HELP = "what is plugged in, which units there are, how the broker is, what comes next"
EPILOG = """examples:
  limpet status
  limpet status --probe          asks each board too: its program is stopped, and starts anew
  limpet status /dev/ttyACM0     what that board holds, how well; its program starts anew"""

_UNSEEN = (
    "Is one, and not seen? Take a cable that carries data and not only power; a blank one shows "
    "itself when BOOT (BOOTSEL) is held while it is plugged in."
)

_NEXT = {
    NEW: "cut before it had an account: plug it in and run limpet enroll, or limpet ledger drop",
    PROVED: "cut before the broker knew it: plug it in and run limpet enroll",
    REGISTERED: "written, but its first login was not seen: power it, or run limpet enroll. The "
    "next rotate, anchor, wipe or broker move looks for it",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("port", metavar="PORT", nargs="?", help="a board to be asked itself")
    parser.add_argument(
        "--broker", metavar="DIR", type=Path, help="the broker's folder (default: the kit's own)"
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="ask each board that is plugged in, which stops and restarts what runs on it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Say it; returns the exit code."""
    console = Console(args.json)
    if args.port:
        return _one(console, args.port)
    broker = _broker(args.broker or paths.home() / "broker")
    with Ledger() as ledger:
        units = ledger.units()
        links = presence.of(ledger, units)
        under_way = {c.vault: _go_on(ledger, c) for c in ledger.changes() if c.state in OPEN}
        found = plugged.boards(units)
        answers = {board.port: _probe(ledger, board) for board in found} if args.probe else {}
    at = {board.unit: board.port for board in found if board.unit}
    steps = _next(found, broker, units)

    console.line("Boards")
    for board in found:
        console.line(f"  {board.port or '(boot mode)':<20} {_words(board)}")
        if answers.get(board.port):
            console.line(f"    {answers[board.port]}")
    if not found:
        console.line(f"  none is plugged in. {_UNSEEN}")
    console.line("Broker")
    console.line(f"  {broker['words']}")
    console.line("Units")
    for unit in units:
        server_of, link = links[unit.vault]
        here = f"; plugged in at {at[unit.name]}" if unit.name in at else ""
        console.line(f"  {describe(unit)}")
        console.line(f"    {link}; broker {server_of}{here}")
        if unit.state in _NEXT:
            console.line(f"    {_NEXT[unit.state]}")
        if unit.vault in under_way:
            console.line(f"    has a change under way: {under_way[unit.vault]}")
        if unit.alert:
            console.line(f"    ALERT: {unit.alert}")
    if not units:
        console.line("  none yet")
    console.line("Next")
    for step in steps:
        console.line(f"  {step}")
    console.result(
        {
            "boards": [
                {**asdict(board), "words": _words(board), "answer": answers.get(board.port)}
                for board in found
            ],
            "broker": broker,
            "units": [
                {
                    **asdict(unit),
                    "server": links[unit.vault][0],
                    "link": links[unit.vault][1],
                    "change": under_way.get(unit.vault),
                    "port": at.get(unit.name),
                }
                for unit in units
            ],
            "next": steps,
        }
    )
    return OK


def _go_on(ledger: Ledger, change: Change) -> str:
    """What kind of change it is, and for a move the command that goes on with it."""
    if change.kind != changes.MOVE:
        return change.kind
    folders = (str(ledger.broker_folder(id)) for id in change.detail.split())
    return f"limpet broker move {' '.join(folders)}"


def _words(board: Plugged) -> str:
    """What a port is, which definitions fit, whose it says that it is, what is in the way."""
    words = board.what
    if board.usb:
        words += f" ({board.usb})"
    if board.usb and board.fits:
        words += f"; by its USB id {' or '.join(board.fits)}"
    elif not board.port:
        words += f"; by its drive {' or '.join(board.fits) or 'none that the kit knows'}"
    if board.unit:
        words += f"; its number is that of {board.unit}"
    if board.why_not:
        words += f"; {board.why_not}"
    return words


def _probe(ledger: Ledger, board: Plugged) -> str:
    """What a board that may be asked says, in one line."""
    if not board.port or board.why_not or not board.fits:
        return ""
    try:
        return _line(plugged.ask(ledger, board.port))
    except KitError as e:
        return str(e)


def _line(answer: Answer) -> str:
    fits = " or ".join(answer.fits) or "no definition"
    if answer.boot == "boot ROM":
        size = f"{answer.flash >> 20} MiB" if answer.flash else "unknown size"
        words = f"no MicroPython; {answer.chip} with {size} of flash: by its chip {fits}; next: "
        return words + f"limpet up {answer.port}"
    words = f"{answer.machine or 'a board'}, MicroPython {answer.version}"
    if answer.fits:
        words += f": by that name {fits}"
    if answer.hello is None:
        return f"{words}; no Limpet on it; next: limpet up {answer.port}"
    words += f"; Limpet {answer.hello.library}"
    if not answer.hello.slots:
        return f"{words}, not enrolled; next: limpet up {answer.port}"
    unit = f"as {answer.unit.name}, {answer.unit.state}" if answer.unit else "not in this ledger"
    return f"{words}, enrolled, {unit}"


def _one(console: Console, port: str) -> int:
    """What one board holds, as it says itself, against what the ledger knows of it."""
    with Ledger() as ledger:
        answer = plugged.ask(ledger, port)
    hello, unit = answer.hello, answer.unit
    if hello is None:
        console.line(f"{port:<12} {_line(answer)}")
        console.result(asdict(answer))
        return OK
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


def _broker(folder: Path) -> dict[str, Any]:
    try:
        chosen = settings.load(folder)
    except KitError as e:
        return {"folder": str(folder), "running": False, "words": str(e), "server": None}
    running = server.open_broker(chosen).running()
    words = f"{chosen.server} ({chosen.kind}), {'running' if running else 'not running'}"
    if chosen.given:
        link = "lets the kit in" if running else "does not let the kit in, or is away"
        words = f"{chosen.server} (yours), {link}; {given.left(chosen)} accounts left"
    return {
        "folder": str(chosen.folder),
        "server": chosen.server,
        "running": running,
        "given": chosen.given,
        "words": words,
    }


def _next(found: list[Plugged], broker: dict[str, Any], units: list[Unit]) -> list[str]:
    """The commands that make sense now."""
    steps = []
    free = [board for board in found if not board.unit and not board.why_not and board.fits]
    if broker["server"] is None:
        steps.append("limpet broker init")
    elif not broker["running"]:
        verb = "check" if broker.get("given") else "run"
        steps.append(f"limpet broker {verb} {broker['folder']}")
    if not found:
        steps.append("limpet up sim    (or plug a board in)")
    for board in free[:3]:
        option = "" if board.port else f" --board {board.fits[0]}"
        steps.append(f"limpet up {board.port}{option}".replace("  ", " "))
    return steps or ["limpet audit PORT    (how well is the credential kept?)"]

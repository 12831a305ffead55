"""`limpet sim`: simulated boards; every command, mpremote and ampy take them for real ones."""

from __future__ import annotations

import argparse

from .. import boards, sim
from ..console import Console
from ..errors import NO_BOARD, OK, KitError

HELP = "start and stop simulated boards: real MicroPython on a flash image, without hardware"
EPILOG = """example:  limpet sim start lamp && limpet up sim:lamp
          mpremote connect $(limpet sim path lamp) fs ls"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    start = actions.add_parser("start", help="start a board; the first time it is made, blank")
    start.add_argument("name", metavar="NAME", help="1 to 32 of a-z, 0-9 and -")
    kinds = [name for name in boards.names() if boards.load(name).simulated]
    start.add_argument("--board", choices=kinds, help=f"(default: {sim.DEFAULT_BOARD})")
    start.add_argument("--new", action="store_true", help="a blank flash and a new number")
    stop = actions.add_parser("stop", help="end boards; their flash stays")
    stop.add_argument("name", metavar="NAME", nargs="*", help="(default: all)")
    path = actions.add_parser("path", help="print a board's device path, for mpremote and ampy")
    path.add_argument("name", metavar="NAME")
    listing = actions.add_parser("list", help="all boards")
    listing.add_argument("--json", action="store_true", help="print one JSON list")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    if args.action == "start":
        board = sim.start(args.name, args.board, args.new)
        Console().line(f"sim:{board.name} is a {board.board} on {board.device}")
        Console().line(f"Next: limpet up sim:{board.name}")
    elif args.action == "stop":
        for board in [_find(name) for name in args.name] or sim.all():
            if board.running:
                board.stop()
                Console().line(f"sim:{board.name} stopped")
    elif args.action == "path":
        print(_find(args.name).device)
    else:
        _list(Console(args.json))
    return OK


def _find(name: str) -> sim.SimBoard:
    found = sim.find(name)
    if found is None:
        raise KitError(f"There is no simulated board {name}. All: limpet sim list", NO_BOARD)
    return found


def _list(console: Console) -> None:
    found = [
        {
            "name": board.name,
            "board": board.board,
            "device": str(board.device) if board.running else None,
            "image": str(board.image),
        }
        for board in sim.all()
    ]
    for row in found:
        console.line(f"sim:{row['name']:<16} {row['board']:<10} {row['device'] or 'not running'}")
    if not found:
        console.line("There is none. Make one with: limpet sim start lamp")
    console.result(found)

"""`limpet audit`: play the thief on a board or a flash image, and say what may be claimed."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import boards
from ..audit import ladder, layout, obtain, openness, report, scan
from ..audit.canary import Canary
from ..broker.files import refuse_no_folder, write_private
from ..console import Console
from ..errors import LIES_OPEN, OK, USAGE, KitError
from ..ledger import Ledger

HELP = "play the thief: what can be read out of a board, and what may be claimed of it"
EPILOG = """examples:
  limpet audit /dev/ttyUSB0 --html report.html
  limpet audit --image flash.bin --fuses fuses.json --level 2
  limpet audit sim:lamp --unit kitchen-lamp    all its passwords so far, known as digests
  limpet audit sim:lamp --canary known.txt --json

A canary file has one known value a line:  NAME text|hex|base64|digest VALUE
Fuses without the board:  espefuse --port PORT summary --format json > fuses.json
Exit code 0: the level asked for (--level, 1 unless given) is reached; 11: it is not.
A report shows places, never a secret."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("port", metavar="PORT", nargs="?", help="a port, or sim:NAME")
    parser.add_argument("--image", metavar="FILE", type=Path, help="a flash dump or a UF2 file")
    parser.add_argument("--board", choices=boards.names(), help="the board it is from")
    parser.add_argument("--chip", choices=ladder.names(), help="its chip, for a board not listed")
    parser.add_argument("--fuses", metavar="FILE", type=Path, help="its fuse summary in JSON")
    parser.add_argument(
        "--plain",
        metavar="FILE",
        type=Path,
        help="what was flashed before the chip encrypted it: shows whether WebREPL is configured",
    )
    parser.add_argument("--canary", metavar="FILE", type=Path, help="known values to look for")
    parser.add_argument(
        "--unit", metavar="NAME", help="look for what this unit of the ledger was ever given"
    )
    parser.add_argument("--level", type=int, choices=range(5), default=1, help="(default: 1)")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a report with a picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)
    refuse_no_folder(args.html)
    found = audit(args, console)
    report.show(found, console)
    if args.unit:
        _note(args.unit, found)
    if args.html:
        write_private(args.html, report.page(found).encode())
        console.line(f"report: {args.html}")
    console.result(found.as_dict())
    return OK if found.fine else LIES_OPEN


def audit(args: argparse.Namespace, console: Console) -> report.Report:
    """Obtain the flash, search it, judge it."""
    if (args.port is None) == (args.image is None):
        raise KitError("Name one thing to audit: a PORT, or --image FILE.", USAGE)
    canaries = _canaries(_text(args.canary).splitlines()) if args.canary else []
    if args.unit:
        canaries += _canaries(_remembered(args.unit))
    fuses = openness.Fuses.parse(_text(args.fuses)) if args.fuses else None
    if args.image:
        got = obtain.file(args.image)
    else:
        with console.progress("reading the flash") as advance:
            got = obtain.port(args.port, advance)
    contents = scan.scan(got.image, canaries)
    board = args.board or got.board
    parts = contents.layout
    chip = args.chip or (boards.load(board).ladder if board else "")
    chip = chip or got.chip or parts.chip or parts.firmware.chip or ladder.UNKNOWN
    plain = layout.read(obtain.file(args.plain).image) if args.plain else None
    ways = openness.judge(parts, chip, fuses or got.fuses, got.security, got.prompt, plain)
    steps = ladder.load(chip)
    verdict = ladder.judge(steps, ways, contents.findings)
    source = str(args.port or args.image)
    return report.Report(
        source, got.how, chip, got.image, contents, ways, steps, verdict, args.level, got.restarted
    )


def _canaries(lines: list[str]) -> list[Canary]:
    stripped = (line.strip() for line in lines)
    return [Canary.parse(line) for line in stripped if line and not line.startswith("#")]


def _remembered(name: str) -> list[str]:
    """Digests of a unit's passwords and control keys; the kit keeps no secret."""
    with Ledger() as ledger:
        lines = ledger.canaries(name)
    if not lines:
        raise KitError(f"The ledger keeps no digests of a unit {name}.", USAGE)
    return lines


def _note(name: str, found: report.Report) -> None:
    """Write into the ledger what came out; nothing for a unit that has gone since."""
    with Ledger() as ledger:
        unit = ledger.named(name)
        if unit:
            state = "fine" if found.fine else f"{len(found.contents.findings)} findings"
            ledger.note_audit(unit.vault, f"level {found.verdict.level.number}, {state}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise KitError(f"{path} cannot be read: {e.strerror}.", USAGE) from None
    except UnicodeDecodeError:
        raise KitError(f"{path} is not a text file.", USAGE) from None

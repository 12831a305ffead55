"""The `limpet` command: finds the verb, runs it, turns errors into a sentence and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sqlite3
import sys
from collections.abc import Sequence

from . import console, errors

FIRST = "status"
# verb: module in limpet_kit.commands, with HELP, arguments(parser) and run(args) -> exit code
COMMANDS = (
    *("up", "flash", "enroll", "rotate", "revoke", "wipe"),
    *("status", "ledger", "doctor"),
    *("broker", "guard", "web", "anchor"),
    *("audit", "attack", "sim", "demo"),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    codes = "\n".join(f"  {code:3}  {words}" for code, words in errors.MEANINGS.items())
    top = argparse.ArgumentParser(
        prog="limpet",
        description="Give a MicroPython board its own credential and get it online, verified.",
        epilog=f"exit codes:\n{codes}\n\nstart with:  limpet up sim",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f".commands.{name}", __package__)
        sub = verbs.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    if sys.stdin is None:  # closed: as if nothing came
        sys.stdin = open(os.devnull)  # noqa: SIM115
    os.umask(0o077)  # whatever the kit writes is its owner's alone
    given = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(given or [FIRST])  # alone, it says where you are
    try:
        return int(args.run(args))
    except errors.KitError as e:
        print(f"limpet {args.verb}: {e}", file=sys.stderr)
        return e.code
    except KeyboardInterrupt:
        print(f"limpet {args.verb}: interrupted", file=sys.stderr)
        return errors.INTERRUPTED
    except BrokenPipeError:
        console.nobody_reads(sys.stdout)
        return errors.OK
    except UnicodeError:  # its words would show a part of what was given
        print(f"limpet {args.verb}: what was given is not text in UTF-8", file=sys.stderr)
        return errors.FAILED
    except (OSError, sqlite3.Error) as e:  # for which nobody had a better sentence
        print(f"limpet {args.verb}: {e} ({type(e).__name__})", file=sys.stderr)
        return errors.FAILED

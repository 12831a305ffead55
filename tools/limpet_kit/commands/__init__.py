"""The verbs, one a module (cli.COMMANDS), and what those with sub-commands share."""

from __future__ import annotations

import argparse

from ..console import seconds


def wait(parser: argparse.ArgumentParser, default: float, words: str) -> None:
    """Add --wait."""
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        default=default,
        help=f"{words} (default: %(default).0f)",
    )


def action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    words: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a sub-command whose help says what it does, and shows an example."""
    return actions.add_parser(
        name,
        help=words,
        description=words,
        epilog=f"example:  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

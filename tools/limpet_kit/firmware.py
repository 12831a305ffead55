"""Firmware files: fetched once, pinned by SHA-256, and checked against the board before any write.

The first download of a file pins it in `firmware.lock` (lines as of sha256sum): in the kit's own
folder, or in boards/ where a team ships one. A file that differs from its pin is refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from . import paths, uf2
from .boards import Board
from .broker.files import locked, write_private
from .console import Advance
from .errors import FAILED, NO_SPACE, REFUSED, USAGE, KitError

LARGEST = 32 << 20  # bytes; no board's flash is larger
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,40}")
_CHIP_IDS = {"esp32": 0, "esp32s2": 2, "esp32c3": 5, "esp32s3": 9, "esp32c6": 13}
_APP = 0x10000  # where the partition tables of MicroPython put the application


def obtain(board: Board, wanted: str | None, progress: Advance, known: bool = False) -> Path:
    """The firmware file: `wanted` is a file, a version, or None for the board's default.

    With `known` one that no lock names is refused instead of pinned.

    Raises `KitError`: REFUSED when it is not what was pinned, FAILED when it cannot be fetched.
    """
    if wanted and ("/" in wanted or os.sep in wanted or Path(wanted).is_file()):
        file = Path(wanted)
        if not file.is_file():
            raise KitError(f"There is no firmware file {wanted}.", USAGE)
        if not os.access(file, os.R_OK):
            raise KitError(f"You may not read the firmware file {wanted}.", USAGE)
        if file.stat().st_size > LARGEST:
            raise _unfit(f"{wanted} is larger than any board's flash")
        pin(file.name, _hash(file), new=False, must=known)
        return file
    if board.firmware is None:
        raise KitError(f"{board.name} takes no firmware.", USAGE)
    version = wanted or board.firmware.version
    if not _VERSION.fullmatch(version):
        raise KitError("A firmware version looks like 20260406-v1.28.0.", USAGE)
    name = board.firmware.pattern.format(version=version)
    folder = paths.home() / "firmware"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / name
    with locked(folder / ".lock"):
        if not file.exists():
            _fetch(board.firmware.base + name, file, progress)
        if name not in _known():
            _check_new(board, file)
        pin(name, _hash(file), new=not known, must=known)
    return file


def pin(name: str, digest: str, new: bool, must: bool = False) -> None:
    """Compare with the pin of this name; an unknown file is pinned now with `new`, refused with
    `must`."""
    own = paths.home() / "firmware.lock"
    known = _known()
    if known.get(name, digest) != digest:
        raise KitError(
            f"{name} is not the file that was pinned (SHA-256 {digest[:16]}... instead of "
            f"{known[name][:16]}...). Somebody changed it, or it was built anew. It was not used.",
            REFUSED,
        )
    if must and name not in known:
        raise KitError(
            f"{name} is not in firmware.lock (SHA-256 {digest[:16]}...), and only what is may be "
            "written here. Flash one board with it first, and look that it is right.",
            REFUSED,
        )
    if new and name not in known:
        lines = "".join(f"{value}  {key}\n" for key, value in {**_pins(own), name: digest}.items())
        write_private(own, lines.encode())


def _check_new(board: Board, file: Path) -> None:
    """As `check`; what is no firmware at all is not kept: a server's page about an error."""
    try:
        check(board, file.read_bytes())
    except KitError:
        file.unlink()
        raise


def check(board: Board, data: bytes) -> None:
    """Refuse an image that is damaged, for another chip, or too large for this board."""
    assert board.boot is not None, "a real board has it"
    if board.boot.method == "bootsel":
        _check_uf2(board, data)
    else:
        _check_esp(board, data)


def check_size(board: Board, data: bytes, found: int) -> None:
    """Refuse an ESP32 image that was built for more flash than the board has: it would not start.

    `found` is the board's flash in bytes, 0 when it is not known.
    """
    needs = 1 << 20 + (data[3] >> 4)  # the header's code: 0 is 1 MiB, each one more doubles it
    if found and (found < needs or len(data) > found):
        raise _unfit(
            f"it is for {needs >> 20} MiB of flash and the board has {found >> 20}; look for a "
            f"variant for less on {board.firmware.page if board.firmware else 'its page'}",
            REFUSED,
        )


def _check_esp(board: Board, data: bytes) -> None:
    boot = board.boot
    assert boot is not None
    if boot.offset + len(data) > board.flash.size:
        raise _unfit(f"it has {len(data)} bytes, and {board.name} has no room for them")
    for start, what in ((0, "bootloader"), (_APP - boot.offset, "application")):
        head = data[start : start + 24]
        if len(head) < 24 or head[0] != 0xE9:
            raise _unfit(f"it holds no {what} for an ESP32")
        chip = struct.unpack_from("<H", head, 12)[0]
        if chip != _CHIP_IDS.get(boot.chip):
            name = next((n for n, i in _CHIP_IDS.items() if i == chip), "another chip")
            raise _unfit(f"it is for {name}, and the board has an {boot.chip}", REFUSED)
        end = start + 24
        for _ in range(head[1]):
            size = struct.unpack_from("<I", data, end + 4)[0] if end + 8 <= len(data) else LARGEST
            end += 8 + size
            if end > len(data):
                raise _unfit(f"its {what} is cut off")
        end = start + (end - start + 16) // 16 * 16  # a checksum byte, up to 16 bytes
        if head[23] == 1 and hashlib.sha256(data[start:end]).digest() != data[end : end + 32]:
            raise _unfit(f"its {what} is damaged: the SHA-256 inside does not fit")


def _check_uf2(board: Board, data: bytes) -> None:
    boot = board.boot
    assert boot is not None
    try:
        blocks = uf2.blocks(data)
    except uf2.Broken as e:
        raise _unfit(str(e)) from None
    for block in blocks:
        if not block.flags & uf2.HAS_FAMILY or block.family != boot.family:
            words = f"it is for the UF2 family {block.family:08x}, not {boot.family:08x}"
            raise _unfit(words, REFUSED)
        if not uf2.XIP <= block.address <= uf2.XIP + board.flash.size - len(block.content):
            raise _unfit(f"its block {block.number} does not lie in the flash of {board.name}")


def _unfit(words: str, code: int = FAILED) -> KitError:
    return KitError(f"This firmware is not written: {words}.", code)


def _fetch(url: str, file: Path, progress: Advance) -> None:
    """Download, going on where an earlier try ended; the file appears only when it is whole."""
    where = urlsplit(url)
    if where.scheme != "https" and where.hostname not in ("127.0.0.1", "localhost"):
        raise KitError(f"{url} is not fetched: only https is.", REFUSED)
    part = file.with_name(file.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            if answer.status != 206:
                have = 0
            total = have + int(answer.headers.get("Content-Length") or -1)
            if not have < total <= LARGEST:
                raise KitError(f"{url} does not say how large it is, or is too large.", FAILED)
            with open(part, "ab" if have else "wb") as out:
                while chunk := answer.read(65536):
                    have += len(chunk)
                    if have > total:
                        break
                    out.write(chunk)
                    progress(have, total)
    except urllib.error.HTTPError as e:
        part.unlink(missing_ok=True)
        raise KitError(f"{url} cannot be fetched: HTTP {e.code}.", FAILED) from None
    except (OSError, ValueError, HTTPException) as e:
        if getattr(e, "errno", None) == errno.ENOSPC:
            raise KitError(
                f"There is no room left in {file.parent} for {file.name}. Make some, and run the "
                "same command again: it goes on where it stopped.",
                NO_SPACE,
            ) from None
        raise KitError(
            f"{url} cannot be fetched: {getattr(e, 'reason', None) or e}. The same command again "
            "goes on where it stopped.",
            FAILED,
        ) from None
    if have != total:
        if have > total:
            part.unlink()
        raise KitError(
            f"{url} sent {have} bytes instead of {total}. The same command again goes on.", FAILED
        )
    os.replace(part, file)


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _known() -> dict[str, str]:
    """Every pin, by name."""
    return _pins(paths.home() / "firmware.lock") | _pins(paths.data("boards") / "firmware.lock")


def _pins(file: Path) -> dict[str, str]:
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return {}
    found = re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)
    return {name: digest for digest, name in found}

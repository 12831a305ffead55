"""Getting the flash of a board the way a thief does: image file, boot loader, prompt."""

from __future__ import annotations

import base64
import binascii
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .. import sim, uf2
from ..board import Board, NoMicroPython, Raised
from ..console import Advance
from ..errors import FAILED, NO_BOARD, USAGE, KitError
from .openness import Fuses

_LARGEST = 64 << 20
_CHUNK = 4096
_READ_S = 1800  # 16 MiB at 115200 baud
_FUSES_S = 60


@dataclass(frozen=True)
class Obtained:
    """A flash image and what else the way to it told."""

    image: bytes
    how: str  # words
    board: str = ""  # name of a board definition, where the source knows it
    chip: str = ""
    fuses: Fuses | None = None
    security: str = ""  # text of get-security-info
    prompt: bool | None = None  # the REPL answered; None: not tried
    restarted: bool = False  # its program was stopped for this, and started again


def file(path: Path) -> Obtained:
    """An image file: raw, or UF2. `KitError` when it cannot be read."""
    try:
        if path.stat().st_size > _LARGEST:
            raise KitError(f"{path} is larger than any board's flash (64 MiB).", USAGE)
        data = path.read_bytes()
    except OSError as e:
        raise KitError(f"{path} cannot be read: {e.strerror}.", USAGE) from None
    if len(data) < _CHUNK:
        raise KitError(f"{path} is no flash image: it has {len(data)} bytes.", USAGE)
    if uf2.is_uf2(data):
        image, chip = uf2.flash(data)
        return Obtained(image, f"UF2 file {path.name}", chip=chip)
    return Obtained(data, f"image file {path.name}")


def port(name: str, advance: Advance) -> Obtained:
    """The flash of the board on a port.

    `sim:NAME`: its image, as with a clip on the flash chip. ESP32: esptool, then the fuses by
    espefuse or, where that is closed, get-security-info. Pico: over its prompt.
    Raises `KitError` when nothing of it works.
    """
    if name.startswith("sim:"):
        return _simulated(name)
    prompt = False
    try:
        with _stopped(name) as board:
            prompt = True
            if board.exec("import sys;print(sys.platform)").strip() == "rp2":
                return _pico(board, advance)
    except KitError as e:
        if prompt or e.code != NO_BOARD:
            raise
    return _esp32(name, prompt)


@contextmanager
def _stopped(name: str) -> Iterator[Board]:
    """The board at its prompt; its program runs again afterwards, whatever happened."""
    with Board(name) as board:
        try:
            yield board
        finally:
            with suppress(KitError):
                board.soft_reset(run_main=True)


def _simulated(name: str) -> Obtained:
    board = sim.find(name.removeprefix("sim:"))
    if board is None:
        raise KitError(f"There is no simulated board {name}; see: limpet sim list", NO_BOARD)
    how = "its flash chip"
    if not board.running:
        return Obtained(board.image.read_bytes(), how, board.board)
    try:
        with _stopped(name):  # nothing is written while the copy is made
            image = board.image.read_bytes()
    except NoMicroPython:
        return Obtained(board.image.read_bytes(), how, board.board, prompt=False)
    return Obtained(image, how, board.board, prompt=True, restarted=True)


def _answers(name: str) -> bool | None:
    """Whether a prompt answers; None when the port could not be asked."""
    try:
        with _stopped(name):
            return True
    except NoMicroPython:
        return False
    except KitError:
        return None


def _pico(board: Board, advance: Advance) -> Obtained:
    """Read the flash through its place in the address space; not tried on hardware."""
    chip = "rp2350" if "RP2350" in board.exec("import sys;print(sys.implementation)") else "rp2040"
    size = (4 if chip == "rp2350" else 2) << 20
    board.exec("import uctypes,binascii")
    image = bytearray()
    try:
        while len(image) < size:
            where = uf2.XIP + len(image)
            text = board.exec(
                f"print(binascii.b2a_base64(uctypes.bytearray_at({where},{_CHUNK})).decode())",
                most=2 * _CHUNK,
            )
            part = base64.b64decode(text.strip(), validate=True)
            if len(part) != _CHUNK:
                raise ValueError("short")
            image += part
            advance(len(image), size)
    except (Raised, binascii.Error, ValueError):
        raise KitError(
            "The board's prompt does not give its flash. Save it in BOOTSEL mode with: picotool "
            "save -a flash.bin, then: limpet audit --image flash.bin",
            FAILED,
        ) from None
    return Obtained(bytes(image), "the prompt (REPL)", chip=chip, prompt=True, restarted=True)


def _esp32(name: str, prompt: bool) -> Obtained:
    with tempfile.TemporaryDirectory(prefix="limpet-audit-") as folder:
        path = Path(folder) / "flash.bin"
        read = ("read-flash", "0", "ALL", str(path))
        done = _tool("esptool", name, *read, within_s=_READ_S)
        if done.returncode and not path.exists():
            done = _tool("esptool", name, "--no-stub", *read, within_s=_READ_S)
        image = path.read_bytes() if path.exists() else b""
    fuses, security = _fuses(name)
    if not image and fuses is None and not security:
        raise KitError(
            f"Neither a prompt nor a boot loader answers on {name}. Is it the right port, is "
            "another program on it? Hold BOOT while you press RESET, then try again.",
            NO_BOARD,
        )
    # It may have sat in its boot loader; esptool left it reset, its program running.
    answered = prompt or _answers(name)
    how = "esptool read-flash" if image else "nothing: the boot loader does not read the flash"
    return Obtained(
        image, how, fuses=fuses, security=security, prompt=answered, restarted=bool(answered)
    )


def _fuses(name: str) -> tuple[Fuses | None, str]:
    done = _tool("espefuse", name, "summary", "--format", "json", within_s=_FUSES_S)
    if done.returncode == 0:
        try:
            return Fuses.parse(done.stdout), ""
        except KitError:
            pass
    done = _tool("esptool", name, "get-security-info", within_s=_FUSES_S)
    return None, done.stdout if done.returncode == 0 else ""


def _tool(
    program: str, port: str, *arguments: str, within_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a program of esptool's package: it is GPL, so it is never imported."""
    try:
        return subprocess.run(
            [sys.executable, "-m", program, "--port", port, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within_s,
        )
    except subprocess.TimeoutExpired:
        raise KitError(f"{program} does not come to an end on {port}.", NO_BOARD) from None

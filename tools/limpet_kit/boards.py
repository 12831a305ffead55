"""What the kit knows of each board: `boards/<BOARD>/board.toml`, read strictly into a `Board`.

One schema for all, written down by these classes and explained in boards/README.md. An unknown
key is an error, so that a misspelt one cannot pass for a missing one.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import paths, toml
from .errors import USAGE, KitError

KEY_SOURCES = ("plain", "soft", "platform", "hmac", "otp", "external")  # PROTOCOLS.md 1
_USB = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")


@dataclass(frozen=True)
class Partition:
    """A region of the flash; `type` and `subtype` as in an ESP32 partition table."""

    label: str
    offset: int
    size: int
    type: int = 1
    subtype: int = 0x81


@dataclass(frozen=True)
class Flash:
    """Geometry of the flash in bytes: erased by the sector, programmed by the page."""

    size: int
    sector: int
    page: int
    progsize: int


@dataclass(frozen=True)
class Boot:
    """How firmware gets in. `method` is `esptool` or `bootsel`; `how` is what a person does.

    esptool: `chip` as it names it, `offset` where the image goes. bootsel: `usb` of the
    bootloader, the `drive` it shows and the UF2 `family` that it takes.
    """

    method: str
    how: str
    chip: str = ""
    offset: int = 0
    usb: str = ""
    drive: str = ""
    family: int = 0


@dataclass(frozen=True)
class Firmware:
    """Where MicroPython for this board is: `files` below `base`, `{version}` in the pattern."""

    page: str
    base: str
    pattern: str
    version: str


@dataclass(frozen=True)
class Board:
    """A board definition. `usb` are the ids of the running board; `sim` is for simulated ones."""

    name: str
    title: str
    machine: str
    port: str
    unique_id: int
    key_sources: tuple[str, ...]
    ladder: str  # how far its chip can be closed: boards/ladders/<ladder>.toml
    flash: Flash
    partitions: tuple[Partition, ...]
    usb: tuple[str, ...] = ()
    wifi: bool = True
    led: str = ""
    notes: str = ""
    simulated: bool = False
    boot: Boot | None = None
    firmware: Firmware | None = None
    sim: dict[str, Any] = dataclasses.field(default_factory=dict)

    def partition(self, label: str) -> Partition:
        """The region of this name; `KeyError` when the board has none."""
        for one in self.partitions:
            if one.label == label:
                return one
        raise KeyError(label)


def names() -> list[str]:
    """All boards that have a definition."""
    return sorted(file.parent.name for file in paths.data("boards").glob("*/board.toml"))


def load(name: str) -> Board:
    """The definition of a board; `KitError` when there is none or when it is wrong."""
    if name not in names():
        raise KitError(f"There is no board {name}; there are {', '.join(names())}.", USAGE)
    return parse(name, paths.data("boards") / name / "board.toml")


def everyone() -> list[Board]:
    """All definitions."""
    return [load(name) for name in names()]


def real() -> list[Board]:
    """Those that are not simulated."""
    return [board for board in everyone() if not board.simulated]


@functools.cache
def _simulated() -> frozenset[str]:
    return frozenset(board.machine for board in everyone() if board.simulated)


def is_simulated(machine: str) -> bool:
    """Whether a board that calls itself so is one of our own simulated ones."""
    return machine in _simulated()


def booting(chip: str = "", drive: str = "") -> list[Board]:
    """Those whose boot ROM says that it is this chip, or shows this drive."""
    return [
        board
        for board in everyone()
        if board.boot
        and ((chip and board.boot.chip == chip) or (drive and board.boot.drive == drive))
    ]


def with_usb(usb: str) -> list[Board]:
    """Those that show themselves with this USB id, `vvvv:pppp`."""
    return [board for board in everyone() if usb in board.usb]


def parse(name: str, file: Path) -> Board:
    """Read one definition file; `KitError` names what is wrong in it."""
    try:
        values = toml.loads(file.read_text(encoding="utf-8"))
        values["partitions"] = values.pop("partition", [])
        board: Board = _build(Board, {"name": name, **values}, "")
        _check(board)
    except (KeyError, TypeError, ValueError) as e:
        words = e.args[0] if e.args else "?"
        raise KitError(
            f"{file} is not a board definition: {words}. See boards/README.md."
        ) from None
    return board


def _build(kind: Any, values: Any, where: str) -> Any:
    """An object of the dataclass `kind` from a table of the file."""
    if not isinstance(values, dict):
        raise TypeError(f"{where} must be a table")
    known = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in known:
            raise KeyError(f"unknown key {where}{key}")
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    for key, field in known.items():
        if key not in values and (field.default, field.default_factory) == missing:
            raise KeyError(f"{where}{key} is missing")
    return kind(**{k: _value(hints[k], v, f"{where}{k}") for k, v in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)[0]
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{where} must be a list")
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, one, f"{where}[{n}]") for n, one in enumerate(value))
    plain = typing.get_origin(hint) or hint
    if type(value) is not plain:
        raise TypeError(f"{where} must be {plain.__name__}")
    return value


def _check(board: Board) -> None:
    """What the types do not say."""
    flash = board.flash
    for one in board.partitions:
        if one.offset % flash.sector or one.size % flash.sector or one.size <= 0:
            raise ValueError(f"the partition {one.label} is not whole sectors")
        if one.offset + one.size > flash.size:
            raise ValueError(f"the partition {one.label} ends behind the flash")
    if unknown := set(board.key_sources) - set(KEY_SOURCES):
        raise ValueError(f"key_sources knows no {sorted(unknown)[0]}")
    for usb in (*board.usb, *([board.boot.usb] if board.boot and board.boot.usb else [])):
        if not _USB.fullmatch(usb):
            raise ValueError(f"the USB id {usb} is not vvvv:pppp in small hex")
    if not (paths.data("boards") / "ladders" / f"{board.ladder}.toml").is_file():
        raise ValueError(f"there is no ladder {board.ladder}")
    if board.simulated:
        return
    if board.boot is None or board.firmware is None:
        raise ValueError("a real board needs boot and firmware")
    needs = {"esptool": ("chip",), "bootsel": ("usb", "drive", "family")}.get(board.boot.method)
    if needs is None:
        raise ValueError("boot.method must be esptool or bootsel")
    for key in needs:
        if not getattr(board.boot, key):
            raise ValueError(f"boot.{key} is missing")
    if "{version}" not in board.firmware.pattern:
        raise ValueError("firmware.pattern has no {version}")

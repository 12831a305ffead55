"""What the kit knows of each board: `boards/<BOARD>/board.toml`, read into a `Board`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import paths, toml
from .errors import USAGE, KitError


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
class Board:
    """A board definition. `sim` holds what only the simulated board needs."""

    name: str
    title: str
    machine: str
    port: str
    simulated: bool
    unique_id: int
    key_sources: tuple[str, ...]
    ladder: str  # how far its chip can be closed: boards/ladders/<ladder>.toml
    flash: Flash
    partitions: tuple[Partition, ...]
    sim: dict[str, Any]

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
    file = paths.data("boards") / name / "board.toml"
    if name not in names():
        raise KitError(f"There is no board {name}; there are {', '.join(names())}.", USAGE)
    return parse(name, file)


def parse(name: str, file: Path) -> Board:
    """Read one definition file."""
    try:
        values = toml.loads(file.read_text(encoding="utf-8"))
        return Board(
            name=name,
            title=values["title"],
            machine=values["machine"],
            port=values["port"],
            simulated=values.get("simulated", False),
            unique_id=values["unique_id"],
            key_sources=tuple(values["key_sources"]),
            ladder=values["ladder"],
            flash=Flash(**values["flash"]),
            partitions=tuple(Partition(**one) for one in values.get("partition", ())),
            sim=values.get("sim", {}),
        )
    except KeyError as e:
        raise KitError(f"{file} lacks {e.args[0]}; see boards/README.md.") from None
    except (TypeError, ValueError) as e:
        raise KitError(f"{file} is not a board definition: {e}.") from None

"""The levels that a chip can reach (boards/ladders/*.toml), and which one a board has reached."""

from __future__ import annotations

from dataclasses import dataclass

from .. import paths, toml
from ..errors import FAILED, KitError
from .finding import Finding
from .openness import CLOSED, WAYS, Way

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Level:
    """One step: the claim it allows, which exposures that excludes, the ways that must be closed,
    and what to do to get there."""

    number: int
    claim: str
    excludes: tuple[str, ...]
    needs: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Ladder:
    """All levels of a chip, from 0 upwards."""

    title: str
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Verdict:
    """The level reached, and what keeps the board from the next one (None: it is the last)."""

    level: Level
    next: Level | None
    ways: tuple[Way, ...]  # that the next level needs closed and that are not
    findings: tuple[Finding, ...]  # that the next level's claim excludes


def names() -> list[str]:
    """Chips that have a ladder."""
    return sorted(file.stem for file in (paths.data("boards") / "ladders").glob("*.toml"))


def load(chip: str) -> Ladder:
    """The ladder of this chip, of an unknown one where there is none for it."""
    file = paths.data("boards") / "ladders" / f"{chip if chip in names() else UNKNOWN}.toml"
    try:
        values = toml.loads(file.read_text(encoding="utf-8"))
        levels = tuple(
            Level(
                one["number"],
                one["claim"],
                *(tuple(one[name]) for name in ("excludes", "needs", "steps")),
            )
            for one in values["level"]
        )
        wrong = {name for level in levels for name in level.needs} - WAYS.keys()
        if wrong or [level.number for level in levels] != list(range(len(levels))):
            raise ValueError(f"levels must count from 0 and need only {', '.join(WAYS)}")
        return Ladder(values["title"], levels)
    except (KeyError, TypeError, ValueError) as e:
        raise KitError(f"{file} is not a ladder: {e}.", FAILED) from None


def judge(ladder: Ladder, ways: list[Way], findings: list[Finding]) -> Verdict:
    """The highest level all of whose needs, and those of the levels below, are met."""
    closed = {way.name for way in ways if way.state == CLOSED}
    by_name = {way.name: way for way in ways}
    reached = ladder.levels[0]
    for level in ladder.levels[1:]:
        open_ways = tuple(by_name[name] for name in level.needs if name not in closed)
        against = tuple(f for f in findings if f.exposure in level.excludes)
        if open_ways or against:
            return Verdict(reached, level, open_ways, against)
        reached = level
    return Verdict(reached, None, (), ())

"""Bytes that belong together, wherever in the image they lie."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

LIVE = "live"  # what the board itself would read
SUPERSEDED = "superseded"  # an older copy of something that is still there
DELETED = "deleted"  # its owner removed it, or nothing refers to it any more
ERASED = "erased"  # marked as erased in NVS, which erases nothing
FIRMWARE = "firmware"  # in the program, so in every unit of the product


@dataclass(frozen=True)
class Extent:
    """`length` bytes at `offset` of the image."""

    offset: int
    length: int


@dataclass(frozen=True)
class Stream:
    """The content of a file, an NVS value or a region: `place` names it for people."""

    place: str
    state: str
    extents: tuple[Extent, ...]
    name: str = ""  # file name, or NVS `namespace/key`; empty for a region

    @property
    def size(self) -> int:
        """Bytes in all extents."""
        return sum(extent.length for extent in self.extents)

    def read(self, image: bytes) -> bytes:
        """The bytes, joined."""
        return b"".join(image[e.offset : e.offset + e.length] for e in self.extents)

    def part(self, at: int, length: int) -> tuple[Extent, ...]:
        """Where `length` bytes from byte `at` of the stream lie in the image."""
        found, begin = [], 0
        for extent in self.extents:
            first, last = max(at, begin), min(at + length, begin + extent.length)
            if first < last:
                found.append(Extent(extent.offset + first - begin, last - first))
            begin += extent.length
        return tuple(found)


@dataclass
class Places:
    """What lies at an offset of the image; of several answers the narrowest."""

    _spans: list[tuple[int, int, Stream]] = field(default_factory=list)
    _sorted: bool = True
    _longest: int = 0

    def add(self, streams: Iterable[Stream]) -> None:
        """Enter every extent of these streams, but of guesses at what belongs together."""
        for stream in streams:
            if len(stream.extents) > 1 and not stream.name:
                continue
            for extent in stream.extents:
                self._spans.append((extent.offset, extent.offset + extent.length, stream))
                self._longest = max(self._longest, extent.length)
                self._sorted = False

    def at(self, offset: int) -> Stream | None:
        """The narrowest stream that covers this byte."""
        if not self._sorted:
            self._spans.sort(key=lambda span: span[:2])
            self._sorted = True
        best: tuple[tuple[int, bool, bool], Stream] | None = None
        index = bisect_right(self._spans, offset, key=lambda span: span[0])
        while index > 0:
            index -= 1
            begin, end, stream = self._spans[index]
            if begin + self._longest <= offset:
                break
            rank = (end - begin, not stream.name, stream.state != LIVE)
            if end > offset and (best is None or rank < best[0]):
                best = (rank, stream)
        return best[1] if best else None

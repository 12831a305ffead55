"""LittleFS as it lies in the flash: files, and everything that was once in a file.

A file system keeps what it replaced until the block is erased: a thief reads every block, not the
live ones. So this reader plays the log of each metadata block, old ones as well, and follows the
block lists of files that no longer exist. Format: littlefs SPEC.md (on-disk version 2).
It believes nothing: each number is checked, each walk is bounded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from .stream import DELETED, LIVE, SUPERSEDED, Extent, Stream

ALIGNED = 4096  # file systems begin at a flash sector
_NOWHERE = 0xFFFFFFFF
_VERSIONS = 20_000  # of files in one file system; more is a hostile image
_OVERLAP = 2048  # bytes read on both sides of a block border of deleted data: a PEM key

_REGULAR, _DIRECTORY, _SUPER = 0x001, 0x002, 0x0FF
_DIR_STRUCT, _INLINE, _CTZ = 0x200, 0x201, 0x202
_CREATE, _DELETE = 0x401, 0x4FF
_CRC, _FORWARD_CRC = 0x500, 0x5FF
_HARD_TAIL = 0x601

Pair = tuple[int, int]


@dataclass(frozen=True)
class Superblock:
    """Where a file system lies in the image and how large it is."""

    offset: int
    block_size: int
    block_count: int

    @property
    def size(self) -> int:
        """Bytes that it covers."""
        return self.block_size * self.block_count


@dataclass(frozen=True)
class Version:
    """One content that a name had: inline bytes at `at`, or `size` bytes ending in block `at`."""

    name: str
    inline: bool
    at: int
    size: int


@dataclass
class _Entry:
    """A name in a directory while its log is played."""

    name: str = ""
    type: int = _REGULAR
    content: Version | None = None
    children: Pair | None = None


@dataclass
class Metadata:
    """One metadata block, its log played to the end."""

    revision: int
    entries: dict[int, _Entry] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    tail: Pair | None = None


def find(image: bytes) -> list[Superblock]:
    """Every file system in the image, by its superblock; overlapping ones are one."""
    found: list[Superblock] = []
    for match in re.finditer(b"littlefs", image):
        offset = match.start() - 8
        if offset < 0 or offset % ALIGNED or (found and offset < found[-1].offset + ALIGNED * 2):
            continue
        shape = _shape(image, offset)
        if shape is None or (found and offset < found[-1].offset + found[-1].size):
            continue
        block_size, count = shape
        offset = _first(image, offset, block_size, count)
        count = min(count, (len(image) - offset) // block_size)
        if count >= 2:
            found.append(Superblock(offset, block_size, count))
    return found


def _first(image: bytes, offset: int, block_size: int, count: int) -> int:
    """Where block 0 lies, of a superblock at `offset`: it stands in blocks 0 and 1, and a power
    cut may have left the second one alone."""
    before = offset - block_size
    if before < 0 or _shape(image, offset + block_size):
        return offset

    def files(base: int) -> tuple[int, int]:
        """How many there would be, and how much of them."""
        blocks = min(count, (len(image) - base) // block_size)
        system = FileSystem(image, Superblock(base, block_size, blocks))
        return len(system.live), sum(system.stream(path).size for path in system.live)

    return before if files(before) > files(offset) else offset


def _shape(image: bytes, offset: int) -> tuple[int, int] | None:
    """Block size and count that the superblock at `offset` gives."""
    tag = ~int.from_bytes(image[offset + 4 : offset + 8], "big") & 0xFFFFFFFF
    if (tag >> 20, tag & 0x3FF) != (_SUPER, 8):
        return None
    values = image[offset + 20 : offset + 32]
    if len(values) < 12:
        return None
    version, block_size, count = struct.unpack("<III", values)
    if version >> 16 != 2 or not 128 <= block_size <= 1 << 17 or block_size % 16:
        return None
    return block_size, count


class FileSystem:
    """One file system of an image; `streams()` gives all that can be read from it."""

    def __init__(self, image: bytes, superblock: Superblock, label: str = "vfs") -> None:
        self._image = image
        self._base = superblock.offset
        self._size = superblock.block_size
        self._count = superblock.block_count
        self._label = label
        self._metadata = {
            block: log for block in range(self._count) if (log := self._play(block)) is not None
        }
        self._owners: dict[int, str] = {}  # block: what lives in it
        self.directories: list[str] = []
        self.live = self._walk()

    def streams(self) -> Iterator[Stream]:
        """Live files, then superseded and deleted ones, then blocks that nothing names."""
        for path in self.live:
            yield self.stream(path)
        yield from self._blocks()
        known = set(self.live.values())
        names = {path.rsplit("/", 1)[-1] for path in self.live}
        budget = self._size * self._count  # bytes of old content that are put together
        for block, log in self._metadata.items():
            folder = self._owners.get(block, "?/")
            for version in log.versions:
                if version in known or len(known) > _VERSIONS or budget < 0:
                    continue
                known.add(version)
                path = folder + version.name
                state = SUPERSEDED if path in self.live or version.name in names else DELETED
                stream = self._stream(path, state, version)
                budget -= stream.size
                if stream.size:
                    yield stream
        yield from self._borders()

    def stream(self, path: str) -> Stream:
        """A live file by its path; `KeyError` when there is none."""
        return self._stream(path, LIVE, self.live[path])

    def _play(self, block: int) -> Metadata | None:
        """Play the log of a block; None when it has no commit with a right checksum."""
        begin = self._base + block * self._size
        data = self._image[begin : begin + self._size]
        revision = int.from_bytes(data[:4], "little")
        if revision == _NOWHERE or len(data) < 8 or data[4] & 0x80 == 0:
            return None
        log, commits = Metadata(revision), 0
        at, previous, crc = 4, 0xFFFFFFFF, _crc(data[:4])
        pending: list[tuple[int, int, int, int]] = []
        while at + 4 <= len(data):
            raw = int.from_bytes(data[at : at + 4], "big")
            tag = raw ^ previous
            length = 0 if tag & 0x3FF == 0x3FF else tag & 0x3FF
            if tag >> 31 or at + 4 + length > len(data):
                break
            crc = _crc(data[at : at + 4], crc)
            type = tag >> 20
            previous = tag
            if type & 0x780 == _CRC and type != _FORWARD_CRC:
                if length < 4 or int.from_bytes(data[at + 4 : at + 8], "little") != crc:
                    break
                previous ^= (type & 1) << 31
                crc = 0xFFFFFFFF
                commits += 1
                for one in pending:
                    self._apply(log, *one)
                pending = []
            else:
                crc = _crc(data[at + 4 : at + 4 + length], crc)
                pending.append((type, tag >> 10 & 0x3FF, tag & 0x3FF, begin + at + 4))
            at += 4 + length
        if commits == 0:
            return None
        # A commit that power cut short: its content is in the flash all the same.
        torn = Metadata(revision, {n: _Entry(e.name, e.type) for n, e in log.entries.items()})
        for one in pending:
            self._apply(torn, *one)
        log.versions += torn.versions
        return log

    def _apply(self, log: Metadata, type: int, id: int, size: int, at: int) -> None:
        """One tag of a log; `at` is where its data lies in the image."""
        entries = log.entries
        if type == _CREATE:
            log.entries = {n + (n >= id): entry for n, entry in entries.items()}
            return
        if type == _DELETE:
            entries.pop(id, None)
            log.entries = {n - (n > id): entry for n, entry in entries.items()}
            return
        if size == 0x3FF:  # an attribute was removed
            return
        data = self._image[at : at + size]
        if type >> 8 == 0 and type != _SUPER:
            entry = entries.setdefault(id, _Entry())
            entry.name, entry.type = data.decode("utf-8", "backslashreplace"), type
        elif type == _INLINE:
            entry = entries.setdefault(id, _Entry(type=_SUPER))
            entry.content = Version(entry.name, True, at, size)
            if entry.type == _REGULAR:
                log.versions.append(entry.content)
        elif type == _CTZ and size == 8:
            entry = entries.setdefault(id, _Entry())
            head, length = struct.unpack("<II", data)
            entry.content = Version(entry.name, False, head, length)
            log.versions.append(entry.content)
        elif type == _DIR_STRUCT and size == 8:
            entries.setdefault(id, _Entry()).children = struct.unpack("<II", data)
        elif type >> 8 == 6 and size == 8:
            log.tail = struct.unpack("<II", data) if type == _HARD_TAIL else None

    def _newest(self, pair: Pair) -> int | None:
        """The block of a pair that counts."""
        there = [block for block in pair if block in self._metadata]
        if len(there) < 2:
            return there[0] if there else None
        ahead = self._metadata[there[1]].revision - self._metadata[there[0]].revision
        return there[1] if 0 < ahead & 0xFFFFFFFF < 1 << 31 else there[0]

    def _walk(self) -> dict[str, Version]:
        """Live files by path, from the root down; notes which blocks are in use."""
        files: dict[str, Version] = {}
        waiting: list[tuple[str, Pair]] = [("/", (0, 1))]
        seen: set[int] = set()
        while waiting:
            folder, pair = waiting.pop()
            block = self._newest(pair)
            if block is None or block in seen:
                continue
            seen.add(block)
            self.directories.append(folder)
            self._owners.update(dict.fromkeys(pair, folder))
            log = self._metadata[block]
            if log.tail:
                waiting.append((folder, log.tail))
            for entry in log.entries.values():
                path = folder + entry.name
                if entry.type == _DIRECTORY and entry.children:
                    waiting.append((path + "/", entry.children))
                elif entry.type == _REGULAR and entry.content:
                    files[path] = entry.content
        for path, version in files.items():
            if not version.inline:
                for block, _ in self._chain(version):
                    self._owners.setdefault(block, path)
        return files

    def _chain(self, version: Version) -> list[tuple[int, Extent]]:
        """(block, extent) of a file in blocks, first one first; what cannot be is left out."""
        if not 0 < version.size <= self._size * self._count:
            return []
        block, found = version.at, []
        index, inside = _ctz(version.size - 1, self._size)
        left = inside + 1
        while index >= 0 and block < self._count:
            skip = 4 * (index & -index).bit_length() if index else 0
            begin = self._base + block * self._size
            found.append((block, Extent(begin + skip, max(0, left - skip))))
            block = int.from_bytes(self._image[begin : begin + 4], "little")
            index, left = index - 1, self._size
        return found[::-1]

    def _stream(self, path: str, state: str, version: Version) -> Stream:
        place = f"{self._label}:{path}"
        if version.inline:
            return Stream(place, state, (Extent(version.at, version.size),), path)
        extents = tuple(
            extent
            for block, extent in self._chain(version)
            if state == LIVE or block not in self._owners  # else it holds something newer
        )
        return Stream(place, state, extents, path)

    def _blocks(self) -> Iterator[Stream]:
        """Each block as a whole, for what lies outside every file."""
        for block in range(self._count):
            extent = Extent(self._base + block * self._size, self._size)
            owner = self._owners.get(block)
            if block in self._metadata:
                words = f"folder {owner}" if owner else "a folder that is gone"
                yield Stream(f"{self._label}: {words}, block {block}", SUPERSEDED, (extent,))
            elif owner:
                yield Stream(f"{self._label}:{owner}, block {block}", LIVE, (extent,))
            else:
                yield Stream(f"{self._label}: free block {block}", DELETED, (extent,))

    def _borders(self) -> Iterator[Stream]:
        """Deleted data across the border of two blocks whose file is no longer known.

        A block of a list begins with one to three pointers for seven blocks of eight, the first
        one to the block before it.
        """
        for block in range(self._count):
            if block in self._owners or block in self._metadata:
                continue
            begin = self._base + block * self._size
            before = int.from_bytes(self._image[begin : begin + 4], "little")
            if before >= self._count or before == block or before in self._metadata:
                continue
            end = self._base + (before + 1) * self._size
            for skip in (4, 8, 12):
                pointer = self._image[begin + skip - 4 : begin + skip]
                if int.from_bytes(pointer, "little") >= self._count:
                    break
                reach = min(_OVERLAP, self._size)
                yield Stream(
                    f"{self._label}: free blocks {before} and {block}",
                    DELETED,
                    (Extent(end - reach, reach), Extent(begin + skip, reach - skip)),
                )


def _ctz(at: int, block_size: int) -> tuple[int, int]:
    """(block index, offset in that block) of byte `at` of a file in blocks."""
    usable = block_size - 8
    index = at // usable
    if index == 0:
        return 0, at
    index = (at - 4 * ((index - 1).bit_count() + 2)) // usable
    return index, at - usable * index - 4 * index.bit_count()


def _crc(data: bytes, crc: int = 0xFFFFFFFF) -> int:
    """CRC-32 without the final inversion, as littlefs has it."""
    return zlib.crc32(data, crc ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

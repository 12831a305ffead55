"""What lies where in an image, by what the image itself says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from . import esp32, firmware, littlefs, nvs
from .stream import FIRMWARE, LIVE, Extent, Stream

FLASH_SECTOR = 4096
APPLICATION, NVS, FILES, OTHER = "application", "nvs", "files", "other"


@dataclass(frozen=True)
class Region:
    """A named part of the flash."""

    label: str
    kind: str
    offset: int
    size: int
    note: str = ""


@dataclass
class Layout:
    """The regions of an image, their readers, and what the program says of itself.

    `image` is the image as a thief reads it: NVS decrypted where its keys lie in the same flash.
    """

    image: bytes
    regions: list[Region]
    chip: str  # as the bootloader or application says; empty when it does not
    table: int  # offset of the partition table, 0 when none was found
    firmware: firmware.Firmware
    file_systems: list[littlefs.FileSystem] = field(default_factory=list)
    nvs: list[nvs.Partition] = field(default_factory=list)
    nvs_keys: list[Region] = field(default_factory=list)  # key partitions that lie in clear

    @property
    def blank(self) -> bool:
        """Whether there is next to nothing in the flash."""
        return self.image.count(b"\xff") > len(self.image) * 0.95

    @property
    def fat(self) -> int:
        """Offset of a FAT file system, 0 when there is none; its files are not read one by one."""
        at = self.image.find(b"MSDOS5.0")  # as FatFs formats
        return at - 3 if at > 3 and (at - 3) % FLASH_SECTOR == 0 else 0

    def areas(self) -> Iterator[Stream]:
        """The regions, to name what lies in none of their parts."""
        for region in self.regions:
            state = FIRMWARE if region.kind == APPLICATION else LIVE
            yield Stream(region.label, state, (Extent(region.offset, region.size),))

    def decrypted(self, offset: int) -> bool:
        """Whether this byte was decrypted with keys from the same flash."""
        return any(p.decrypted and p.offset <= offset < p.offset + p.size for p in self.nvs)

    def file(self, path: str) -> bytes | None:
        """A live file's content by its path on the board."""
        for files in self.file_systems:
            if path in files.live:
                return files.stream(path).read(self.image)
        return None

    def paths(self) -> list[str]:
        """All live files."""
        return [path for files in self.file_systems for path in files.live]


def read(image: bytes) -> Layout:
    """Find partition table, file systems, NVS and programs."""
    at, rows = esp32.table(image)
    chip = next(
        (
            name
            for begin in (0, 0x1000, *(p.offset for p in rows))
            if (name := esp32.chip(image, begin))
        ),
        "",
    )
    superblocks = littlefs.find(image)
    regions = [_row(image, row) for row in rows]
    if at:
        regions += [
            Region("bootloader", APPLICATION, 0, at),
            Region("partition table", OTHER, at, FLASH_SECTOR),
        ]
    regions += _nvs_without_table(image, regions)
    for number, block in enumerate(superblocks):
        label = "vfs" if number == 0 else f"vfs{number + 1}"
        end = block.offset + block.size
        regions = [
            r for r in regions if not (block.offset <= r.offset and r.offset + r.size <= end)
        ]
        regions.append(Region(label, FILES, block.offset, block.size, "LittleFS"))
    regions.sort(key=lambda region: region.offset)
    regions = sorted([*regions, *_gaps(image, regions, bool(at))], key=lambda r: r.offset)
    programs = [(r.offset, r.size) for r in regions if r.kind == APPLICATION]
    found = Layout(image, regions, chip, at, firmware.read(image, programs))
    for region in regions:
        if region.kind == FILES:
            block = next(b for b in superblocks if b.offset == region.offset)
            found.file_systems.append(littlefs.FileSystem(image, block, region.label))
    keys = b""
    for row in rows:
        if (row.type, row.subtype) == (esp32.DATA, esp32.NVS_KEYS):
            there = nvs.keys(image[row.offset : row.offset + row.size])
            if there:
                keys = there
                found.nvs_keys.append(_row(image, row))
    for region in regions:
        if region.kind == NVS:
            part = nvs.Partition(image, region.offset, region.size, region.label)
            if part.encrypted and keys:
                part = nvs.Partition(image, region.offset, region.size, region.label, keys)
                end = region.offset + region.size
                found.image = found.image[: region.offset] + part.data + found.image[end:]
            found.nvs.append(part)
    return found


def _row(image: bytes, row: esp32.Partition) -> Region:
    kind = OTHER
    if row.type == esp32.APP:
        kind = APPLICATION
    elif (row.type, row.subtype) == (esp32.DATA, esp32.NVS):
        kind = NVS
    size = min(row.size, len(image) - row.offset)
    return Region(row.label, kind, row.offset, size, "encrypted" if row.encrypted else "")


def _nvs_without_table(image: bytes, regions: list[Region]) -> list[Region]:
    """NVS where the partition table is missing or encrypted: a page carries its own checksum."""
    found: list[Region] = []
    known = [(r.offset, r.offset + r.size) for r in regions if r.kind == NVS]
    for at in range(0, len(image) - nvs.PAGE + 1, nvs.PAGE):
        if any(begin <= at < end for begin, end in known) or not nvs.is_page(image, at):
            continue
        if found and found[-1].offset + found[-1].size == at:
            last = found.pop()
            found.append(Region(last.label, NVS, last.offset, last.size + nvs.PAGE))
        else:
            label = "nvs" if not known and not found else f"nvs at {at:#x}"
            found.append(Region(label, NVS, at, nvs.PAGE))
    return found


def _gaps(image: bytes, regions: list[Region], table: bool) -> Iterator[Region]:
    """Parts of the flash that nothing claims; before the files of a Pico lies the program."""
    at = 0
    for region in [*regions, Region("end", OTHER, len(image), 0)]:
        if region.offset > at:
            words, kind = ("unassigned", OTHER) if table else ("program", APPLICATION)
            yield Region(words, kind, at, region.offset - at)
        at = max(at, region.offset + region.size)

"""UF2, the format of files that a Pico takes by drag and drop: its blocks, and the flash."""

from __future__ import annotations

import struct
from typing import NamedTuple

from .errors import FAILED, KitError

_BLOCK = 512
_HEAD = struct.Struct("<8I")
_BEGIN, _BEGIN2, _END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_NOT_FLASH = 0x1  # flag: comment, not for the flash
HAS_FAMILY = 0x2000  # flag: the last word of the head is the family's id
XIP = 0x10000000  # where a Pico's flash lies in its address space
_LARGEST = 32 << 20
_ABSOLUTE = 0xE48BFF57  # family of the block that works around erratum RP2350-E10; no content
_FAMILIES = {0xE48BFF56: "rp2040", 0xE48BFF59: "rp2350", 0xE48BFF5A: "rp2350"}


class Broken(ValueError):
    """A file is no whole UF2 file; the words say of it why."""


class Block(NamedTuple):
    """One block; `content` is for `address`."""

    flags: int
    address: int
    number: int
    family: int
    content: bytes


def is_uf2(data: bytes) -> bool:
    """Whether the data begins with a block of a UF2 file."""
    return data[:8] == struct.pack("<II", _BEGIN, _BEGIN2)


def blocks(data: bytes) -> list[Block]:
    """The blocks that hold something. `Broken` when the file is cut off, or a block of it is
    damaged or missing."""
    if not data or len(data) % _BLOCK:
        raise Broken("it is cut off, or no UF2 file")
    found = []
    numbers: dict[int, list[tuple[int, int]]] = {}  # of each family: number and count
    for at in range(0, len(data), _BLOCK):
        one, two, flags, address, size, number, count, family = _HEAD.unpack_from(data, at)
        end = int.from_bytes(data[at + _BLOCK - 4 : at + _BLOCK], "little")
        if (one, two, end) != (_BEGIN, _BEGIN2, _END) or size > 476:
            raise Broken(f"its block {at // _BLOCK} is damaged")
        if family == _ABSOLUTE:
            continue
        numbers.setdefault(family, []).append((number, count))
        begin = at + _HEAD.size
        found.append(Block(flags, address, number, family, data[begin : begin + size]))
    for listed in numbers.values():
        if listed != [(number, len(listed)) for number in range(len(listed))]:
            raise Broken("blocks are missing in it")
    return found


def flash(data: bytes) -> tuple[bytes, str]:
    """The flash image, blank where the file says nothing, and the chip that the file names, empty
    for one that is not known. `KitError` for what is not whole: it cannot be searched."""
    try:
        listed = blocks(data)
    except Broken as e:
        raise KitError(f"This UF2 file cannot be searched: {e}.", FAILED) from None
    pieces = []
    for block in listed:
        offset = block.address - XIP if block.address >= XIP else block.address
        if not block.flags & _NOT_FLASH and offset + len(block.content) <= _LARGEST:
            pieces.append((offset, block.content))
    if not pieces:
        raise KitError("This UF2 file holds nothing for the flash.", FAILED)
    image = bytearray(b"\xff") * max(offset + len(piece) for offset, piece in pieces)
    for offset, piece in pieces:
        image[offset : offset + len(piece)] = piece
    chips = (_FAMILIES[block.family] for block in listed if block.family in _FAMILIES)
    return bytes(image), next(chips, "")

"""UF2, the format of files that a Pico takes by drag and drop, as the flash it would become."""

from __future__ import annotations

import struct

from ..errors import FAILED, KitError

_BLOCK = 512
_BEGIN, _BEGIN2, _END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_NOT_FLASH = 0x1  # flag: comment, not for the flash
XIP = 0x10000000  # where a Pico's flash lies in its address space
_LARGEST = 32 << 20
_ABSOLUTE = 0xE48BFF57  # family of the block that works around erratum RP2350-E10; no content
_FAMILIES = {0xE48BFF56: "rp2040", 0xE48BFF59: "rp2350", 0xE48BFF5A: "rp2350"}


def is_uf2(data: bytes) -> bool:
    """Whether the data begins with a block of a UF2 file."""
    return data[:8] == struct.pack("<II", _BEGIN, _BEGIN2)


def chip(data: bytes) -> str:
    """The chip that the file names, empty for one that is not known."""
    named = (
        int.from_bytes(data[at + 28 : at + 32], "little") for at in range(0, len(data), _BLOCK)
    )
    return next((_FAMILIES[family] for family in named if family in _FAMILIES), "")


def flash(data: bytes) -> bytes:
    """The flash image, blank where the file says nothing; `KitError` when a block is broken or
    lacking: what is not there cannot be searched."""
    pieces: list[tuple[int, bytes]] = []
    numbers: dict[int, list[tuple[int, int]]] = {}  # of each family: number and count
    if len(data) % _BLOCK:
        raise KitError("This UF2 file is cut off.", FAILED)
    for at in range(0, len(data), _BLOCK):
        begin, begin2, flags, address, size = struct.unpack_from("<IIIII", data, at)
        number, count, family = struct.unpack_from("<III", data, at + 20)
        (end,) = struct.unpack_from("<I", data, at + _BLOCK - 4)
        if (begin, begin2, end) != (_BEGIN, _BEGIN2, _END) or size > 476:
            raise KitError(f"Block {at // _BLOCK} of this UF2 file is damaged.", FAILED)
        if family == _ABSOLUTE:
            continue
        numbers.setdefault(family, []).append((number, count))
        offset = address - XIP if address >= XIP else address
        if not flags & _NOT_FLASH and offset + size <= _LARGEST:
            pieces.append((offset, data[at + 32 : at + 32 + size]))
    if any(
        found != [(number, len(found)) for number in range(len(found))]
        for found in numbers.values()
    ):
        raise KitError("Blocks are missing in this UF2 file.", FAILED)
    if not pieces:
        raise KitError("This UF2 file holds nothing for the flash.", FAILED)
    image = bytearray(b"\xff") * max(offset + len(piece) for offset, piece in pieces)
    for offset, piece in pieces:
        image[offset : offset + len(piece)] = piece
    return bytes(image)

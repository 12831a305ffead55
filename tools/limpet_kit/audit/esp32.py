"""What lies where in an ESP32's flash: partition table and the head of an application image."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_ENTRY, _MD5 = b"\xaa\x50", b"\xeb\xeb"
_AT = (0x8000, 0x7000)  # a whole dump; an image that begins at 0x1000, as MicroPython's for ESP32
_CHIPS = {0: "esp32", 2: "esp32s2", 5: "esp32c3", 9: "esp32s3", 13: "esp32c6"}
APP, DATA = 0, 1
NVS, NVS_KEYS = 0x02, 0x04


@dataclass(frozen=True)
class Partition:
    """One row of the table; `offset` counts in the image."""

    label: str
    type: int
    subtype: int
    offset: int
    size: int
    encrypted: bool


def table(image: bytes) -> tuple[int, list[Partition]]:
    """(offset of the table in the image, its rows); (0, []) when there is none."""
    for at in (*_AT, *range(0x9000, 0x20000, 0x1000)):
        rows = []
        for row in range(at, at + 0xC00, 32):
            if image[row : row + 2] != _ENTRY:
                break
            type, subtype, offset, size, label, flags = struct.unpack_from(
                "<BBII16sI", image, row + 2
            )
            name = label.split(b"\0")[0].decode("ascii", "backslashreplace")
            shift = 0x1000 if at == 0x7000 else 0
            rows.append(Partition(name, type, subtype, offset - shift, size, bool(flags & 1)))
        if rows and (image[row : row + 2] == _MD5 or len(rows) > 1):
            return at, [p for p in rows if 0 <= p.offset < len(image)]
    return 0, []


def chip(image: bytes, at: int) -> str:
    """The chip that the application image at this offset is for, empty when there is no image."""
    if image[at : at + 1] != b"\xe9" or len(image) < at + 24:
        return ""
    segments = image[at + 1]
    number = int.from_bytes(image[at + 12 : at + 14], "little")
    return _CHIPS.get(number, "") if 0 < segments <= 16 else ""

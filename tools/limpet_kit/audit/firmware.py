"""What can be said about the program in an image: whose it is, and what is frozen into it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERSION = re.compile(rb"MicroPython (v?\d+\.\d+[\w.+-]*)")
_CHIP = re.compile(rb" with (RP2040|RP2350|ESP32(?:S2|S3|C3|C6)?)\b")
_FROZEN = re.compile(rb"(?:[A-Za-z0-9_][A-Za-z0-9_/]{0,47}\.(?:py|mpy)\0){2,}")
_TELLING = re.compile(r"(?:^|/)(?:secrets?|credentials?|webrepl_cfg|wifi_?cfg)\.m?py\Z")


@dataclass(frozen=True)
class Firmware:
    """`version` and `chip` are empty where nothing says them; `frozen` are module files."""

    version: str
    chip: str
    frozen: tuple[str, ...]
    offset: int  # where the list of frozen modules stands

    @property
    def telling(self) -> list[str]:
        """Frozen modules whose name says that there are secrets in them."""
        return [name for name in self.frozen if _TELLING.search(name)]


def read(image: bytes, areas: list[tuple[int, int]]) -> Firmware:
    """Look at the areas (offset, size) of an image that hold programs."""
    version, chip, frozen, offset = "", "", b"", 0
    for begin, size in areas:
        match = _VERSION.search(image, begin, begin + size)
        if match and not version:
            version = match.group(1).decode()
        match = _CHIP.search(image, begin, begin + size)
        if match and not chip:
            chip = match.group(1).decode().lower()
        for names in _FROZEN.finditer(image, begin, begin + size):
            if len(names.group()) > len(frozen):
                frozen, offset = names.group(), names.start()
    modules = tuple(name.decode() for name in frozen.split(b"\0")[:-1])
    return Firmware(version, chip, modules, offset)

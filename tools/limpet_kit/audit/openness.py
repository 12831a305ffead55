"""Which ways into a board are open, and by what each is closed.

Fuses come from `espefuse summary --format json`; where that is not allowed any more, from
`esptool get-security-info`. What was not measured is unknown, and unknown is not closed.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import USAGE, KitError
from .layout import Layout

OPEN, CLOSED, UNKNOWN = "open", "closed", "unknown"
_NAMES_WEBREPL = re.compile(rb"^[^#\n]*\bwebrepl\b", re.M)  # outside a comment
_START_WEBREPL = re.compile(rb"^[^#\n]*\bwebrepl\s*\.\s*start\b", re.M)
_WEBREPL_CFG = re.compile(r"/webrepl_cfg\.m?py\Z")
WAYS = {
    "repl": "the prompt on the serial port",
    "webrepl": "the prompt over the network",
    "download": "the boot loader reads the flash (ROM download, BOOTSEL)",
    "debug": "JTAG or SWD",
    "clip": "a clip on the flash chip, or the chip taken off",
    "code": "own code on the chip, which uses its keys",
    "key": "a key that no copy of the flash holds",
    "files": "the file system in the flash",
    "application": "programs in the file system, which can be changed",
}


@dataclass(frozen=True)
class Way:
    """One way in: `name` as ladders use it, `state` open, closed or unknown, `by` the reason."""

    name: str
    state: str
    by: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {**asdict(self), "words": WAYS[self.name]}


class Fuses:
    """Fuses of an ESP32 family chip, by name."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    @classmethod
    def parse(cls, text: str) -> Fuses:
        """espefuse's summary in JSON, its banner around it allowed; `KitError` otherwise."""
        begin, end = text.find("{"), text.rfind("}")
        try:
            values = json.loads(text[begin : end + 1])
            for name, one in values.items():
                int(str(one.get("raw_value", "0x0")).split()[0], 0)
                str(name)
        except (ValueError, AttributeError, RecursionError, IndexError):
            raise KitError(
                "This is no fuse summary. Make one with: espefuse --port PORT summary --format "
                "json > fuses.json",
                USAGE,
            ) from None
        return cls(values)

    def has(self, name: str) -> bool:
        """Whether this chip has such a fuse."""
        return name in self._values

    def number(self, name: str) -> int:
        """The raw value, 0 for a fuse that this chip does not have."""
        one = self._values.get(name, {})
        return int(str(one.get("raw_value", "0x0")).split()[0], 0)

    def hidden(self, name: str) -> bool:
        """Whether software can no longer read it."""
        return self._values.get(name, {}).get("readable") is False

    def purposes(self) -> dict[str, str]:
        """Key block: what it is for."""
        return {
            f"BLOCK_KEY{name.rsplit('_', 1)[1]}": str(one.get("value"))
            for name, one in self._values.items()
            if name.startswith("KEY_PURPOSE_")
        }


def judge(
    parts: Layout,
    chip: str,
    fuses: Fuses | None = None,
    security: str = "",
    prompt: bool | None = None,
    plain: Layout | None = None,
) -> list[Way]:
    """The state of each way.

    `prompt` is whether the REPL answered, None when it was not tried. `plain` is what was flashed
    before the chip encrypted it: an encrypted flash does not show what its files configure.
    """
    inside = parts if parts.file_systems or plain is None else plain
    return [
        _repl(prompt),
        _webrepl(inside),
        *_chip(chip, fuses, security),
        _files(parts),
        _application(inside),
    ]


def _repl(prompt: bool | None) -> Way:
    if prompt is None:
        return Way("repl", UNKNOWN, "not tried; stock MicroPython has one")
    if prompt:
        return Way("repl", OPEN, "it answered")
    return Way("repl", CLOSED, "no answer on this port after a reset; a board may have another")


def _webrepl(parts: Layout) -> Way:
    if not parts.file_systems:
        return Way("webrepl", *_no_files(parts))
    for path in _programs(parts):
        if _WEBREPL_CFG.search(path):
            return Way("webrepl", OPEN, f"{path} holds its password")
        if path.endswith(".py") and _START_WEBREPL.search(parts.file(path) or b""):
            return Way("webrepl", OPEN, f"{path} starts it")
    for path in _programs(parts):
        content = parts.file(path) or b""
        if _NAMES_WEBREPL.search(content) if path.endswith(".py") else b"webrepl" in content:
            return Way("webrepl", UNKNOWN, f"{path} names it")
    return Way("webrepl", CLOSED, "nothing in the files configures it")


def _no_files(parts: Layout) -> tuple[str, str]:
    """What an image without a readable file system says of its files."""
    if parts.fat:
        return (
            UNKNOWN,
            f"the FAT file system at {parts.fat:#x} is searched, its files are not read",
        )
    if parts.firmware.version:
        return CLOSED, "the image holds a program and no files"
    return UNKNOWN, "no file system was found that can be read"


def _files(parts: Layout) -> Way:
    if parts.file_systems:
        return Way("files", OPEN, "LittleFS lies there in clear")
    if parts.fat:
        return Way("files", OPEN, "FAT lies there in clear")
    if parts.firmware.version or parts.blank:
        return Way("files", UNKNOWN, "there are none in this image")
    return Way("files", CLOSED, "no file system can be read")


def _programs(parts: Layout) -> list[str]:
    """Paths of the modules in the files."""
    return [path for path in parts.paths() if path.endswith((".py", ".mpy"))]


def _application(parts: Layout) -> Way:
    programs = _programs(parts)
    if programs:
        return Way("application", OPEN, f"{len(programs)} modules in the files, as {programs[0]}")
    if parts.file_systems:
        return Way("application", CLOSED, "no module in the files")
    return Way("application", UNKNOWN, "the files cannot be read")


def _chip(chip: str, fuses: Fuses | None, security: str) -> list[Way]:
    if chip == "rp2040":
        return [
            Way("download", OPEN, "BOOTSEL cannot be switched off on this chip"),
            Way("debug", OPEN, "SWD cannot be switched off on this chip"),
            Way("clip", OPEN, "the flash is a chip of its own"),
            Way("code", OPEN, "this chip starts whatever is in its flash"),
            Way("key", OPEN, "this chip has no place for one"),
        ]
    if not chip.startswith("esp32"):
        clip = Way("clip", OPEN, "the flash is a chip of its own and not encrypted")
        names = ("download", "debug", "code", "key")
        ways = [Way(name, UNKNOWN, "fuses were not read") for name in names]
        return [*ways, clip if chip == "rp2350" else Way("clip", UNKNOWN, "not known")]
    if fuses is None:
        return _security(security)
    return _esp32(fuses) if fuses.has("ABS_DONE_1") else _esp32_later(fuses)


def _fuse(name: str, closed: bool, words: str) -> Way:
    return Way(name, CLOSED if closed else OPEN, words)


def _esp32(fuses: Fuses) -> list[Way]:
    """The classic ESP32."""
    count = fuses.number("FLASH_CRYPT_CNT")
    limits = ("DISABLE_DL_ENCRYPT", "DISABLE_DL_DECRYPT", "DISABLE_DL_CACHE")
    release = count.bit_count() % 2 == 1 and count == 0x7F and all(map(fuses.number, limits))
    no_download = bool(fuses.number("UART_DOWNLOAD_DIS"))
    no_jtag = bool(fuses.number("JTAG_DISABLE"))
    signed = bool(fuses.number("ABS_DONE_1"))
    return [
        _fuse("download", no_download, f"UART_DOWNLOAD_DIS {no_download:d}"),
        _fuse("debug", no_jtag, f"JTAG_DISABLE {no_jtag:d}"),
        _fuse(
            "clip",
            release and fuses.hidden("BLOCK1"),
            f"FLASH_CRYPT_CNT {count:#x}, {'release' if release else 'no release'} mode",
        ),
        _fuse("code", signed, f"secure boot v2: ABS_DONE_1 {signed:d}"),
        Way("key", OPEN, "this chip has no HMAC peripheral"),
    ]


def _esp32_later(fuses: Fuses) -> list[Way]:
    """ESP32-S2, S3, C3, C6."""
    count = fuses.number("SPI_BOOT_CRYPT_CNT")
    encrypted = count.bit_count() % 2 == 1
    release = encrypted and bool(fuses.number("DIS_DOWNLOAD_MANUAL_ENCRYPT"))
    purposes = fuses.purposes()
    hmac = [block for block, what in purposes.items() if what in ("HMAC_UP", "HMAC_ALL")]
    flash = [block for block, what in purposes.items() if what.startswith("XTS_AES")]
    key = any(fuses.hidden(block) for block in hmac)
    release = release and any(fuses.hidden(block) for block in flash)
    none, secure = fuses.number("DIS_DOWNLOAD_MODE"), fuses.number("ENABLE_SECURITY_DOWNLOAD")
    jtag = {
        name: fuses.number(name)
        for name in ("DIS_PAD_JTAG", "HARD_DIS_JTAG", "DIS_USB_JTAG", "SOFT_DIS_JTAG")
        if fuses.has(name)
    }
    hard = all(value for name, value in jtag.items() if name != "SOFT_DIS_JTAG")
    soft = "SOFT_DIS_JTAG" not in jtag or jtag["SOFT_DIS_JTAG"].bit_count() % 2 == 1
    signed = bool(fuses.number("SECURE_BOOT_EN"))
    words = ", ".join(f"{name} {value}" for name, value in jtag.items())
    return [
        _fuse(
            "download",
            bool(none or secure),
            f"DIS_DOWNLOAD_MODE {none}, ENABLE_SECURITY_DOWNLOAD {secure}",
        ),
        _fuse("debug", bool(jtag) and hard and soft, words or "no such fuse"),
        _fuse(
            "clip",
            release,
            f"SPI_BOOT_CRYPT_CNT {count:#x}, {'release' if release else 'no release'} mode",
        ),
        _fuse("code", signed, f"secure boot v2: SECURE_BOOT_EN {signed:d}"),
        _fuse("key", key, f"HMAC key in {hmac[0]}" if hmac else "no HMAC key in the fuses"),
    ]


def _security(text: str) -> list[Way]:
    """What get-security-info says: no read protection of keys, no release mode, no USB JTAG."""
    flags = re.search(r"^Flags: 0x([0-9a-f]{1,8})", text, re.M | re.I)
    if not flags:
        names = ("download", "debug", "clip", "code", "key")
        return [Way(name, UNKNOWN, "fuses were not read") for name in names]
    value = int(flags.group(1), 16)
    encrypted = "Flash Encryption: Enabled" in text
    words = "get-security-info: "
    return [
        _fuse("download", bool(value & 1 << 2), f"{words}SECURE_DOWNLOAD_ENABLE {value >> 2 & 1}"),
        Way(
            "debug", UNKNOWN if value & 1 << 7 else OPEN, f"{words}HARD_DIS_JTAG {value >> 7 & 1}"
        ),
        Way(
            "clip",
            UNKNOWN if encrypted else OPEN,
            words + ("encrypted, in which mode it does not say" if encrypted else "not encrypted"),
        ),
        _fuse("code", bool(value & 1), f"{words}SECURE_BOOT_EN {value & 1}"),
        Way("key", UNKNOWN, f"{words}does not say whether software can read it"),
    ]

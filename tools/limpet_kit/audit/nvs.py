"""ESP-IDF's non-volatile storage: live entries and erased ones, which stay where they were.

Erasing a key flips two bits of its state and nothing else. Format: ESP-IDF, nvs_flash,
"Internals".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .stream import DELETED, ERASED, LIVE, Extent, Stream

PAGE = 4096
_ENTRY = 32
_ENTRIES = 126
_STATES = (0xFFFFFFFE, 0xFFFFFFFC, 0xFFFFFFF8, 0xFFFFFFF0)  # active, full, freeing, corrupt
_WRITTEN, _ERASED = 2, 0
_NUMBERS = {0x01: 1, 0x11: 1, 0x02: 2, 0x12: 2, 0x04: 4, 0x14: 4, 0x08: 8, 0x18: 8}
_STRING, _OLD_BLOB, _BLOB, _INDEX = 0x21, 0x41, 0x42, 0x48
_TYPES = {*_NUMBERS, _STRING, _OLD_BLOB, _BLOB, _INDEX}


@dataclass(frozen=True)
class Entry:
    """One entry: namespace number, type, key, chunk, where its value lies."""

    namespace: int
    type: int
    key: str
    chunk: int
    state: str
    value: Extent
    intact: bool  # the checksum of the value holds


class Partition:
    """One NVS partition of an image; with `keys`, 64 bytes, its entries are decrypted first."""

    def __init__(
        self, image: bytes, offset: int, size: int, label: str = "nvs", keys: bytes = b""
    ) -> None:
        self._data = image[offset : offset + size]
        self.offset = offset
        self.size = len(self._data)
        self.decrypted = bool(keys)
        self._label = label
        self.pages = 0
        self._written = 0
        self._unread = 0
        if keys:
            self._data = self._decrypt(keys)
        self.entries = [entry for page in self._pages() for entry in self._read(page)]

    @property
    def data(self) -> bytes:
        """The partition, decrypted where keys were given."""
        return self._data

    @property
    def encrypted(self) -> bool:
        """Pages are there, and none of what is written in them can be read."""
        return self._written > 0 and self._unread == self._written

    def streams(self) -> Iterator[Stream]:
        """Strings and blobs, chunks of one blob joined, then each page as a whole."""
        names = {
            self._data[e.value.offset - self.offset]: e.key
            for live in (False, True)
            for e in self.entries
            if e.namespace == 0 and e.type == 1 and (e.state == LIVE) == live
        }
        open_blobs: dict[tuple[int, str, str], tuple[int, list[Extent]]] = {}
        for entry in self.entries:
            if entry.namespace == 0 or entry.type == _INDEX:
                continue
            name = f"{names.get(entry.namespace, entry.namespace)}/{entry.key}"
            if entry.type != _BLOB:
                yield self._stream(name, entry.state, [entry.value])
                continue
            # Chunks are numbered from 0 or, after the next write, from 128.
            key = (entry.namespace, entry.key, f"{entry.state} {entry.chunk >> 7}")
            chunk, extents = open_blobs.get(key, (entry.chunk - 1, []))
            if chunk + 1 != entry.chunk:
                yield self._stream(name, entry.state, extents)
                extents = []
            open_blobs[key] = (entry.chunk, [*extents, entry.value])
        for (namespace, key_name, state), (_, extents) in open_blobs.items():
            name = f"{names.get(namespace, namespace)}/{key_name}"
            yield self._stream(name, state.split()[0], extents)
        for page in self._pages():
            extent = Extent(self.offset + page, PAGE)
            yield Stream(f"{self._label}: page {page // PAGE}", DELETED, (extent,))

    def _stream(self, name: str, state: str, extents: list[Extent]) -> Stream:
        return Stream(f"{self._label}:{name}", state, tuple(extents), name)

    def _pages(self) -> Iterator[int]:
        for page in range(0, len(self._data) - PAGE + 1, PAGE):
            if is_page(self._data, page):
                yield page

    def _read(self, page: int) -> Iterator[Entry]:
        """The entries of one page whose own checksum holds."""
        self.pages += 1
        number = 0
        while number < _ENTRIES:
            state = self._data[page + 32 + number // 4] >> number % 4 * 2 & 3
            at = page + 64 + number * _ENTRY
            head = self._data[at : at + _ENTRY]
            number += 1
            if head == b"\xff" * _ENTRY or state not in (_WRITTEN, _ERASED):
                continue
            namespace, type, span, chunk, crc = struct.unpack_from("<BBBBI", head)
            self._written += state == _WRITTEN
            if type not in _TYPES or _crc(head[:4] + head[8:]) != crc:
                self._unread += state == _WRITTEN
                continue
            begin, length, intact = at + 24, _NUMBERS.get(type, 8), True
            if type in (_STRING, _OLD_BLOB, _BLOB):
                length, _, crc = struct.unpack_from("<HHI", head, 24)
                begin, end = at + _ENTRY, page + PAGE
                length = min(length, end - begin)
                intact = _crc(self._data[begin : begin + length]) == crc
                number += max(0, min(span - 1, (length + 31) // 32)) if intact else 0
            yield Entry(
                namespace,
                type,
                head[8:24].split(b"\0")[0].decode("ascii", "backslashreplace"),
                chunk,
                LIVE if state == _WRITTEN else ERASED,
                Extent(self.offset + begin, length),
                intact,
            )

    def _decrypt(self, keys: bytes) -> bytes:
        """Every entry by AES-256-XTS; the tweak is the entry's place in the partition."""
        data = bytearray(self._data)
        for page in self._pages():
            for at in range(page + 64, page + PAGE, _ENTRY):
                entry = bytes(data[at : at + _ENTRY])
                if entry != b"\xff" * _ENTRY:
                    tweak = modes.XTS(at.to_bytes(16, "little"))
                    cipher = Cipher(algorithms.AES(keys), tweak).decryptor()
                    data[at : at + _ENTRY] = cipher.update(entry)
        return bytes(data)


def is_page(data: bytes, at: int) -> bool:
    """Whether a page begins here: its head carries a checksum, and is never encrypted."""
    head = data[at : at + 32]
    state = int.from_bytes(head[:4], "little")
    return state in _STATES and _crc(head[4:28]) == int.from_bytes(head[28:32], "little")


def keys(partition: bytes) -> bytes | None:
    """The 64 bytes of a key partition that lies there in clear, None when it does not."""
    found, crc = partition[:64], int.from_bytes(partition[64:68], "little")
    return found if len(found) == 64 and _crc(found) == crc and found != b"\xff" * 64 else None


def _crc(data: bytes) -> int:
    return zlib.crc32(data, 0xFFFFFFFF)

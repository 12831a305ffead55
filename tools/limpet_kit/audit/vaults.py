"""Limpet's own records in an image, and whether what lies beside them opens them.

The source of this kit is public: a thief knows where a record's key lies. A record of source
`soft` therefore opens; that is what the words "obfuscated, not encrypted" mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .. import protocol
from ..secret import Secret

_MAGIC = b"LMPT\x01"
_LARGEST = 80 + protocol.LARGEST
_RECORDS = 64  # looked at in one image; a board has two and their remains
KEY_SIZE = 32
NO_KEY = "no key at all"


@dataclass(frozen=True)
class Record:
    """A sealed record at `offset`; `opened` by a key from the same image, and by which."""

    offset: int
    length: int
    source: int
    generation: int
    vault_id: bytes
    opened: str  # "" closed, otherwise words on the key

    @property
    def source_name(self) -> str:
        """The name of its key source."""
        return protocol.SOURCES.get(self.source, ("unknown", ""))[0]


def find(image: bytes, keys: Iterable[bytes]) -> Iterator[Record]:
    """Every record of the image, tried with each of the 32-byte values found in it."""
    candidates = [Secret(key) for key in dict.fromkeys(keys)]
    at = image.find(_MAGIC)
    found = 0
    while at >= 0 and found < _RECORDS:
        length = 80 + int.from_bytes(image[at + 14 : at + 16], "big")
        box = image[at : at + min(length, _LARGEST)]
        head = protocol.record_head(box)
        if head:
            found += 1
            source, generation, vault_id = head
            opened = ""
            if protocol.decrypt_unproven(box, Secret(bytes(KEY_SIZE))):
                opened = NO_KEY
            elif any(protocol.decrypt_unproven(box, key) for key in candidates):
                opened = "a key in the same flash"
            yield Record(at, len(box), source, generation, vault_id, opened)
        at = image.find(_MAGIC, at + 1)

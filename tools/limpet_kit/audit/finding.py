"""One thing that a thief gets, and how openly it lies there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

CANARY = "canary"
RECORD = "limpet record"
SECRET_MODULE = "frozen module"
NVS_KEYS = "NVS keys"

NONE = "none"  # no secret is lost: a certificate is public, a sealed record stays closed
CLEAR = "clear"  # a secret that can simply be read
SOFT = "soft"  # a secret whose key lies in the same flash


@dataclass(frozen=True)
class Finding:
    """A secret's kind and place; never its value.

    `offset` and `length` count bytes of the image, `place` is the file, NVS key or region, `state`
    how it came to be there (stream.py), `form` how it was written, `exposure` how openly it lies.
    """

    kind: str
    words: str
    offset: int
    length: int
    place: str
    state: str
    form: str
    exposure: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

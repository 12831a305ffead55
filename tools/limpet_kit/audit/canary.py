"""Known secrets, and the forms in which a flash image may hold them.

A binary credential has no signature of its own: only whoever knows it can look for it. So the
audit takes canaries, given as values or, where the value should not be kept, as digests.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..errors import USAGE, KitError
from ..secret import Secret

FRAGMENT = 16  # bytes of a value that survive a cut and are still proof
SHORTEST = 4  # bytes; anything shorter is found everywhere by chance
_VARIED = 3  # different bytes; blank flash is full of one or two
_DENSE = 64  # up to this length every offset of a value is a fragment, above it each sixteenth
_HINT = 2  # bytes of a fragment that its digest shows, so that looking for it takes no time

_HEX = re.compile(rb"[0-9A-Fa-f]{32,}")
_SEPARATED = re.compile(rb"(?:[0-9A-Fa-f]{2}[: ]){15,}[0-9A-Fa-f]{2}")
_PLAIN = rb"[ -\[\]-~]{0,32}"  # what Python leaves as it is in bytes that it escapes
_ESCAPED = re.compile(
    rb"\\x[0-9A-Fa-f]{2}(?:" + _PLAIN + rb"\\(?:x[0-9A-Fa-f]{2}|[\\'\"nrt]))*" + _PLAIN
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{22,}")
_STANDARD = bytes.maketrans(b"-_", b"+/")

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Digest:
    """One fragment of a value that is not known here: its first bytes and its SHA-256.

    The hint leaves 112 of a random fragment's 128 bits to guess. Never make one from a value that
    people chose, such as a Wi-Fi key: that can be guessed.
    """

    hint: bytes
    sha256: bytes


@dataclass(frozen=True)
class Canary:
    """A name and either the value or the digests of its 16-byte fragments."""

    name: str
    value: Secret | None = None
    digests: tuple[Digest, ...] = ()

    @classmethod
    def of(cls, name: str, value: bytes | Secret) -> Canary:
        """A canary whose value is known; `KitError` when it is too short to mean anything."""
        secret = value if isinstance(value, Secret) else Secret(bytes(value))
        if len(secret) < SHORTEST or len(set(secret.reveal())) < _VARIED:
            raise KitError(
                f"The canary {name!r} would be found everywhere by chance; give one of at least "
                f"{SHORTEST} bytes, {_VARIED} of them different.",
                USAGE,
            )
        return cls(name, secret)

    @classmethod
    def parse(cls, line: str) -> Canary:
        """One line of a canary file: `NAME text|hex|base64|digest DATA`; `KitError` otherwise."""
        name, _, rest = line.strip().partition(" ")
        form, _, data = rest.strip().partition(" ")
        readers: dict[str, Callable[[str], bytes]] = {
            "text": str.encode,
            "hex": bytes.fromhex,
            "base64": lambda text: base64.b64decode(text, validate=True),
        }
        try:
            if form == "digest" and data.split():
                return cls(name, digests=tuple(_digest(word) for word in data.split()))
            return cls.of(name, readers[form](data.strip()))
        except (KeyError, ValueError):
            raise KitError(
                "A line of a canary file is NAME, one of text, hex, base64 and digest, and the "
                "value in that form; one is not.",  # which one: it may be a secret alone
                USAGE,
            ) from None

    def digested(self) -> Canary:
        """The same canary without its value; only for values that were drawn at random.

        Raises `KitError` for a value shorter than a fragment: its digest could be guessed.
        """
        value = self.value.reveal() if self.value else b""
        if len(value) < FRAGMENT:
            raise KitError(f"The canary {self.name!r} is too short to be kept as a digest.", USAGE)
        return Canary(
            self.name,
            digests=tuple(
                Digest(part[:_HINT], hashlib.sha256(part).digest())
                for part in _fragments(value, FRAGMENT, FRAGMENT)
            ),
        )

    def line(self) -> str:
        """The line of a canary file for a digested canary."""
        words = " ".join((d.hint + d.sha256).hex() for d in self.digests)
        return f"{self.name} digest {words}"


def digests(unit: str, **drawn: Secret) -> list[str]:
    """Lines of a canary file for secrets that were drawn at random, kind to value; never for a
    Wi-Fi key or whatever else people chose."""
    return [Canary.of(f"{unit}:{kind}", value).digested().line() for kind, value in drawn.items()]


@dataclass(frozen=True)
class Hit:
    """Where a canary was found: `form` raw, hex, base64, utf-16, escaped; whole or a fragment."""

    name: str
    form: str
    offset: int
    length: int
    whole: bool


def search(image: Buffer, canaries: Iterable[Canary]) -> list[Hit]:
    """Every place of `image` that holds a canary or a fragment of one, in order of offset."""
    data = bytes(image)
    return sorted(
        (hit for canary in canaries for hit in _find(data, canary)),
        key=lambda hit: (hit.offset, hit.name, hit.form),
    )


def _find(data: bytes, canary: Canary) -> Iterator[Hit]:
    if canary.value is None:
        yield from _find_digests(data, canary)
        return
    value = canary.value.reveal()
    for form, pattern, size in _forms(value):
        found = [(at, len(pattern)) for at in _all(data, pattern)]
        for at, length in found:
            yield Hit(canary.name, form, at, length, True)
        step = 1 if len(pattern) <= _DENSE else size
        pieces = {
            (at, size)
            for part in _fragments(pattern, size, step)
            for at in _all(data, part)
            if not any(begin <= at < begin + length for begin, length in found)
        }
        for at, length in _joined(pieces):
            yield Hit(canary.name, form, at, length, False)


def _find_digests(data: bytes, canary: Canary) -> Iterator[Hit]:
    """Fragments that are no longer known: hash only where a hint stands."""
    wanted = {digest.sha256 for digest in canary.digests}
    hints = b"|".join(re.escape(digest.hint) for digest in canary.digests)
    pieces = set()
    for form, text, begin, scale in (("raw", data, 0, 1.0), *_decoded(data)):
        for match in re.finditer(b"(?=" + hints + b")", text):
            at = match.start()
            if hashlib.sha256(text[at : at + FRAGMENT]).digest() in wanted:
                first, last = int(at * scale), math.ceil((at + FRAGMENT) * scale)
                pieces.add((form, begin + first, last - first))
    for form in sorted({form for form, _, _ in pieces}):
        for at, length in _joined({(a, n) for f, a, n in pieces if f == form}):
            yield Hit(canary.name, form, at, length, False)


def _decoded(data: bytes) -> Iterator[tuple[str, bytes, int, float]]:
    """(form, decoded bytes, offset, characters a byte) of each run of hex and of base64."""
    for match in _HEX.finditer(data):
        text = match.group()
        yield "hex", bytes.fromhex(text[: len(text) // 2 * 2].decode()), match.start(), 2
    for match in _SEPARATED.finditer(data):
        text = re.sub(b"[: ]", b"", match.group())
        yield "hex", bytes.fromhex(text.decode()), match.start(), 3
    for match in _ESCAPED.finditer(data):
        with contextlib.suppress(ValueError):
            decoded = codecs.escape_decode(match.group())[0]
            yield "escaped", decoded, match.start(), len(match.group()) / len(decoded)
    for match in _BASE64.finditer(data):
        for shift in range(4):
            text = match.group()[shift:].translate(_STANDARD)
            decoded = base64.b64decode(text[: len(text) // 4 * 4])
            yield "base64", decoded, match.start() + shift, 4 / 3


def _forms(value: bytes) -> Iterator[tuple[str, bytes, int]]:
    """(form, pattern, size of a fragment) of each way in which people store bytes."""
    patterns = [("raw", value, FRAGMENT), *_base64(value)]
    patterns += [("hex", value.hex().encode(), 2 * FRAGMENT)]
    patterns += [("hex", value.hex().upper().encode(), 2 * FRAGMENT)]
    for separator in (":", " "):
        patterns.append(("hex", value.hex(separator).encode(), 3 * FRAGMENT))
    patterns.append(("escaped", repr(value)[2:-1].encode(), 4 * FRAGMENT))
    patterns.append(("escaped", "".join(f"\\x{b:02x}" for b in value).encode(), 4 * FRAGMENT))
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    patterns += [
        ("utf-16", text.encode(code), 2 * FRAGMENT) for code in ("utf-16-le", "utf-16-be")
    ]
    seen = set()
    for form, pattern, size in patterns:
        if pattern not in seen and len(pattern) >= SHORTEST:
            seen.add(pattern)
            yield form, pattern, size


def _base64(value: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Base64 of the value alone and inside something longer, at each of the three alignments."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + value)
        begin = (0, 2, 3)[before]  # characters that the bytes before take part in
        end = len(text) - (0, 3, 2)[(before + len(value)) % 3]  # and the bytes after, and "="
        inner = text[begin:end]
        if len(inner) < 8:
            continue  # a few characters would be found by chance
        for pattern in (inner, inner.translate(bytes.maketrans(b"+/", b"-_"))):
            yield "base64", pattern, 24


def _fragments(value: bytes, size: int, step: int) -> Iterator[bytes]:
    """Pieces of `size` at each `step`, and the last one; none when the value is not longer."""
    if len(value) < size:
        return
    starts = [*range(0, len(value) - size, step), len(value) - size]
    for start in starts:
        part = value[start : start + size]
        if len(set(part)) > _VARIED:
            yield part


def _all(data: bytes, pattern: bytes) -> Iterator[int]:
    at = data.find(pattern)
    while at >= 0:
        yield at
        at = data.find(pattern, at + len(pattern))


def _joined(pieces: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping and touching (offset, length) made one."""
    joined: list[tuple[int, int]] = []
    for at, length in sorted(pieces):
        if joined and at <= sum(joined[-1]):
            begin, had = joined[-1]
            joined[-1] = (begin, max(had, at + length - begin))
        else:
            joined.append((at, length))
    return joined


def _digest(word: str) -> Digest:
    packed = bytes.fromhex(word)
    if len(packed) != _HINT + 32:
        raise ValueError(word)
    return Digest(packed[:_HINT], packed[_HINT:])

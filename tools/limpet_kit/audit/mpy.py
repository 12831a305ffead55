"""Strings of a compiled module (.mpy) that its code binds to the name of a secret.

Compiling hides nothing: names and constants stand in tables, and two neighbouring instructions
say which belongs to which. Format: MicroPython, py/persistentcode.c, version 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import detect

_MAGIC = b"M\x06"
_TABLE = 4096  # names or constants in one module; more is a hostile file
_TEXT = (5, 6)  # constants: str, bytes
_NUMBER = (7, 8, 9)
_TUPLE = 10
_LOAD_STRING, _LOAD_CONSTANT = 0x10, 0x23
_STORE = (0x16, 0x17, 0x18)  # name, global, attribute
_INDEX = rb"([\x80-\xff]{0,2}[\x00-\x7f])"
# A load, then a store (of an attribute: with its object between), or a second load: the key of a
# dictionary (then STORE_MAP), or the value of a keyword argument.
_BOUND = re.compile(
    rb"(?=([\x10\x23])" + _INDEX + rb"[\xb0-\xbf]?([\x10\x23\x16-\x18])" + _INDEX + rb"(\x62?))"
)
Text = tuple[int, bytes]  # offset in the file, value


def passwords(data: bytes) -> Iterator[detect.Found]:
    """Constants bound to a name that people give to secrets; nothing for what is no module."""
    if data[:2] != _MAGIC:
        return
    try:
        names, constants, code = _tables(data)
    except (IndexError, ValueError):
        return

    def value(operation: int, number: bytes) -> Text | None:
        table = constants if operation == _LOAD_CONSTANT else names
        index = _vint(number, 0)[0]
        return table[index] if index < len(table) else None

    seen = set()
    for match in _BOUND.finditer(data, code):
        first = value(match.group(1)[0], match.group(2))
        second = value(match.group(3)[0], match.group(4))
        if first is None or second is None:
            continue
        bound = match.group(3)[0] in _STORE or match.group(5)
        if bound:
            first, second = second, first
        name, (at, secret) = first[1].decode("ascii", "ignore"), second
        if not bound and not name.islower():
            continue  # two arguments; keyword arguments are in small letters
        if detect.is_secret_name(name) and len(secret) >= 4 and at not in seen:
            seen.add(at)
            yield detect.Found(detect.PASSWORD, name[:48], at, len(secret), "compiled")


def _tables(data: bytes) -> tuple[list[Text], list[Text], int]:
    """Names, text constants (empty where it is another constant), and where code begins."""
    count, at = _vint(data, 4)
    constants, at = _vint(data, at)
    if count > _TABLE or constants > _TABLE:
        raise ValueError("tables")
    names: list[Text] = []
    for _ in range(count):
        length, at = _vint(data, at)
        if length & 1:  # one of the names that every firmware has
            names.append((0, b""))
            continue
        names.append((at, data[at : at + (length >> 1)]))
        at += (length >> 1) + 1
    found: list[Text] = []
    for _ in range(constants):
        text, at = _constant(data, at, 0)
        found.append(text)
    return names, found, at


def _constant(data: bytes, at: int, depth: int) -> tuple[Text, int]:
    kind = data[at]
    at += 1
    if kind in _TEXT or kind in _NUMBER:
        length, at = _vint(data, at)
        text = (at, data[at : at + length] if kind in _TEXT else b"")
        return text, at + length + (kind in _TEXT)
    if kind == _TUPLE and depth < 8:
        length, at = _vint(data, at)
        if length > _TABLE:
            raise ValueError("tuple")
        for _ in range(length):
            _, at = _constant(data, at, depth + 1)
    return (0, b""), at


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the highest first."""
    value = 0
    for _ in range(5):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    raise ValueError("number")

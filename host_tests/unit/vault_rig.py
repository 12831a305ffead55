"""What the vault's tests share; runs on CPython and MicroPython."""

import json

from limpet.errors import LimpetError
from limpet.rules import encode

with open(__file__.rsplit("/", 2)[0] + "/vectors.json") as _file:
    VECTORS = json.load(_file)

CHIP = bytes.fromhex(VECTORS["record"]["chip"])
SECRET = bytes(range(0x20, 0x40))
CONTROL_KEY = bytes(range(0xA0, 0xC0))
ANCHOR = bytes.fromhex(VECTORS["anchor"])


def vault_id(number):
    """A vault id (16 bytes) that names its number."""
    return bytes([number]) * 16


def joined(fields):
    """The vector's fields as bytes."""
    return encode(*[(tag, bytes.fromhex(value)) for tag, value in fields])


def record_fields(account=b"A" * 23, *more):
    """Fields that a device can work with."""
    return encode(
        (1, b"lamp-7"),
        (2, b"\x01"),
        (3, account),
        (4, bytes(range(0xE0, 0x100))),
        (7, CONTROL_KEY),
        (8, ANCHOR),
        (9, b"broker.example:8883"),
        *more,
    )


def code(call, *arguments):
    """The code of the LimpetError that this call raises, None when it raises none."""
    try:
        call(*arguments)
    except LimpetError as e:
        assert e.words
        return e.code
    return None


class MemoryStore:
    """A store whose flash is a dict; `room` is how many bytes it takes."""

    def __init__(self, room=100_000):
        self.items = {}
        self.room = room
        self.log = []  # (operation, item)
        self.garble = ""  # an item that flash does not keep as it was written

    def read(self, item):
        data = self.items.get(item)
        return None if data is None else bytearray(data)

    def write(self, item, data):
        if len(data) > self.room:
            raise LimpetError("NO_SPACE", "full")
        self.log.append(("write", item))
        self.items[item] = bytes(data)
        if item == self.garble:
            self.items[item] = bytes(len(data))

    def erase(self, item):
        self.log.append(("erase", item))
        self.items.pop(item, None)

    def free(self):
        return self.room

    def scrub_steps(self):
        return 3

    def scrub(self, left):
        self.log.append(("scrub", left))

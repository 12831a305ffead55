"""The CONNECT and CONNACK packets of MQTT 3.1.1 (sections 3.1 and 3.2), in bytes.

The kit reads and writes these two itself: a password is bytes and not text, and a broker must
know who is there before anything of the packet takes effect.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ..secret import Secret

ACCEPTED, BAD_PROTOCOL, BAD_LOGIN, NOT_AUTHORISED = 0, 1, 4, 5  # CONNACK return codes
PACKET = 0x10
LONGEST = 16384  # bytes; a will of a few kilobytes is the most that is reasonable


class Malformed(Exception):
    """These bytes are not a CONNECT packet as the standard demands; the link is to be closed."""


class OtherProtocol(Exception):
    """A CONNECT of another version than MQTT 3.1.1."""


@dataclass(frozen=True)
class Will:
    """The message that a broker publishes when the link breaks."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True)
class Connect:
    """What a client says of itself. `keepalive` in seconds, 0 for none.

    Bytes of `account` that are not UTF-8 are its lone surrogates (PEP 383).
    """

    account: str | None
    password: Secret | None = field(repr=False)
    client_id: str = ""
    clean: bool = True
    keepalive: int = 60
    will: Will | None = None


def connack(code: int) -> bytes:
    """A CONNACK with this return code and no session present."""
    return bytes((0x20, 2, 0, code))


def encode(connect: Connect) -> bytes:
    """The whole packet."""
    flags = 0x02 if connect.clean else 0
    payload = _string(connect.client_id.encode())
    if connect.will:
        flags |= 0x04 | connect.will.qos << 3 | (0x20 if connect.will.retain else 0)
        payload += _string(connect.will.topic.encode()) + _string(connect.will.payload)
    if connect.account is not None:
        flags |= 0x80
        payload += _string(connect.account.encode("utf-8", "surrogateescape"))
    if connect.password is not None:
        flags |= 0x40
        payload += _string(connect.password.reveal())
    body = _string(b"MQTT") + bytes((4, flags)) + connect.keepalive.to_bytes(2, "big") + payload
    length, left = b"", len(body)
    while True:
        left, seven = divmod(left, 128)
        length += bytes((seven | (0x80 if left else 0),))
        if not left:
            return bytes((PACKET,)) + length + body


async def read(reader: asyncio.StreamReader) -> bytes:
    """The body of the first packet, for `parse`. Raises `Malformed` when it is no CONNECT."""
    if await reader.readexactly(1) != bytes((PACKET,)):
        raise Malformed
    length = 0
    for shift in (0, 7, 14):
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise Malformed
    if length > LONGEST:
        raise Malformed
    return await reader.readexactly(length)


def parse(body: bytes) -> Connect:
    """Read what follows the fixed header; raises `Malformed` or `OtherProtocol`."""
    fields = _Fields(body)
    protocol = fields.take_string()
    level, flags = fields.take(2)
    if protocol != b"MQTT" or level != 4:
        raise OtherProtocol
    keepalive = int.from_bytes(fields.take(2), "big")
    has_account, has_password, has_will = flags & 0x80, flags & 0x40, flags & 0x04
    qos = flags >> 3 & 3
    if flags & 1 or qos == 3 or (has_password and not has_account):
        raise Malformed
    if not has_will and flags & 0x38:
        raise Malformed
    client_id = fields.take_text()
    will = None
    if has_will:
        topic, payload = fields.take_text(), fields.take_string()
        if not topic or "+" in topic or "#" in topic:
            raise Malformed
        will = Will(topic, payload, qos, bool(flags & 0x20))
    account = fields.take_text() if has_account else None
    password = Secret(fields.take_string()) if has_password else None
    if not fields.at_end():
        raise Malformed
    return Connect(account, password, client_id, bool(flags & 2), keepalive, will)


class _Fields:
    """The packet's fields, taken one after the other."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, size: int) -> bytes:
        taken = self._body[self._at : self._at + size]
        if len(taken) != size:
            raise Malformed
        self._at += size
        return taken

    def take_string(self) -> bytes:
        return self.take(int.from_bytes(self.take(2), "big"))

    def take_text(self) -> str:
        try:
            text = self.take_string().decode()
        except UnicodeDecodeError:
            raise Malformed from None
        if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text):  # section 1.5.3
            raise Malformed
        return text

    def at_end(self) -> bool:
        return self._at == len(self._body)


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value

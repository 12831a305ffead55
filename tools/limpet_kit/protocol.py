"""The kit's side of lib/limpet/PROTOCOLS.md: keys, fields, sealed boxes, proofs, acknowledgements.

An implementation of its own, by the standard library and `cryptography`; device and kit are held
together by host_tests/vectors.json. Integers are big-endian.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .errors import FAILED, NO_SPACE, KitError
from .secret import Secret

# Tags of fields (PROTOCOLS.md 2).
NAME = 1
PROFILE = 2
ACCOUNT = 3
PASSWORD = 4
KEY = 5
CERTIFICATE = 6
CONTROL = 7
ANCHOR = 8
SERVER = 9
PIN = 10
NETWORK = 11
SEQUENCE = 12
EARLIEST = 13
NO_PINS = 14

PROFILES = {"binary": 1, "text": 2, "psk": 3, "x509": 4}
REPEATS = 4  # of anchors, servers, pins, networks
LARGEST = 3584  # bytes of fields in a box
RECEIVE = 2048  # bytes of a packet that a device takes, unless its sketch says Client(receive=...)

# Key sources: name, and the one claim that it allows (PROTOCOLS.md 1).
SOURCES = {
    0: ("plain", "not protected: whoever reads the flash has the credential"),
    1: ("soft", "obfuscated: a look at the files or a backup does not show the credential"),
    2: ("platform", "encrypted at rest by the chip, as far as its fuses are burned"),
    3: ("hmac", "device-bound: a copy of the flash does not hold the credential"),
    4: ("otp", "device-bound: a copy of the flash does not hold the credential"),
    5: ("external", "the key is not stored on the device"),
}
PLAIN, SOFT = 0, 1

CHANGE, WIPE = 1, 2  # operations of a control box
PENDING, APPLIED, REFUSED, STALE, WIPED = 1, 2, 3, 4, 5  # states of an acknowledgement
CAUSES = {
    0: "",
    1: "the broker refused the new account",
    2: "the server was not trusted",
    3: "no network",
    4: "the board cannot work with these fields",
    5: "the board has no room",
}

Fields = list[tuple[int, bytes]]  # of a record or a change: tag and value

_HEAD = struct.Struct(">4sBBHIHH16s")
_ACK = struct.Struct(">4sBBBBII16s")


def network(ssid: bytes, key: Secret) -> bytes:
    """The value of a NETWORK field."""
    return bytes([len(ssid)]) + ssid + key.reveal()


def encode(fields: Iterable[tuple[int, bytes]]) -> bytes:
    """Join (tag, value) pairs: tag u8, length u16, value. Raises `KitError` when too large."""
    joined = b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in fields)
    if len(joined) > LARGEST:
        raise KitError(
            f"The record would have {len(joined)} bytes of fields, {LARGEST} fit: use fewer or "
            "smaller anchors, servers and networks.",
            NO_SPACE,
        )
    return joined


def decode(joined: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the (tag, value) pairs; `KitError` when they do not add up."""
    at = 0
    while at < len(joined):
        if at + 3 > len(joined):
            raise KitError("Fields of a record do not add up.", FAILED)
        tag, length = struct.unpack_from(">BH", joined, at)
        at += 3
        if at + length > len(joined):
            raise KitError("Fields of a record do not add up.", FAILED)
        yield tag, joined[at : at + length]
        at += length


def control_key(kit_key: Secret, vault_id: bytes) -> Secret:
    """The control key of the board that holds this vault id."""
    return Secret(_expand(_mac(vault_id, kit_key.reveal()), b"limpet/1/control"))


def control_box(
    key: Secret,
    vault_id: bytes,
    operation: int,
    sequence: int,
    fields: bytes,
    random: bytes | None = None,
) -> bytes:
    """A change (or wipe) for one board; `random` is 16 bytes, for tests only."""
    return seal(
        b"LMPC", operation, sequence, vault_id, key, b"limpet ctl\x01", fields, b"ctl", random
    )


def change_size(topic: str, fields: bytes) -> int:
    """Bytes of the MQTT packet (QoS 1) that brings these fields on this topic."""
    padded = len(fields) + -len(fields) % 512
    box = _HEAD.size + 16 + padded + 32
    return 1 + 2 + 2 + len(topic.encode()) + 2 + box  # a remaining length of two bytes, always


def open_control(key: Secret, vault_id: bytes, box: bytes) -> tuple[int, int, bytes] | None:
    """(operation, sequence, fields) of a control box of this board, None when it is none."""
    found = open_box(b"LMPC", box, key, b"limpet ctl\x01", b"ctl")
    return found[:2] + found[3:] if found and found[2] == vault_id else None


def record_box(
    source: int,
    generation: int,
    vault_id: bytes,
    secret: Secret,
    chip: bytes,
    fields: bytes,
    random: bytes | None = None,
) -> bytes:
    """A record as the board `chip` seals it; the kit needs it to prove and to test."""
    context = bytes([source])
    aad = _record_aad(chip)
    return seal(b"LMPT", source, generation, vault_id, secret, aad, fields, context, random)


def open_record(box: bytes, secret: Secret, chip: bytes) -> tuple[int, int, bytes, bytes] | None:
    """(source, generation, vault id, fields) of a record, None when it does not open."""
    return open_box(b"LMPT", box, secret, _record_aad(chip), box[5:6])


def seal(
    magic: bytes,
    kind: int,
    number: int,
    vault_id: bytes,
    ikm: Secret,
    aad: bytes,
    fields: bytes,
    context: bytes,
    random: bytes | None = None,
) -> bytes:
    """A sealed box (PROTOCOLS.md 2)."""
    padded = fields + bytes(-len(fields) % 512)
    head = _HEAD.pack(magic, 1, kind, 0, number, len(fields), len(padded), vault_id)
    prk = _mac(vault_id, ikm.reveal())
    random = secrets.token_bytes(16) if random is None else random
    iv = _mac(_expand(prk, b"limpet/1/iv/" + context), random + head + padded)[:16]
    cipher = Cipher(algorithms.AES(_expand(prk, b"limpet/1/enc/" + context)), modes.CBC(iv))
    box = head + iv + cipher.encryptor().update(padded)
    return box + _mac(_expand(prk, b"limpet/1/mac/" + context), aad + box)


def open_box(
    magic: bytes, box: bytes, ikm: Secret, aad: bytes, context: bytes
) -> tuple[int, int, bytes, bytes] | None:
    """(kind, number, vault id, fields), None for whatever is not a box of this key."""
    head = _head(magic, box)
    if head is None:
        return None
    prk = _mac(head[2], ikm.reveal())
    tag = _mac(_expand(prk, b"limpet/1/mac/" + context), aad + box[:-32])
    if not hmac.compare_digest(tag, box[-32:]):
        return None
    fields = _decrypt(box, prk, context, head[3])
    return None if fields is None else (*head[:3], fields)


def record_head(box: bytes) -> tuple[int, int, bytes] | None:
    """(source, generation, vault id) as a record says, unproven; None when it is no record."""
    head = _head(b"LMPT", box)
    return head[:3] if head else None


def decrypt_unproven(box: bytes, secret: Secret) -> bytes | None:
    """What a thief without the chip's number reads: the fields of a record, its tag unchecked.

    None when padding or fields show that the secret is not this record's.
    """
    head = _head(b"LMPT", box)
    if head is None:
        return None
    fields = _decrypt(box, _mac(head[2], secret.reveal()), box[5:6], head[3])
    try:
        return fields if fields and list(decode(fields)) else None
    except KitError:
        return None


def _head(magic: bytes, box: bytes) -> tuple[int, int, bytes, int] | None:
    """(kind, number, vault id, length of the fields) when the outside is a box's."""
    if len(box) < 80:
        return None
    found, version, kind, zero, number, n, m, vault_id = _HEAD.unpack_from(box)
    if (found, version, zero) != (magic, 1, 0) or not number or m % 512 or m - n >= 512:
        return None
    if not 0 < n <= m <= LARGEST or len(box) != 80 + m:
        return None
    return kind, number, vault_id, n


def _decrypt(box: bytes, prk: bytes, context: bytes, n: int) -> bytes | None:
    """The fields, None when the padding is not zero."""
    key = _expand(prk, b"limpet/1/enc/" + context)
    padded = Cipher(algorithms.AES(key), modes.CBC(box[32:48])).decryptor().update(box[48:-32])
    return None if any(padded[n:]) else padded[:n]


def proof_fits(
    key: Secret, nonce: bytes, vault_id: bytes, generation: int, h: bytes, p: bytes
) -> bool:
    """Whether P shows that something with this control key answered our nonce with this H."""
    expected = _mac(_proof_key(key, vault_id), nonce + vault_id + _u32(generation) + h)
    return hmac.compare_digest(expected, p)


def fields_fit(key: Secret, vault_id: bytes, fields: bytes, h: bytes) -> bool:
    """Whether H shows that the board read back exactly these fields."""
    return hmac.compare_digest(_mac(_proof_key(key, vault_id), fields), h)


@dataclass(frozen=True)
class Ack:
    """What a board said about its last change; `state` and `cause` as in PROTOCOLS.md 6."""

    state: int
    cause: int
    source: int
    sequence: int
    generation: int
    vault_id: bytes


def read_ack(key: Secret, vault_id: bytes, message: bytes) -> Ack | None:
    """The acknowledgement, None unless it carries this board's tag."""
    if len(message) != 64:
        return None
    tag = _mac(_ack_key(key, vault_id), b"limpet ack\x01" + message[:32])
    magic, version, *rest = _ACK.unpack_from(message)
    ack = Ack(*rest)
    if not hmac.compare_digest(tag, message[32:]) or (magic, version) != (b"LMPA", 1):
        return None
    return ack if ack.vault_id == vault_id else None


def make_ack(key: Secret, ack: Ack) -> bytes:
    """The message (64 bytes) by which a board says it; for tests."""
    head = _ACK.pack(
        b"LMPA", 1, ack.state, ack.cause, ack.source, ack.sequence, ack.generation, ack.vault_id
    )
    return head + _mac(_ack_key(key, ack.vault_id), b"limpet ack\x01" + head)


def make_proof(
    key: Secret, nonce: bytes, vault_id: bytes, generation: int, fields: bytes
) -> tuple[bytes, bytes]:
    """(H, P) as a board answers; for tests."""
    proof = _proof_key(key, vault_id)
    h = _mac(proof, fields)
    return h, _mac(proof, nonce + vault_id + _u32(generation) + h)


def _record_aad(chip: bytes) -> bytes:
    return b"limpet cred\x01" + bytes([len(chip)]) + chip


def _ack_key(key: Secret, vault_id: bytes) -> bytes:
    return _expand(_mac(vault_id, key.reveal()), b"limpet/1/ack")


def _proof_key(key: Secret, vault_id: bytes) -> bytes:
    return _expand(_mac(vault_id, key.reveal()), b"limpet/1/proof")


def _u32(number: int) -> bytes:
    return struct.pack(">I", number)


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _expand(prk: bytes, label: bytes) -> bytes:
    """HKDF-Expand (RFC 5869), one block."""
    return _mac(prk, label + b"\x01")

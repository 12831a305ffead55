"""The sealed box: AES-256-CBC, then HMAC-SHA256, keys by HKDF-SHA256. Format: PROTOCOLS.md 2.

Streams through few and small buffers: a 3.6 KB record opens with 3 KB of garbage, not 30.
"""

import struct
from hashlib import sha256

from cryptolib import aes
from micropython import const

RECORD = b"LMPT"
CONTROL = b"LMPC"
LARGEST = 3584  # bytes of fields
OVERHEAD = 80  # head 32, IV 16, tag 32
_HEAD = const(">4sBBHIHH16s")
_CBC = const(2)


def hmac(key, *parts):
    """HMAC-SHA256 (RFC 2104) of the parts, joined; 32 bytes."""
    if len(key) > 64:
        key = sha256(key).digest()
    pad = bytearray(b"\x36" * 64)
    for i in range(len(key)):
        pad[i] ^= key[i]
    hash = sha256(pad)
    for part in parts:
        hash.update(part)
    inner = hash.digest()
    for i in range(64):
        pad[i] ^= 0x36 ^ 0x5C
    hash = sha256(pad)
    hash.update(inner)
    return hash.digest()


def expand(prk, *label):
    """HKDF-Expand (RFC 5869), one block of 32 bytes."""
    return hmac(prk, *label, b"\x01")


def same(a, b):
    """Whether two byte strings are equal, in a time that does not tell where they differ."""
    if len(a) != len(b):
        return False
    difference = 0
    for i in range(len(a)):
        difference |= a[i] ^ b[i]
    return difference == 0


def record_aad(chip):
    """What binds a record to the board with this chip id."""
    return b"limpet cred\x01" + bytes([len(chip)]) + chip


def control_aad():
    """What binds a control message to its use."""
    return b"limpet ctl\x01"


def head(magic, box):
    """(source or operation, number, vault id, length of the fields), None when it is no box.

    Nothing of it is proven before `open` said so.
    """
    if len(box) < OVERHEAD:
        return None
    found, version, kind, zero, number, n, m, vault_id = struct.unpack_from(_HEAD, box, 0)
    if found != magic or version != 1 or zero or not number or m % 512:
        return None
    if not 0 < n <= m <= LARGEST or m - n >= 512 or len(box) != OVERHEAD + m:
        return None
    return kind, number, vault_id, n


def _context(magic, kind):
    return b"ctl" if magic == CONTROL else bytes([kind])


def seal(magic, kind, number, vault_id, ikm, aad, fields, random):
    """A new box (bytearray); `random` is 16 bytes, which may repeat (see PROTOCOLS.md 2)."""
    n = len(fields)
    if not 0 < n <= LARGEST:
        raise ValueError("fields")
    m = (n + 511) // 512 * 512
    box = bytearray(OVERHEAD + m)
    view = memoryview(box)
    body = view[48 : 48 + m]
    struct.pack_into(_HEAD, box, 0, magic, 1, kind, 0, number, n, m, vault_id)
    body[:n] = fields
    prk = hmac(vault_id, ikm)
    context = _context(magic, kind)
    view[32:48] = hmac(expand(prk, b"limpet/1/iv/", context), random, view[:32], body)[:16]
    aes(expand(prk, b"limpet/1/enc/", context), _CBC, view[32:48]).encrypt(body, body)
    view[48 + m :] = hmac(expand(prk, b"limpet/1/mac/", context), aad, view[: 48 + m])
    return box


def open(magic, box, ikm, aad):
    """The fields (a view into `box`, a bytearray, which is decrypted in place), None otherwise.

    After None the box is of no use any more.
    """
    known = head(magic, box)
    if not known:
        return None
    kind, _, vault_id, n = known
    view = memoryview(box)
    end = len(box) - 32
    prk = hmac(vault_id, ikm)
    context = _context(magic, kind)
    tag = hmac(expand(prk, b"limpet/1/mac/", context), aad, view[:end])
    if not same(tag, view[end:]):
        return None
    body = view[48:end]
    aes(expand(prk, b"limpet/1/enc/", context), _CBC, view[32:48]).decrypt(body, body)
    for i in range(n, len(body)):
        if body[i]:
            return None
    return body[:n]

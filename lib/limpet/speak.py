"""What a device says to its kit, with a tag that only its control key makes. PROTOCOLS.md 5, 6."""

import struct

from micropython import const

from . import record, seal
from .errors import LimpetError

_APPLIED = const(2)  # states of an acknowledgement; the others: changes.py
_FAILED = const(3)


def ack(used, state, cause, sequence):
    """An acknowledgement (64 bytes) of a change, by a device whose record in use is `used`."""
    head = struct.pack(
        ">4sBBBBII16s",
        b"LMPA",
        1,
        state,
        cause,
        used.source,
        sequence,
        used.generation,
        used.vault_id,
    )
    return head + seal.hmac(key(used, b"limpet/1/ack"), b"limpet ack\x01", head)


def last_ack(used, journal):
    """What the kit is to know after a login with `used`, the confirmed record."""
    if journal and journal.sequence > used.sequence:
        return ack(used, _FAILED, journal.cause, journal.sequence)
    return ack(used, _APPLIED, 0, used.sequence)


def proof(vault, nonce):
    """(record, H, P): proof that this board can read back what it was given.

    Raises LimpetError as `vault.read` does, and STATE when there is no record.
    """
    used = vault.read()
    if not used:
        raise LimpetError("STATE", "this board holds no record")
    tag = key(used, b"limpet/1/proof")
    h = seal.hmac(tag, used.fields)
    p = seal.hmac(tag, nonce, used.vault_id, struct.pack(">I", used.generation), h)
    return used, h, p


def key(used, label):
    """A key derived from this record's control key."""
    return seal.expand(seal.hmac(used.vault_id, used.one(record.CONTROL)), label)

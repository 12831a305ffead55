"""Changes over the link: a sealed box from the kit becomes a pending record. PROTOCOLS.md 6.

Loaded when a box arrives. The broker carries boxes and cannot make one.
"""

import struct

from micropython import const

from . import record as tags
from . import seal, slots, speak
from .errors import LimpetError, Lost
from .rules import check, encode

_CHANGE = const(1)
_WIPE = const(2)
_ALLOWED = (
    tags.PROFILE,
    tags.ACCOUNT,
    tags.PASSWORD,
    tags.KEY,
    tags.CERTIFICATE,
    tags.ANCHOR,
    tags.SERVER,
    tags.PIN,
    tags.NETWORK,
    tags.NO_PINS,
)
_PENDING = const(1)  # states of an acknowledgement; 2, applied: speak.py
_FAILED = const(3)
_STALE = const(4)
_WIPED = const(5)
_BY_FIELDS = const(4)  # why a change failed; 1 to 3: slots.drop
_BY_SPACE = const(5)
NOTHING, RESTART, WIPE = 0, 1, 2  # what is to be done when the kit has the answer


def take(vault, box):
    """Look at a box that the broker brought: (acknowledgement or None, what to do then).

    Only where one slot is valid; a box that is not for us, or not from our kit, is (None,
    NOTHING), without a word.
    """
    found = vault.records()
    try:
        if len(found) != 1:
            return None, NOTHING
        return _take(vault, found[0], box)
    finally:
        for r in found:
            r.wipe()


async def act(kit, session, box):
    """Take a box for a client: answer, and do what is to be done (kit.py)."""
    ack, then = take(kit.vault, box)
    if ack:
        await kit.tell(ack)
    if then == RESTART:
        kit.log("the kit sent a change: logging in with it")
        await kit.restart(session)
    elif then == WIPE:
        kit.log("the kit wiped this device")
        kit.vault.wipe()
        session.fail(Lost("WIPED"))


def _take(vault, used, box):
    head = seal.head(seal.CONTROL, box)
    if not head or head[2] != used.vault_id:
        return None, NOTHING
    operation, sequence, _, _ = head
    box = bytearray(box)
    fields = seal.open(seal.CONTROL, box, used.one(tags.CONTROL), seal.control_aad())
    if not fields:
        return None, NOTHING
    j = vault.journal
    last = max(j.sequence, used.sequence)
    try:
        if sequence < last:
            return speak.ack(used, _STALE, 0, sequence), NOTHING
        if sequence == last:
            return speak.last_ack(used, j), NOTHING
        if operation == _WIPE:
            return _wipe(vault, used, sequence, fields)
        return _change(vault, used, operation, sequence, fields)
    finally:
        for i in range(len(box)):
            box[i] = 0


def _wipe(vault, used, sequence, fields):
    if fields != encode((tags.NAME, used.one(tags.NAME))):
        return _fail(vault, used, sequence, _BY_FIELDS)
    return speak.ack(used, _WIPED, 0, sequence), WIPE


def _change(vault, used, operation, sequence, fields):
    try:
        if operation != _CHANGE:
            raise ValueError
        new = merge(used.fields, fields, sequence)
        check(new)
    except (ValueError, LimpetError):
        return _fail(vault, used, sequence, _BY_FIELDS)
    try:
        slots.succeed(vault, used, new)
    except LimpetError:
        return _fail(vault, used, sequence, _BY_SPACE)
    return speak.ack(used, _PENDING, 0, sequence), RESTART


def _fail(vault, used, sequence, cause):
    vault.note(sequence=sequence, cause=cause)
    return speak.ack(used, _FAILED, cause, sequence), NOTHING


def merge(fields, change, sequence):
    """The record's fields with a change in them; ValueError when it may not do that.

    A tag that the change holds replaces all fields of that tag.
    """
    replaced = bytearray(256)
    for tag, _, _ in tags.walk(change):
        if tag < tags.OPTIONAL and tag not in _ALLOWED:
            raise ValueError("tag")
        replaced[tag] = 1
    if replaced[tags.ACCOUNT] != (replaced[tags.PASSWORD] or replaced[tags.KEY]):
        raise ValueError("an account goes with its secret")
    if replaced[tags.KEY] != replaced[tags.CERTIFICATE]:
        raise ValueError("a key goes with its certificate")
    if replaced[tags.NO_PINS]:
        replaced[tags.PIN] = 1
    replaced[tags.SEQUENCE] = replaced[tags.NO_PINS] = 1
    new = bytearray()
    for source, wanted in ((fields, 0), (change, 1)):
        for tag, start, end in tags.walk(source):
            if tag != tags.NO_PINS and bool(replaced[tag]) == bool(wanted):
                new.extend(source[start - 3 : end])
    new.extend(encode((tags.SEQUENCE, struct.pack(">I", sequence))))
    return new

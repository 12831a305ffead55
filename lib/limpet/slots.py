"""How records take each other's place: pending, confirmed, dropped, wiped, scrubbed.

PROTOCOLS.md 3. Loaded when something changes, not at every start. Functions of a `vault.Vault`.
"""

from micropython import const

from . import rules, seal
from .errors import LimpetError
from .keys import EXTERNAL, PLAIN, PLATFORM, SOFT
from .retry import REFUSED, UNTRUSTED
from .vault import STRIKES

_BY_REFUSAL = const(1)  # why a change failed, for the acknowledgement
_BY_DISTRUST = const(2)
_BY_NETWORK = const(3)


def write(vault, source, vault_id, secret, fields):
    """Put a new record beside the confirmed one, as pending, and read it back.

    Returns (slot, generation). A pending record that was there before is dropped. Raises
    LimpetError BAD_FIELDS, SOURCE, NO_SPACE, FLASH or NOT_READ_BACK; the confirmed record
    stays whatever happens.
    """
    rules.check(fields)
    old = vault.records()
    if len(old) == 2:
        vault.erase(old[1].slot)
        old.pop().wipe()
    vault.store.erase("wiped")
    slot, generation = 0, 1
    if old:
        slot = 1 - old[0].slot
        generation = old[0].generation + 1
        old[0].wipe()
        # A board at hand is no reboot loop: a refused wait ends as well.
        vault.note(strikes=0, steps=0, left=0)
    _put_secret(vault.keys, source, slot, secret)
    box = seal.seal(
        seal.RECORD,
        source,
        generation,
        vault_id,
        vault.keys.secret(source, slot),
        vault.aad,
        fields,
        vault.random(16),
    )
    vault.store.write("box%d" % slot, box)
    back = vault.open(slot)
    if not back or back.fields != fields:
        vault.erase(slot)
        raise LimpetError(
            "NOT_READ_BACK", "the record was written and does not read back: bad flash?"
        )
    back.wipe()
    return slot, generation


def _put_secret(keys, source, slot, secret):
    """Keep the store secret of a record that is about to be written.

    Raises LimpetError SOURCE when this board has not that source, or not this secret.
    """
    if source not in keys.sources:
        raise LimpetError("SOURCE", "this board has no key source %d" % source)
    if source == PLAIN:
        # Written down too: without it nobody has asked for a record in clear.
        secret = bytes(32)
    if source != EXTERNAL:
        keys.store.write("key%d" % slot, secret)
    elif not seal.same(secret, keys.external or b""):
        raise LimpetError("SOURCE", "the secret given at boot is not that of the record")


def succeed(vault, used, fields):
    """Put the confirmed record's successor beside it, for a change; raises as `write`."""
    secret = vault.keys.secret(used.source, used.slot)
    if used.source in (SOFT, PLATFORM):
        # It changes, and does not lead back: nothing opens a copy of the old record any more
        # once its key is gone.
        secret = seal.hmac(secret, b"limpet/1/next", vault.random(16))
    return write(vault, used.source, used.vault_id, secret, fields)


def confirm(vault, used):
    """The server has accepted the pending record: the older one goes."""
    found = vault.records()
    if len(found) == 2 and used.generation == found[1].generation:
        old, new = found
        j = vault.journal
        same = old.vault_id == new.vault_id
        j.sequence = max(j.sequence, new.sequence) if same else new.sequence
        j.strikes = j.cause = j.steps = j.left = 0
        j.scrub = 1
        # Under the new record's key, in the other place: whichever record a cut leaves
        # confirmed finds its entry.
        j.write(vault.journal_key(new))
        vault.erase(old.slot)
        vault.pending = False
        vault.journal_of = (new.vault_id, new.generation)
        vault.scrub_left = None
    for r in found:
        r.wipe()


def drop(vault, kind):
    """Give the pending record up and remember why, a class of failure; the confirmed one stays."""
    cause = {REFUSED: _BY_REFUSAL, UNTRUSTED: _BY_DISTRUST}.get(kind, _BY_NETWORK)
    found = vault.records()
    if len(found) == 2:
        sequence = max(vault.journal.sequence, found[1].sequence)
        vault.note(strikes=STRIKES, sequence=sequence, cause=cause, scrub=1)
        vault.erase(found[1].slot)
        vault.pending = False
        vault.scrub_left = None
    for r in found:
        r.wipe()


def wipe(vault):
    """Forget everything: records, keys, journal. A scrub is due then."""
    store = vault.store
    try:
        store.write("wiped", b"\x01")  # from here on a cut does not stop it
    except LimpetError:
        pass  # a full flash
    for slot in (0, 1):
        vault.erase(slot)
        store.erase("log%d" % slot)
    vault.journal = vault.journal_of = vault.scrub_left = None
    vault.pending = False
    if store.read("wiped") is None:
        store.write("wiped", b"\x01")


def scrub(vault):
    """One small step (about 50 ms on a board) of removing old secrets; the steps left."""
    if not vault.scrub_due:
        return 0
    if vault.scrub_left is None:
        vault.scrub_left = _begin_scrub(vault)
    vault.scrub_left -= 1
    vault.store.scrub(vault.scrub_left)
    if vault.scrub_left:
        return vault.scrub_left
    vault.scrub_left = None
    if vault.journal:
        vault.note(scrub=0)
    else:
        vault.store.erase("wiped")
    return 0


def _begin_scrub(vault):
    found = vault.records()
    used = [r.slot for r in found]
    for r in found:
        r.wipe()
    for slot in (0, 1):
        if slot not in used:
            vault.erase(slot)  # a cut may have left its key
    return vault.store.scrub_steps()

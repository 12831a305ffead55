"""Two slots: which record is in use, how a new one takes its place. Rules: PROTOCOLS.md 3.

There is no state but the slots: one valid record is confirmed; of two the higher generation is
pending and the other confirmed. Every step may be cut by a power failure.
"""

import os
import struct

from . import clock, record, seal
from .errors import LimpetError
from .journal import Journal
from .keys import Keys, chip_id, next_secret
from .record import (  # noqa: F401  the names under which the client knows them
    ACCOUNT,
    ANCHOR,
    CERTIFICATE,
    CONTROL,
    EARLIEST,
    KEY,
    NAME,
    NETWORK,
    PASSWORD,
    PIN,
    PROFILE,
    SEQUENCE,
    SERVER,
    Record,
)
from .store import find

# States of an acknowledgement, and why a change failed (PROTOCOLS.md 6).
PENDING = 1
APPLIED = 2
FAILED = 3
STALE = 4
WIPED = 5
BY_REFUSAL = 1
BY_DISTRUST = 2
BY_NETWORK = 3
BY_FIELDS = 4
BY_SPACE = 5

_STRIKES = 3  # as many drop a pending record


class Vault:
    """The device's records in `store`, bound to this chip, and their journal.

    `chip` (bytes) is the chip's public number; without it the port is asked (`keys.chip_id`).
    `random(n)` gives n bytes; a poor one does no harm (PROTOCOLS.md 2). `now()` gives seconds
    since 1970 as far as the board knows.
    """

    def __init__(self, store=None, chip=None, keys=None, random=os.urandom, now=clock.now):
        self.store = store or find()
        self.keys = keys or Keys(self.store)
        self.chip = chip_id() if chip is None else chip
        self.journal = None  # that of the confirmed record
        self._aad = seal.record_aad(self.chip)
        self._random = random
        self._now = now
        self._fault = None  # why the last record that was there did not open
        self._journal_of = None  # vault id and generation it was read with
        self._scrub = None  # steps left, once begun

    # -- reading

    def read(self):
        """The newest valid record, None when there is none. Wipe it after use.

        Raises LimpetError VAULT_CLOSED, VAULT_SOURCE or VAULT_NEWER when there is a record and
        none that can be used.
        """
        found = self.records()
        for r in found[:-1]:
            r.wipe()
        if found:
            return found[-1]
        if self._fault:
            raise self._fault
        return None

    def records(self):
        """The valid records, the confirmed one first, then the pending one. Wipe them.

        Finishes what a power cut has interrupted, and reads the journal.
        """
        if self.store.read("wiped") is not None:
            self._wipe()
        self._fault = None
        found = [r for r in (self._open(0), self._open(1)) if r]
        if len(found) == 2:
            if found[0].generation == found[1].generation:
                found.pop().wipe()
                self.erase(1)
            elif found[0].generation > found[1].generation:
                found.reverse()
        self._load_journal(found)
        if len(found) == 2 and self.journal.strikes >= _STRIKES:
            self.erase(found[1].slot)
            found.pop().wipe()
        return found

    def _open(self, slot):
        box = self.store.read("box%d" % slot)
        head = seal.head(seal.RECORD, box or b"")
        if not head:
            return None
        source, generation, vault_id, _ = head
        if source not in self.keys.sources:
            self._fault = LimpetError(
                "VAULT_SOURCE",
                "this board holds a record of key source %d, which it does not accept: "
                "enrol it again" % source,
            )
            return None
        secret = self.keys.secret(source, slot)
        fields = secret and seal.open(seal.RECORD, box, secret, self._aad)
        if not fields:
            self._fault = LimpetError(
                "VAULT_CLOSED",
                "this board cannot open the record it holds: it is damaged, it is another "
                "board's, or its key is gone; enrol it again",
            )
            return None
        try:
            if not record.newer(fields):
                return Record(fields, generation, vault_id, source, slot)
            self._fault = LimpetError(
                "VAULT_NEWER",
                "this board's record is newer than its firmware: update the firmware",
            )
        except ValueError:
            self._fault = LimpetError("VAULT_CLOSED", "this board's record is damaged")
        return None

    # -- changing

    def write(self, source, vault_id, secret, fields):
        """Put a new record beside the confirmed one, as pending, and read it back.

        Returns (slot, generation). A pending record that was there before is dropped. Raises
        LimpetError BAD_FIELDS, SOURCE, NO_SPACE, FLASH or NOT_READ_BACK; the confirmed record
        stays whatever happens.
        """
        record.check(fields)
        old = self.records()
        if len(old) == 2:
            self.erase(old[1].slot)
            old.pop().wipe()
        self.store.erase("wiped")
        slot, generation = 0, 1
        if old:
            slot = 1 - old[0].slot
            generation = old[0].generation + 1
            old[0].wipe()
            # A board at hand is no reboot loop: a refused wait ends as well.
            self.note(strikes=0, steps=0, left=0)
        self.keys.put(source, slot, secret)
        secret = self.keys.secret(source, slot)
        box = seal.seal(
            seal.RECORD,
            source,
            generation,
            vault_id,
            secret,
            self._aad,
            fields,
            self._random(16),
        )
        self.store.write("box%d" % slot, box)
        back = self._open(slot)
        if not back or back.fields != fields:
            self.erase(slot)
            raise LimpetError(
                "NOT_READ_BACK", "the record was written and does not read back: bad flash?"
            )
        back.wipe()
        return slot, generation

    def succeed(self, used, fields):
        """Put the confirmed record's successor beside it: a change over the link.

        Raises as `write` does.
        """
        secret = self.keys.secret(used.source, used.slot)
        secret = next_secret(used.source, secret, self._random(16))
        return self.write(used.source, used.vault_id, secret, fields)

    def confirm(self, used):
        """The server has accepted this record: the older one goes, a refused wait ends."""
        found = self.records()
        if len(found) == 2 and used.generation == found[1].generation:
            old, new = found
            j = self.journal
            same = old.vault_id == new.vault_id
            j.sequence = max(j.sequence, new.sequence) if same else new.sequence
            j.strikes = j.cause = j.steps = j.left = 0
            j.scrub = 1
            # Under the new record's key, in the other place: whichever record a cut leaves
            # confirmed finds its entry.
            j.write(self._journal_key(new))
            self.erase(old.slot)
            self._journal_of = (new.vault_id, new.generation)
            self._scrub = None
        elif self.journal and (self.journal.steps or self.journal.left):
            self.note(steps=0, left=0)
        for r in found:
            r.wipe()

    def drop(self, cause):
        """Give the pending record up and remember why; the confirmed one stays."""
        found = self.records()
        if len(found) == 2:
            sequence = max(self.journal.sequence, found[1].sequence)
            self.note(strikes=_STRIKES, sequence=sequence, cause=cause, scrub=1)
            self.erase(found[1].slot)
            self._scrub = None
        for r in found:
            r.wipe()

    def erase(self, slot):
        """Remove a slot's record, then its key: in between it does not open."""
        self.store.erase("box%d" % slot)
        self.store.erase("key%d" % slot)

    def wipe(self):
        """Forget everything: records, keys, journal. `scrub` is due then."""
        try:
            self.store.write("wiped", b"\x01")  # from here on a cut does not stop it
        except LimpetError:
            pass  # a full flash
        self._wipe()
        if self.store.read("wiped") is None:
            self.store.write("wiped", b"\x01")

    def _wipe(self):
        for slot in (0, 1):
            self.erase(slot)
            self.store.erase("log%d" % slot)
        self.journal = self._journal_of = self._scrub = None

    # -- the journal

    def note(self, **values):
        """Write these attributes of the journal, with the time, unless they are so already."""
        j = self.journal
        if j and any(getattr(j, name) != value for name, value in values.items()):
            for name, value in values.items():
                setattr(j, name, value)
            j.clock = self._now()
            j.write()

    def _load_journal(self, found):
        wanted = (found[0].vault_id, found[0].generation) if found else None
        if wanted != self._journal_of:
            self._journal_of = wanted
            self.journal = None
            if found:
                self.journal = Journal(self.store, self._journal_key(found[0]))

    def _journal_key(self, r):
        prk = seal.hmac(r.vault_id, self.keys.secret(r.source, r.slot))
        return seal.expand(prk, b"limpet/1/journal/", bytes([r.source]))

    # -- leaving nothing behind

    @property
    def scrub_due(self):
        """Whether old secrets may still be in the flash; after `records` or `read`."""
        if self.journal:
            return bool(self.journal.scrub)
        return self.store.read("wiped") is not None

    def scrub(self):
        """One small step (about 50 ms on a board) of removing old secrets; the steps left."""
        if not self.scrub_due:
            return 0
        if self._scrub is None:
            self._scrub = self._begin_scrub()
        self._scrub -= 1
        self.store.scrub(self._scrub)
        if self._scrub:
            return self._scrub
        self._scrub = None
        if self.journal:
            self.note(scrub=0)
        else:
            self.store.erase("wiped")
        return 0

    def _begin_scrub(self):
        found = self.records()
        for slot in (0, 1):
            if slot not in [r.slot for r in found]:
                self.erase(slot)  # a cut may have left its key
        for r in found:
            r.wipe()
        return self.store.scrub_steps()

    # -- speaking to the kit

    def ack(self, used, state, cause, sequence):
        """An acknowledgement (64 bytes) of a change: PROTOCOLS.md 6."""
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
        return head + seal.hmac(_control(used, b"limpet/1/ack"), b"limpet ack\x01", head)

    def last_ack(self, used):
        """What the kit is to know after a login with this record, the confirmed one."""
        j = self.journal
        if j and j.sequence > used.sequence:
            return self.ack(used, FAILED, j.cause, j.sequence)
        return self.ack(used, APPLIED, 0, used.sequence)

    def proof(self, nonce):
        """(record, H, P): proof that this board can read back what it was given, PROTOCOLS.md 5.

        Raises LimpetError as `read` does, and STATE when there is no record.
        """
        used = self.read()
        if not used:
            raise LimpetError("STATE", "this board holds no record")
        key = _control(used, b"limpet/1/proof")
        h = seal.hmac(key, used.fields)
        p = seal.hmac(key, nonce, used.vault_id, struct.pack(">I", used.generation), h)
        return used, h, p


def _control(used, label):
    """A key derived from this record's control key."""
    return seal.expand(seal.hmac(used.vault_id, used.one(CONTROL)), label)

"""Two slots: which record is in use, how a new one takes its place. Rules: PROTOCOLS.md 3.

There is no state but the slots: one valid record is confirmed; of two the higher generation is
pending and the other confirmed. Every step may be cut by a power failure.
"""

import gc
import os

from . import clock, record, seal
from .errors import LimpetError, forget
from .journal import Journal
from .keys import Keys, chip_id
from .record import Record
from .store import find

STRIKES = 3  # as many drop a pending record


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
        self.pending = False  # whether there is a record that has not been confirmed
        self.aad = seal.record_aad(self.chip)
        self.random = random
        self.now = now
        self._fault = None  # why the last record that was there did not open
        self.journal_of = None  # vault id and generation it was read with
        self.scrub_left = None  # steps, once begun

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
            self.wipe()
        self._fault = None
        found = [r for r in (self.open(0), self.open(1)) if r]
        if len(found) == 2:
            if found[0].generation == found[1].generation:
                found.pop().wipe()
                self.erase(1)
            elif found[0].generation > found[1].generation:
                found.reverse()
        self._load_journal(found)
        if len(found) == 2 and self.journal.strikes >= STRIKES:
            self.erase(found[1].slot)
            found.pop().wipe()
        self.pending = len(found) == 2
        return found

    def open(self, slot):
        """The record of a slot, None when it holds none that can be used."""
        box = self.store.read("box%d" % slot)
        head = seal.head(seal.RECORD, box or b"")
        if not head:
            return None
        source, generation, vault_id, _ = head
        if source not in self.keys.sources:
            self._fault = LimpetError("VAULT_SOURCE", source)
            return None
        secret = self.keys.secret(source, slot)
        opened = secret and seal.open(seal.RECORD, box, secret, self.aad)
        if not opened:
            self._fault = LimpetError("VAULT_CLOSED")
            return None
        fields = bytearray(opened)  # half a KB less than the box, for as long as a login takes
        for i in range(len(opened)):
            opened[i] = 0
        try:
            if not record.newer(fields):
                return Record(fields, generation, vault_id, source, slot)
            self._fault = LimpetError("VAULT_NEWER")
        except ValueError:
            self._fault = LimpetError("VAULT_CLOSED", "damaged")
        return None

    # -- changing: slots.py, loaded when it is needed

    def write(self, source, vault_id, secret, fields):
        """Put a new record beside the confirmed one, as pending: slots.write."""
        from . import slots

        return slots.write(self, source, vault_id, secret, fields)

    def confirm(self, used):
        """The server has accepted this record: the older one goes, a refused wait ends."""
        if self.journal and (self.journal.steps or self.journal.left):
            self.note(steps=0, left=0)
        if self.pending:
            from . import slots

            slots.confirm(self, used)
            forget("slots", "rules")

    def erase(self, slot):
        """Remove a slot's record, then its key: in between it does not open."""
        self.store.erase("box%d" % slot)
        self.store.erase("key%d" % slot)

    def wipe(self):
        """Forget everything: slots.wipe."""
        from . import slots

        slots.wipe(self)

    def scrub(self):
        """One small step of removing old secrets, if one is due and nothing is on trial."""
        if self.scrub_due and not self.pending:
            from . import slots

            if not slots.scrub(self):
                forget("slots", "rules")

    # -- the journal

    def note(self, **values):
        """Write these attributes of the journal, with the time, unless they are so already."""
        j = self.journal
        if j and any(getattr(j, name) != value for name, value in values.items()):
            for name, value in values.items():
                setattr(j, name, value)
            j.clock = self.now()
            j.write()

    @property
    def scrub_due(self):
        """Whether old secrets may still be in the flash; after `records` or `read`."""
        if self.journal:
            return bool(self.journal.scrub)
        return self.store.read("wiped") is not None

    def _load_journal(self, records):
        wanted = (records[0].vault_id, records[0].generation) if records else None
        if wanted != self.journal_of:
            self.journal_of = wanted
            self.journal = None
            if records:
                self.journal = Journal(self.store, self.journal_key(records[0]))

    def journal_key(self, used):
        """The key under which a journal goes with this record."""
        prk = seal.hmac(used.vault_id, self.keys.secret(used.source, used.slot))
        return seal.expand(prk, b"limpet/1/journal/", bytes([used.source]))


gc.collect()  # what was left over from loading is room for the next module

"""Two slots: which record is in use, how a new one takes its place. Rules: PROTOCOLS.md 3.

There is no state but the slots: one valid record is confirmed; of two the higher generation is
pending and the other confirmed. Every step may be cut by a power failure.
"""

import os
import struct

from . import record, seal
from .errors import LimpetError
from .keys import Keys, chip_id
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
from .store import FileStore

APPLIED = 2  # states of an acknowledgement (PROTOCOLS.md 6)


class Vault:
    """The device's record, kept in `store` and bound to this chip.

    `chip` (bytes) is the chip's public number; without it the port is asked (`keys.chip_id`).
    `random(n)` gives n bytes; a poor one does no harm (PROTOCOLS.md 2).
    """

    def __init__(self, store=None, chip=None, keys=None, random=os.urandom):
        self.store = store or FileStore()
        self.keys = keys or Keys(self.store)
        self.chip = chip_id() if chip is None else chip
        self._aad = seal.record_aad(self.chip)
        self._random = random
        self._fault = None  # why the last record that was there did not open

    # -- reading

    def read(self):
        """The record to log in with, None when there is none: the pending one if there is one.

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
        """The valid records, the confirmed one first, then the pending one. Wipe them."""
        self._fault = None
        found = [r for r in (self._open(0), self._open(1)) if r]
        if len(found) == 2:
            if found[0].generation == found[1].generation:
                found.pop().wipe()
                self.erase(1)
            elif found[0].generation > found[1].generation:
                found.reverse()
        return found

    def _open(self, slot):
        box = self.store.read("box%d" % slot)
        head = seal.head(seal.RECORD, box or b"")
        if not head:
            return None
        source, generation, vault_id, _ = head
        if source not in self.keys.accepted():
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
        if source not in self.keys.available():
            raise LimpetError("SOURCE", "this board has no key source %d" % source)
        old = self.records()
        while len(old) > 1:
            pending = old.pop()
            self.erase(pending.slot)
            pending.wipe()
        slot, generation = 0, 1
        sources = [source]
        if old:
            slot = 1 - old[0].slot
            generation = old[0].generation + 1
            sources.append(old[0].source)
            old[0].wipe()
        self.keys.accept(*sources)
        self.keys.put(source, slot, secret)
        box = seal.seal(
            seal.RECORD,
            source,
            generation,
            vault_id,
            secret if source else bytes(32),
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

    def confirm(self, used):
        """The server has accepted this record: the older one goes."""
        for r in self.records():
            if r.generation < used.generation:
                self.erase(r.slot)
            r.wipe()
        self.keys.accept(used.source)

    def erase(self, slot):
        """Remove a slot's record, then its key: in between it does not open."""
        self.store.erase("box%d" % slot)
        self.store.erase("key%d" % slot)

    def wipe(self):
        """Forget everything: records, keys, accepted sources."""
        self.erase(0)
        self.erase(1)
        self.store.erase("sources")

    # -- speaking to the kit

    def ack(self, used, state, cause, sequence):
        """The acknowledgement (64 bytes) of a change: PROTOCOLS.md 6."""
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

"""A board of the cut bench: the library's vault and outbox over a flash in memory."""

import sys
from hashlib import sha256

import vfs
from limpet import changes, record, rules, seal, slots, vault
from limpet.flight import Message
from limpet.outbox import Outbox
from limpet.region import RawStore
from limpet.store import FileStore
from nor import Nor

sys.path.append(__file__.rsplit("/", 2)[0] + "/unit")
from certificates import ROOT

NEXT = ROOT[:-1] + b"\x69"  # another anchor; nobody checks its signature
CHIP = b"cut bench"
CONTROL_KEY = bytes(range(32))
VAULT_ID = b"\x77" * 16


def password(number):
    """The password of an account."""
    return sha256(b"password %d" % number).digest()


def store_secret(number):
    """The store secret that an account is enrolled with."""
    return sha256(b"store secret %d" % number).digest()


class Board:
    """A board with this image, switched on. `store` is rp2, esp32 (LittleFS with their program
    sizes) or raw; `log` is the flash's."""

    def __init__(self, store, image, log=None):
        self.flash = Nor(image, 32 if store == "esp32" else 256)
        if store == "raw":
            self.store = RawStore(self.flash)
        else:
            try:
                system = vfs.VfsLfs2(self.flash, progsize=self.flash.page)
            except OSError:
                vfs.VfsLfs2.mkfs(self.flash, progsize=self.flash.page)
                system = vfs.VfsLfs2(self.flash, progsize=self.flash.page)
            vfs.mount(system, "/cut")
            self.store = FileStore("/cut/.limpet")
        self.flash.log = log
        self.counter = 0
        self.vault = vault.Vault(self.store, CHIP, random=self._random, now=lambda: 1_800_000_000)
        self.outbox = Outbox(self, "/cut/outbox")
        self.answered = []  # payloads that the broker has acknowledged

    def off(self):
        if not isinstance(self.store, RawStore):
            vfs.umount("/cut")

    def _random(self, n):
        self.counter += 1
        return bytes([self.counter & 255]) * n

    # the vault

    def look(self):
        """A number for each valid record, the confirmed one first: its account, 10 more when it
        holds the next anchor too, 30 more when that one alone."""
        found = []
        for r in self.vault.records():
            anchors = [bytes(der) for der in r.all(record.ANCHOR)]
            more = 10 * (NEXT in anchors) + 20 * (ROOT not in anchors)
            found.append(int(r.one(record.ACCOUNT)) + more)
        return found

    def enrol(self, number):
        fields = rules.encode(
            (record.NAME, b"lamp-7"),
            (record.PROFILE, b"\x01"),
            (record.ACCOUNT, b"%023d" % number),
            (record.PASSWORD, password(number)),
            (record.CONTROL, CONTROL_KEY),
            (record.ANCHOR, ROOT),
            (record.SERVER, b"broker.example:8883"),
        )
        self.vault.write(1, VAULT_ID, store_secret(number), fields)

    def change(self, number):
        """A new account over the link."""
        self._take(
            number, (record.ACCOUNT, b"%023d" % number), (record.PASSWORD, password(number))
        )

    def anchors(self, sequence, *ders):
        """These anchors over the link, in the place of those that are there."""
        self._take(sequence, *[(record.ANCHOR, der) for der in ders])

    def _take(self, sequence, *fields):
        box = seal.seal(
            seal.CONTROL,
            1,
            sequence,
            VAULT_ID,
            CONTROL_KEY,
            seal.control_aad(),
            rules.encode(*fields),
            bytes(16),
        )
        changes.take(self.vault, box)

    def confirm(self, number):
        """A login with the record that `look` gives this number for."""
        found = self.look()
        if number in found:
            self.vault.confirm(self.vault.records()[found.index(number)])

    def scrub(self):
        self.vault.records()
        while slots.scrub(self.vault):
            pass

    def wipe(self):
        self.vault.records()
        self.vault.wipe()

    # the outbox, whose client and broker we are

    def publish_nowait(self, topic, payload, qos, retain):
        message = Message(topic, payload, 0)
        message.end()
        self.answered.append(payload)
        return message

    def put(self, number):
        self.outbox.put("t", b"%d" % number)

    def deliver(self):
        """Have the oldest message acknowledged, and forgotten."""
        try:
            self.outbox._send(self.outbox._load()[0]).send(None)
        except StopIteration:
            return
        raise RuntimeError("an acknowledged message is not waited for")

    def messages(self):
        """Numbers of the messages that are kept, oldest first. One whose file a cut left empty
        was not kept: `put` had not returned."""
        found = [self.outbox._read(key) for key in self.outbox._load()]
        return [int(message[1]) for message in found if message]

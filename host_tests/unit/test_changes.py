import unittest

from limpet import changes, record, seal, speak, vault
from limpet.rules import encode
from vault_rig import ANCHOR, CHIP, CONTROL_KEY, SECRET, MemoryStore, record_fields, vault_id

PENDING, APPLIED, FAILED, STALE, WIPED = 1, 2, 3, 4, 5  # PROTOCOLS.md 6
BY_FIELDS, BY_SPACE = 4, 5
NEW = encode((3, b"B" * 23), (4, b"b" * 32))


US = vault_id(1)


def box(sequence, fields=NEW, operation=1, key=CONTROL_KEY, to=US):
    aad = seal.control_aad()
    return seal.seal(seal.CONTROL, operation, sequence, to, key, aad, fields, bytes(16))


class TestChanges(unittest.TestCase):
    def setUp(self):
        self.store = MemoryStore()
        self.boot()
        self.vault.write(1, vault_id(1), SECRET, record_fields())

    def boot(self):
        self.vault = vault.Vault(self.store, CHIP)

    def take(self, message):
        """(state, cause, sequence) of the acknowledgement or None, and what to do then."""
        ack, then = changes.take(self.vault, message)
        if ack is None:
            return None, then
        used = self.vault.records()[0]
        expected = speak.ack(used, ack[5], ack[6], int.from_bytes(ack[8:12], "big"))
        self.assertEqual(ack, expected)
        return (ack[5], ack[6], int.from_bytes(ack[8:12], "big")), then

    def test_a_change_becomes_pending_and_keeps_what_it_does_not_name(self):
        self.assertEqual(self.take(box(9)), ((PENDING, 0, 9), changes.RESTART))
        new = self.vault.read()
        self.assertEqual((new.one(3), new.one(4), new.generation), (b"B" * 23, b"b" * 32, 2))
        self.assertEqual((new.one(1), new.one(7), new.sequence), (b"lamp-7", CONTROL_KEY, 9))
        self.assertEqual(new.all(record.SERVER), [b"broker.example:8883"])
        # Nothing is taken while one waits; after it was confirmed the same box is applied.
        self.assertEqual(self.take(box(10)), (None, changes.NOTHING))
        self.vault.confirm(new)
        self.assertEqual(self.take(box(9)), ((APPLIED, 0, 9), changes.NOTHING))
        self.assertEqual(self.take(box(8)), ((STALE, 0, 8), changes.NOTHING))
        self.boot()
        self.assertEqual(self.take(box(8)), ((STALE, 0, 8), changes.NOTHING))

    def test_repeated_fields_are_replaced_as_a_whole(self):
        anchors = encode((8, ANCHOR), (8, ANCHOR))
        self.take(box(1, anchors + encode((9, b"one:1"), (9, b"two:2"))))
        new = self.vault.read()
        self.assertEqual(new.all(8), [ANCHOR, ANCHOR])
        self.assertEqual(new.all(9), [b"one:1", b"two:2"])
        self.assertEqual(new.one(3), b"A" * 23)

    def test_pins_come_and_go(self):
        self.take(box(1, encode((10, b"p" * 32))))
        self.vault.confirm(self.vault.read())
        self.assertEqual(self.vault.read().all(10), [b"p" * 32])
        self.take(box(2, encode((14, b"\x01"))))
        self.assertEqual(self.vault.read().all(10), [])

    def test_what_is_not_from_our_kit_is_nothing(self):
        good = box(9)
        before = dict(self.store.items)
        nothing = (None, changes.NOTHING)
        for other in (box(9, key=bytes(32)), box(9, to=vault_id(2)), good[:-1], b"", bytes(592)):
            self.assertEqual(self.take(other), nothing)
        for i in range(0, len(good), 7):
            bad = bytearray(good)
            bad[i] ^= 1 << (i % 8)
            self.assertEqual(self.take(bad), nothing)
        self.assertEqual(self.store.items, before)

    def test_fields_that_no_change_may_bring(self):
        bad = (
            encode((1, b"other")),
            encode((7, bytes(32))),
            encode((12, bytes(4))),
            encode((13, bytes(8))),
            encode((3, b"B" * 23)),
            encode((4, b"b" * 32)),
            encode((5, b"k")),
            encode((77, b"?")),
            encode((8, b"no certificate")),
            encode((9, b"no port")),
            b"\x03",
        )
        for sequence, fields in enumerate(bad, 1):
            wanted = (FAILED, BY_FIELDS, sequence)
            self.assertEqual(self.take(box(sequence, fields)), (wanted, changes.NOTHING))
            self.boot()
            self.assertEqual(self.take(box(sequence, fields)), (wanted, changes.NOTHING))
            self.assertEqual(self.vault.read().one(3), b"A" * 23)

    def test_no_space(self):
        self.store.room = 100
        wanted = (FAILED, BY_SPACE, 1)
        self.assertEqual(self.take(box(1)), (wanted, changes.NOTHING))

    def test_a_wipe_names_the_device(self):
        self.assertEqual(
            self.take(box(1, encode((1, b"lamp-8")), 2)),
            ((FAILED, BY_FIELDS, 1), changes.NOTHING),
        )
        self.assertEqual(
            self.take(box(2, encode((1, b"lamp-7")), 2)), ((WIPED, 0, 2), changes.WIPE)
        )
        self.vault.wipe()
        self.assertIsNone(self.vault.read())
        self.assertTrue(self.vault.scrub_due)


if __name__ == "__main__":
    unittest.main()

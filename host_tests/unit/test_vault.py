import unittest

from limpet import keys, record, speak, vault
from vault_rig import CHIP, SECRET, VECTORS, MemoryStore, code, record_fields, vault_id


class VaultCase(unittest.TestCase):
    def setUp(self):
        self.store = MemoryStore()
        self.vault = self.boot()

    def boot(self, chip=CHIP):
        """The vault as the next start finds it."""
        return vault.Vault(self.store, chip)

    def enrol(self, number=1, source=keys.SOFT):
        return self.vault.write(source, vault_id(number), SECRET, record_fields(b"%023d" % number))

    def account(self):
        r = self.boot().read()
        return r and int(r.one(record.ACCOUNT))


class TestSlots(VaultCase):
    def test_empty(self):
        self.assertIsNone(self.vault.read())

    def test_first_record_is_confirmed_at_once(self):
        self.assertEqual(self.enrol(), (0, 1))
        self.assertEqual(self.account(), 1)
        r = self.boot().read()
        self.assertEqual((r.generation, r.vault_id, r.source), (1, vault_id(1), keys.SOFT))

    def test_second_goes_into_the_other_slot_and_is_used_first(self):
        self.enrol(1)
        self.assertEqual(self.enrol(2), (1, 2))
        self.assertEqual(self.account(), 2)
        confirmed, pending = self.boot().records()
        self.assertEqual((confirmed.generation, pending.generation), (1, 2))

    def test_confirm_removes_the_older_with_its_key(self):
        self.enrol(1)
        self.enrol(2)
        self.vault.confirm(self.vault.read())
        self.assertEqual(self.account(), 2)
        self.assertTrue("box0" not in self.store.items)
        self.assertTrue("key0" not in self.store.items)
        self.assertEqual(self.enrol(3), (0, 3))

    def test_confirming_the_confirmed_removes_nothing(self):
        self.enrol(1)
        confirmed = self.vault.read()
        self.enrol(2)
        self.vault.confirm(confirmed)
        self.assertEqual(self.account(), 2)

    def test_a_third_takes_the_place_of_the_pending(self):
        self.enrol(1)
        self.enrol(2)
        self.assertEqual(self.enrol(3), (1, 2))
        self.assertEqual([r.generation for r in self.boot().records()], [1, 2])
        self.assertEqual(self.account(), 3)

    def test_equal_generations_leave_slot_0(self):
        self.enrol(1)
        other = MemoryStore()
        vault.Vault(other, CHIP).write(1, vault_id(2), SECRET, record_fields(b"%023d" % 2))
        self.store.items["box1"] = other.items["box0"]
        self.store.items["key1"] = other.items["key0"]
        self.assertEqual(self.account(), 1)
        self.assertTrue("box1" not in self.store.items)

    def test_wipe_leaves_nothing(self):
        self.enrol(1)
        self.enrol(2)
        self.vault.wipe()
        self.assertEqual(list(self.store.items), ["wiped"])
        self.assertIsNone(self.boot().read())

    def test_the_key_is_written_before_its_box_and_erased_after_it(self):
        self.enrol(1)
        self.vault.erase(0)
        self.assertEqual(
            [step for step in self.store.log if step[1] in ("box0", "key0")],
            [("write", "key0"), ("write", "box0"), ("erase", "box0"), ("erase", "key0")],
        )


class TestBadInput(VaultCase):
    def test_moved_to_another_board(self):
        self.enrol()
        self.assertEqual(code(self.boot(CHIP + b"x").read), "VAULT_CLOSED")

    def test_key_gone(self):
        self.enrol()
        del self.store.items["key0"]
        self.assertEqual(code(self.boot().read), "VAULT_CLOSED")

    def test_damaged_or_cut_pending_leaves_the_confirmed(self):
        self.enrol(1)
        self.enrol(2)
        whole = self.store.items["box1"]
        for damaged in (whole[:-1], whole[:100], b"", b"\xff" * 592, bytes(len(whole))):
            self.store.items["box1"] = damaged
            self.assertEqual(self.account(), 1)

    def test_source_that_is_not_accepted_is_not_read_though_its_tag_is_right(self):
        self.enrol(source=keys.PLAIN)
        self.assertEqual(self.account(), 1)
        strict = vault.Vault(self.store, CHIP, keys.Keys(self.store, sources=b"\x01"))
        self.assertEqual(code(strict.read), "VAULT_SOURCE")

    def test_plain_record_that_nobody_asked_for_does_not_open(self):
        self.enrol(source=keys.PLAIN)
        self.store.items["key0"] = SECRET
        self.assertEqual(code(self.boot().read), "VAULT_CLOSED")
        del self.store.items["key0"]
        self.assertEqual(code(self.boot().read), "VAULT_CLOSED")

    def test_external_secret_is_not_stored_and_must_be_the_right_one(self):
        def boot(secret):
            return vault.Vault(self.store, CHIP, keys.Keys(self.store, secret))

        boot(SECRET).write(keys.EXTERNAL, vault_id(1), SECRET, record_fields())
        self.assertTrue("key0" not in self.store.items)
        self.assertEqual(boot(SECRET).read().source, keys.EXTERNAL)
        self.assertEqual(code(boot(bytes(32)).read), "VAULT_CLOSED")
        self.assertEqual(code(self.boot().read), "VAULT_SOURCE")
        wrong = boot(bytes(32)).write
        self.assertEqual(
            code(wrong, keys.EXTERNAL, vault_id(2), SECRET, record_fields()), "SOURCE"
        )

    def test_unknown_source(self):
        self.assertEqual(code(self.enrol, 1, 3), "SOURCE")

    def test_full_flash_keeps_the_confirmed(self):
        self.enrol(1)
        self.store.room = 100
        self.assertEqual(code(self.enrol, 2), "NO_SPACE")
        self.assertEqual(self.account(), 1)

    def test_flash_that_does_not_keep_what_was_written(self):
        self.enrol(1)
        self.store.garble = "box1"
        self.assertEqual(code(self.enrol, 2), "NOT_READ_BACK")
        self.assertEqual(self.account(), 1)
        self.assertTrue("box1" not in self.store.items)

    def test_bad_fields_change_nothing(self):
        self.enrol(1)
        before = dict(self.store.items)
        write = self.vault.write
        self.assertEqual(code(write, 1, vault_id(2), SECRET, b"\x01\0\x01x"), "BAD_FIELDS")
        self.assertEqual(self.store.items, before)

    def test_newer_record(self):
        self.enrol()
        from limpet import rules  # the vault has forgotten it meanwhile

        check = rules.check
        rules.check = lambda fields: None
        try:
            newer = record_fields(b"A" * 23, (77, b"?"))
            self.assertEqual(
                code(self.vault.write, 1, vault_id(2), SECRET, newer), "NOT_READ_BACK"
            )
        finally:
            rules.check = check
        self.assertEqual(self.account(), 1)


class TestForTheKit(VaultCase):
    def test_proof_and_ack_of_the_vector(self):
        v = VECTORS["record"]
        self.store.items["box0"] = bytes.fromhex(v["box"])
        self.store.items["key0"] = bytes.fromhex(v["store_secret"])
        r, h, p = speak.proof(self.vault, bytes.fromhex(VECTORS["proof"]["nonce"]))
        self.assertEqual((h.hex(), p.hex()), (VECTORS["proof"]["h"], VECTORS["proof"]["p"]))
        a = VECTORS["ack"]
        r.generation = a["generation"]
        message = speak.ack(r, a["state"], a["cause"], a["sequence"])
        self.assertEqual(message.hex(), a["message"])

    def test_no_proof_without_a_record(self):
        self.assertEqual(code(speak.proof, self.vault, bytes(32)), "STATE")


if __name__ == "__main__":
    unittest.main()

import json
import unittest
from binascii import b2a_base64

from limpet import enroll, vault
from vault_rig import CHIP, SECRET, MemoryStore, record_fields, vault_id


class TestEnrol(unittest.TestCase):
    def setUp(self):
        self.store = MemoryStore()
        self.reset()

    def reset(self):
        enroll.use(vault.Vault(self.store, CHIP))

    def tearDown(self):
        enroll.use(None)

    def call(self, name, *arguments):
        line = getattr(enroll, name)(*arguments)
        self.assertTrue("\n" not in line and len(line) <= 4096)
        return json.loads(line)

    def error(self, name, *arguments):
        answer = self.call(name, *arguments)
        self.assertTrue(answer["words"])
        return answer["error"]

    def put(self, data):
        self.call("begin", len(data))
        for at in range(0, len(data), 256):
            text = b2a_base64(data[at : at + 256]).decode()
            self.assertEqual(self.call("put", at, text)["have"], min(len(data), at + 256))

    def enrol(self, number=1, source=1):
        self.put(vault_id(number) + SECRET + record_fields(b"%023d" % number))
        return self.call("commit", source)

    def test_hello(self):
        empty = self.call("hello")
        self.assertEqual((empty["protocol"], empty["slots"]), (1, []))
        self.assertEqual((empty["sources"], empty["chip"]), ([1, 0], CHIP.hex()))
        for name in ("limpet", "chip", "platform", "machine", "micropython", "free", "psk"):
            self.assertIn(name, empty)
        self.assertEqual(len(empty["micropython"]), 3)
        self.enrol()
        slot = {"slot": 0, "vault": vault_id(1).hex(), "generation": 1, "source": 1}
        self.assertEqual(self.call("hello")["slots"], [slot])

    def test_enrol_reset_prove_wipe(self):
        self.assertEqual(self.enrol(), {"slot": 0, "generation": 1})
        self.reset()
        proof = self.call("proof", bytes(32).hex())
        self.assertEqual((proof["vault"], proof["generation"]), (vault_id(1).hex(), 1))
        self.assertEqual((len(proof["h"]), len(proof["p"])), (64, 64))
        self.assertEqual(self.call("wipe"), {"ok": True})
        self.assertEqual(self.error("proof", bytes(32).hex()), "STATE")

    def test_enrol_twice_in_a_row(self):
        self.enrol(1)
        self.enrol(2)
        self.assertEqual(self.enrol(3), {"slot": 1, "generation": 2})

    def test_retry_ends_a_refused_wait(self):
        self.assertEqual(self.call("retry"), {"ok": True})
        self.enrol()
        board = vault.Vault(self.store, CHIP)
        board.read()
        board.note(steps=3, left=9999)
        self.reset()
        self.assertEqual(self.call("retry"), {"ok": True})
        again = vault.Vault(self.store, CHIP)
        again.read()
        self.assertEqual((again.journal.steps, again.journal.left), (0, 0))

    def test_pieces_may_be_sent_again_but_not_out_of_order(self):
        self.call("begin", 100)
        text = b2a_base64(bytes(60)).decode()
        self.assertEqual(self.call("put", 0, text)["have"], 60)
        self.assertEqual(self.call("put", 0, text)["have"], 60)
        self.assertEqual(self.error("put", 61, text), "STATE")
        self.assertEqual(self.error("put", 60, text), "STATE")
        self.assertEqual(self.error("put", -1, text), "STATE")
        self.assertEqual(self.error("commit", 1), "STATE")

    def test_out_of_order_calls(self):
        self.assertEqual(self.error("put", 0, ""), "STATE")
        self.assertEqual(self.error("commit", 1), "STATE")
        self.assertEqual(self.error("begin", 48), "BAD_FIELDS")
        self.assertEqual(self.error("begin", 1_000_000), "BAD_FIELDS")
        self.assertEqual(self.error("proof", "xyz"), "STATE")

    def test_bad_text_source_and_fields(self):
        self.call("begin", 100)
        self.assertEqual(self.error("put", 0, "A"), "BAD_FIELDS")
        self.put(vault_id(1) + SECRET + b"nonsense")
        self.assertEqual(self.error("commit", 1), "BAD_FIELDS")
        self.put(vault_id(1) + SECRET + record_fields())
        self.assertEqual(self.error("commit", 4), "SOURCE")
        self.assertEqual(self.call("hello")["slots"], [])

    def test_nothing_is_left_in_the_buffer(self):
        self.put(vault_id(1) + SECRET + record_fields())
        buffer = enroll._buffer
        self.call("commit", 1)
        self.assertEqual(buffer, bytes(len(buffer)))
        self.assertEqual(self.error("commit", 1), "STATE")

    def test_an_unexpected_fault_is_an_answer_without_its_text(self):
        def fail():
            raise RuntimeError("secret")

        self.store.free = fail
        answer = self.call("hello")
        self.assertEqual(answer["error"], "BUG")
        self.assertTrue("secret" not in answer["words"])


if __name__ == "__main__":
    unittest.main()

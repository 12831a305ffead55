import struct
import unittest

from limpet import record, seal
from vault_rig import VECTORS, joined

R = VECTORS["record"]
C = VECTORS["control"]
CHIP = bytes.fromhex(R["chip"])
VAULT_ID = bytes.fromhex(R["vault_id"])
SECRET = bytes.fromhex(R["store_secret"])
CONTROL_KEY = bytes.fromhex(R["control_key"])
BOX = bytes.fromhex(R["box"])
RANDOM = bytes.fromhex(R["random"])
FIELDS = joined(R["fields"])
AAD = seal.record_aad(CHIP)


def sealed(generation=3, fields=FIELDS):
    return seal.seal(seal.RECORD, 1, generation, VAULT_ID, SECRET, AAD, fields, RANDOM)


def opened(box, secret=SECRET, aad=AAD):
    return seal.open(seal.RECORD, bytearray(box), secret, aad)


class TestVector(unittest.TestCase):
    def test_keys(self):
        prk = seal.hmac(VAULT_ID, SECRET)
        for name in ("enc", "mac", "iv"):
            key = seal.expand(prk, b"limpet/1/%s/" % name.encode(), b"\x01")
            self.assertEqual(key.hex(), R[name + "_key"])
        kit = seal.hmac(VAULT_ID, bytes.fromhex(R["kit_key"]))
        self.assertEqual(seal.expand(kit, b"limpet/1/control"), CONTROL_KEY)

    def test_record_seals_to_the_vector_and_opens(self):
        self.assertEqual(bytes(sealed()), BOX)
        self.assertEqual(bytes(opened(BOX)), FIELDS)
        self.assertEqual(seal.head(seal.RECORD, BOX), (1, 3, VAULT_ID, len(FIELDS)))

    def test_control_box_seals_to_the_vector_and_opens(self):
        fields = joined(C["fields"])
        box = seal.seal(
            seal.CONTROL, 1, 9, VAULT_ID, CONTROL_KEY, seal.control_aad(), fields, bytes(16)
        )
        self.assertEqual(box.hex(), C["box"])
        found = seal.open(seal.CONTROL, box, CONTROL_KEY, seal.control_aad())
        self.assertEqual(bytes(found), fields)

    def test_acknowledgement(self):
        a = VECTORS["ack"]
        head = struct.pack(
            ">4sBBBBII16s",
            b"LMPA",
            1,
            a["state"],
            a["cause"],
            a["source"],
            a["sequence"],
            a["generation"],
            VAULT_ID,
        )
        key = seal.expand(seal.hmac(VAULT_ID, CONTROL_KEY), b"limpet/1/ack")
        tag = seal.hmac(key, b"limpet ack\x01", head)
        self.assertEqual((head + tag).hex(), a["message"])

    def test_stuck_random_still_gives_another_iv_for_another_generation(self):
        self.assertNotEqual(sealed(4)[32:48], BOX[32:48])


class TestTampering(unittest.TestCase):
    def test_no_flipped_bit_opens(self):
        for i in range(len(BOX)):
            box = bytearray(BOX)
            box[i] ^= 1 << i % 8
            self.assertIsNone(opened(box), i)

    def test_no_truncated_or_longer_box_opens(self):
        for n in (0, 47, 79, 80, 591):
            self.assertIsNone(opened(BOX[:n]))
        self.assertIsNone(opened(BOX + b"\0"))
        self.assertIsNone(opened(BOX + bytes(512)))

    def test_not_on_another_chip_nor_with_another_secret_nor_as_another_kind(self):
        self.assertIsNone(opened(BOX, aad=seal.record_aad(CHIP + b"x")))
        self.assertIsNone(opened(BOX, secret=bytes(32)))
        self.assertIsNone(seal.open(seal.CONTROL, bytearray(BOX), SECRET, AAD))
        downgraded = bytearray(BOX)
        downgraded[5] = 0
        self.assertIsNone(opened(downgraded, secret=bytes(32)))

    def test_padding_that_is_not_zero_does_not_open(self):
        box = sealed(fields=FIELDS + b"\x01")
        struct.pack_into(">H", box, 12, len(FIELDS))
        keys = seal.hmac(VAULT_ID, SECRET)
        mac = seal.expand(keys, b"limpet/1/mac/", b"\x01")
        box[-32:] = seal.hmac(mac, AAD, box[:-32])
        self.assertIsNone(opened(box))


class TestSize(unittest.TestCase):
    def test_largest_and_smallest(self):
        for n in (1, 511, 512, 513, seal.LARGEST):
            self.assertTrue(opened(sealed(fields=b"x" * n)) == b"x" * n)

    def test_too_large_or_empty_is_refused(self):
        for n in (0, seal.LARGEST + 1):
            with self.assertRaises(ValueError):
                sealed(fields=bytes(n))


class TestFields(unittest.TestCase):
    def test_walk_is_the_reverse_of_encode(self):
        found = [(tag, FIELDS[a:b].hex()) for tag, a, b in record.walk(FIELDS)]
        self.assertEqual(found, [(tag, value) for tag, value in R["fields"]])

    def test_cut_fields_do_not_add_up(self):
        for n in (1, 2, 3, 8):
            with self.assertRaises(ValueError):
                list(record.walk(FIELDS[:n]))


if __name__ == "__main__":
    unittest.main()

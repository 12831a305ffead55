import unittest

from limpet import record, rules
from vault_rig import ANCHOR, code, record_fields


def without(tag):
    fields = record_fields()
    return b"".join(fields[a - 3 : b] for found, a, b in record.walk(fields) if found != tag)


class TestRecord(unittest.TestCase):
    def make(self, *more):
        fields = bytearray(record_fields(b"A" * 23, *more))
        return record.Record(memoryview(fields), 3, bytes(16), 1, 0), fields

    def test_one_all_and_sequence(self):
        r, _ = self.make((record.SERVER, b"second:1"), (record.SEQUENCE, b"\0\0\x01\x02"))
        self.assertEqual(r.one(record.NAME), b"lamp-7")
        self.assertIsNone(r.one(record.PIN))
        self.assertEqual(r.all(record.SERVER), [b"broker.example:8883", b"second:1"])
        self.assertEqual(r.sequence, 258)

    def test_wipe_overwrites_the_memory(self):
        r, fields = self.make()
        r.wipe()
        self.assertEqual(fields, bytes(len(fields)))
        self.assertIsNone(r.one(record.NAME))


class TestCheck(unittest.TestCase):
    def refuse(self, fields):
        self.assertEqual(code(rules.check, fields), "BAD_FIELDS")

    def test_a_good_record_passes_also_with_fields_from_later_versions(self):
        rules.check(record_fields())
        rules.check(record_fields(b"A" * 23, (200, b"?"), (200, b"?")))
        four = [(record.SERVER, b"h:%d" % (i + 1)) for i in range(3)]
        rules.check(record_fields(b"A" * 23, *four))

    def test_what_must_be_there(self):
        for tag in (1, 2, 3, 4, 7, 8, 9):
            self.refuse(without(tag))

    def test_psk_needs_no_anchor_and_x509_needs_key_and_certificate(self):
        psk = without(8)
        at = psk.index(b"\x02\0\x01\x01")
        rules.check(psk[:at] + b"\x02\0\x01\x03" + psk[at + 4 :])
        self.refuse(record_fields().replace(b"\x02\0\x01\x01", b"\x02\0\x01\x04"))

    def test_what_must_not_be(self):
        good = record_fields()
        self.refuse(b"")
        self.refuse(good[:-1])
        self.refuse(good + rules.encode((record.NAME, b"other")))
        self.refuse(good + rules.encode((15, b"")))
        self.refuse(good + rules.encode((0, b"")))
        self.refuse(good + rules.encode(*[(record.SERVER, b"h:1")] * 4))
        self.refuse(good + rules.encode((record.SERVER, b"no port")))
        self.refuse(good + rules.encode((record.SERVER, b"h:65536")))
        self.refuse(good + rules.encode((record.SERVER, b"\xff:1")))
        self.refuse(good + rules.encode((record.PIN, bytes(31))))
        self.refuse(good + rules.encode((record.SEQUENCE, bytes(3))))
        self.refuse(good + rules.encode((record.NETWORK, b"")))
        self.refuse(good + rules.encode((record.NETWORK, b"\x05Home")))
        self.refuse(good + rules.encode((record.ANCHOR, b"no certificate")))
        self.refuse(good + rules.encode((record.ANCHOR, ANCHOR[:-200])))

    def test_newer(self):
        self.assertTrue(record.newer(record_fields(b"A" * 23, (77, b""))))
        self.assertFalse(record.newer(record_fields(b"A" * 23, (177, b""))))

    def test_names(self):
        for name in (b"lamp-7", b"a12", b"0" * 32):
            self.assertTrue(rules.name_fits(name))
        for name in (b"", b"ab", b"-ab", b"Lamp", b"a_b", b"kit", b"fleet", b"time", b"0" * 33):
            self.assertFalse(rules.name_fits(name))


if __name__ == "__main__":
    unittest.main()

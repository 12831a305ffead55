"""The DER reader: what it finds in right certificates, what it says of wrong ones."""

import unittest

import certificates
from limpet import x509

YEAR_2026 = 1767225600
YEAR_2027 = 1798761600


class Reads(unittest.TestCase):
    def test_dates(self):
        for der in (certificates.LEAF, certificates.RSA, certificates.P384):
            found = x509.Certificate(der)
            self.assertEqual(found.not_before, YEAR_2026)
            self.assertEqual(found.not_after, YEAR_2027)
        # from 2050 on a date is a GeneralizedTime
        self.assertEqual(x509.Certificate(certificates.ROOT).not_after, 2537654400)

    def test_parts(self):
        root = x509.Certificate(certificates.ROOT)
        self.assertTrue(root.self_issued)
        self.assertIsNone(root.names)
        self.assertIsNone(root.usage)
        self.assertFalse(root.constrained)
        self.assertFalse(x509.Certificate(certificates.BETWEEN).self_issued)
        self.assertTrue(x509.Certificate(certificates.LIMITED).constrained)
        leaf = x509.Certificate(certificates.LEAF)
        start, end = leaf.names
        tag, start, end = x509.element(certificates.LEAF, start, end)
        self.assertEqual(tag, x509.DNS_NAME)
        self.assertEqual(certificates.LEAF[start:end], b"broker.example")

    def test_usage(self):
        for der, right in (
            (certificates.LEAF, True),
            (certificates.FOR_BOTH, True),
            (certificates.FOR_CLIENTS, False),
        ):
            self.assertEqual(x509.for_servers(der, *x509.Certificate(der).usage), right)
        self.assertIsNone(x509.Certificate(certificates.FOR_NOTHING).usage)

    def test_keys(self):
        for name in ("LEAF", "RSA", "P384", "P521"):
            der = getattr(certificates, name)
            self.assertTrue(x509.strong_key(der, *x509.Certificate(der).key), name)
        for name in ("RSA1024", "P224", "BRAINPOOL"):
            der = getattr(certificates, name)
            self.assertFalse(x509.strong_key(der, *x509.Certificate(der).key), name)

    def test_hashes(self):
        for name in ("LEAF", "SHA384"):
            der = getattr(certificates, name)
            self.assertTrue(x509.strong_hash(der, *x509.Certificate(der).signature), name)
        for name in ("SHA1", "SHA224", "ROOT_SHA1"):
            der = getattr(certificates, name)
            self.assertFalse(x509.strong_hash(der, *x509.Certificate(der).signature), name)

    def test_a_memoryview_reads_the_same(self):
        view = memoryview(certificates.RSA)
        found = x509.Certificate(view)
        self.assertTrue(x509.strong_key(view, *found.key))
        self.assertTrue(x509.strong_hash(view, *found.signature))


class Refuses(unittest.TestCase):
    def test_every_truncation(self):
        for end in range(len(certificates.LEAF)):
            self.assertRaises(ValueError, x509.Certificate, certificates.LEAF[:end])

    def test_broken_elements(self):
        for der in (
            b"",
            b"\x30",
            b"\x30\x80\x00\x00",  # indefinite length
            b"\x30\x84\x00\x00\x00\x01\x00",  # more than three bytes of length
            b"\x30\x82\x01",
            b"\x30\x02\x00",
            b"\x3f\x21\x01\x00",  # a tag of more than one byte
        ):
            self.assertRaises(ValueError, x509.element, der, 0, len(der))
        self.assertRaises(ValueError, x509.expect, b"\x31\x00", 0, 2, 0x30)

    def test_bad_times(self):
        for text in (
            b"2601010000Z",  # no seconds
            b"260101000000",  # no zone
            b"260101000000+",
            b"261301000000Z",
            b"260100000000Z",
            b"260101240000Z",
            b"26010100000aZ",
            b"",
        ):
            self.assertRaises(ValueError, x509.when, text, 0x17, 0, len(text))
        text = b"20260101000000Z"
        self.assertRaises(ValueError, x509.when, text, 0x17, 0, len(text))
        self.assertEqual(x509.when(text, 0x18, 0, len(text)), YEAR_2026)
        self.assertRaises(ValueError, x509.when, b"260101000000Z", 4, 0, 13)

    def test_the_same_extension_twice(self):
        der = certificates.LEAF
        at = der.find(b"\x06\x03\x55\x1d\x25")  # extendedKeyUsage becomes a subjectAltName
        doubled = der[:at] + b"\x06\x03\x55\x1d\x11" + der[at + 5 :]
        self.assertRaises(ValueError, x509.Certificate, doubled)


class Days(unittest.TestCase):
    def test_calendar(self):
        for date, days in (
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11016),
            ((2000, 3, 1), 11017),
            ((2026, 11, 25), 20782),
            ((2100, 2, 28), 47540),
            ((2100, 3, 1), 47541),
        ):
            self.assertEqual(x509.days(*date), days)


if __name__ == "__main__":
    unittest.main()

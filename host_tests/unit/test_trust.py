"""What trust refuses beyond mbedTLS, and in which words. Handshakes: system/test_hostile.py."""

import unittest

import certificates
from limpet import trust
from limpet.errors import Lost, Untrusted

IN_2026 = 1780000000
HOST = "broker.example"


def judge(chain, host=HOST, now=IN_2026, pins=()):
    """What the callback makes of a chain, anchor first: (its value, code)."""
    judged = trust.Trust([certificates.ROOT], host, pins=pins, now=lambda: now)
    value = 0
    for i in range(len(chain)):
        value = value or judged._check(memoryview(chain[i]), len(chain) - 1 - i)
    return value, judged


class Judges(unittest.TestCase):
    def good(self, chain, host=HOST, pins=()):
        value, judged = judge(chain, host, pins=pins)
        self.assertEqual((value, judged.why), (0, None))
        return judged

    def bad(self, code, chain, host=HOST, now=IN_2026, pins=()):
        value, judged = judge(chain, host, now, pins)
        self.assertEqual(value, -0x3000)
        self.assertEqual(judged.why[0], code)
        failure = judged.failure(OSError(-0x3000, "MBEDTLS_ERR_X509_FATAL_ERROR"))
        self.assertTrue(isinstance(failure, Untrusted))
        self.assertTrue(len(failure.words.encode()) <= 200, failure.words)
        self.assertEqual(judged.server_ends, 0)
        return failure.words

    def test_right_ones(self):
        for name in (
            "LEAF",
            "RSA",
            "P384",
            "P521",
            "SHA384",
            "FOR_BOTH",
            "FOR_NOTHING",
        ):
            self.good((certificates.ROOT, getattr(certificates, name)))
        self.good((certificates.ROOT, certificates.WILDCARD), "broker.lan.example")
        self.good((certificates.ROOT, certificates.BETWEEN, certificates.LEAF))
        self.good((certificates.ROOT_SHA1, certificates.LEAF))
        self.good((certificates.ROOT, certificates.LEAF), "Broker.Example")
        self.good((certificates.ROOT, certificates.LEAF), "broker.example.")

    def test_when_they_end(self):
        judged = self.good((certificates.ROOT, certificates.LEAF))
        self.assertEqual(judged.chain_ends, 1798761600)
        self.assertEqual(judged.server_ends, 1798761600)
        self.assertEqual(judged.anchor_ends, 2537654400)

    def test_names(self):
        for name in ("OTHER", "ADDRESS", "UNNAMED", "TOP_LEVEL"):
            self.bad("NAME", (certificates.ROOT, getattr(certificates, name)))
        words = self.bad("NAME", (certificates.ROOT, certificates.OTHER))
        self.assertTrue("broker.lan" in words and HOST in words, words)
        self.bad("NAME", (certificates.ROOT, certificates.OTHER), "x" * 200 + ".lan")
        self.bad("NAME", (certificates.ROOT, certificates.WILDCARD), "a.b.lan.example")

    def test_addresses(self):
        chain = (certificates.ROOT, certificates.ADDRESS)
        for host in ("192.0.2.7", "2001:db8::7", "[2001:db8::7]"):
            self.good(chain, host)
        self.bad("NAME", chain, "192.0.2.8")
        self.bad("NAME", (certificates.ROOT, certificates.LEAF), "192.0.2.7")

    def test_dates(self):
        words = self.bad("CLOCK", (certificates.ROOT, certificates.LEAF), now=1609459200)
        self.assertTrue("2021-01-01" in words, words)
        words = self.bad("EXPIRED", (certificates.ROOT, certificates.LEAF), now=1900000000)
        self.assertTrue("2027-01-01" in words, words)

    def test_strength(self):
        for name in ("RSA1024", "P224", "BRAINPOOL", "SHA224", "SHA1"):
            self.bad("WEAK", (certificates.ROOT, getattr(certificates, name)))

    def test_use(self):
        self.bad("USAGE", (certificates.ROOT, certificates.FOR_CLIENTS))
        self.bad("CONSTRAINTS", (certificates.LIMITED, certificates.LEAF))

    def test_pins(self):
        chain = (certificates.ROOT, certificates.LEAF)
        self.good(chain, pins=[bytes(32), certificates.LEAF_PIN])
        self.bad("PIN", chain, pins=[bytes(32)])
        self.bad("PIN", (certificates.ROOT, certificates.RSA), pins=[certificates.LEAF_PIN])

    def test_garbage(self):
        self.bad("MALFORMED", (b"\x30\x03\x02\x01\x00",))
        self.bad("MALFORMED", (certificates.ROOT, certificates.LEAF[:200]))

    def test_what_a_server_sent_is_made_plain(self):
        at = certificates.LEAF.find(b"broker.example")
        sent = certificates.LEAF[:at] + b"\x1b[2J\n\x00\xff\xfe" + certificates.LEAF[at + 8 :]
        words = self.bad("NAME", (certificates.ROOT, sent))
        for c in words:
            self.assertTrue(" " <= c <= "~", words)

    def test_the_first_refusal_counts(self):
        _, judged = judge((certificates.ROOT, certificates.LEAF), "other.example")
        judged._check(memoryview(certificates.ROOT), 0)
        self.assertEqual(judged.why[0], "NAME")

    def test_the_callback_never_raises(self):
        def late():
            raise KeyboardInterrupt

        def full():
            raise MemoryError

        for now, kind in ((late, Untrusted), (full, Lost)):
            judged = trust.Trust([certificates.ROOT], HOST, now=now)
            self.assertEqual(judged._check(memoryview(certificates.LEAF), 0), -0x3000)
            self.assertTrue(isinstance(judged.failure(OSError(-0x3000)), kind))


class Failures(unittest.TestCase):
    """What mbedTLS raises, in classes and words."""

    def setUp(self):
        self.trust = trust.Trust([certificates.ROOT], HOST)

    def check(self, error, kind, code):
        failure = self.trust.failure(error)
        self.assertTrue(isinstance(failure, kind), failure)
        self.assertEqual(failure.code, code)
        self.assertTrue(len(failure.words.encode()) <= 200 and "\n" not in failure.words)

    def test_certificates(self):
        for text, code in (
            ("The certificate is not correctly signed by the trusted CA", "SIGNATURE"),
            ("The certificate validity starts in the future", "CLOCK"),
            ("The certificate validity has expired", "EXPIRED"),
            ("The certificate Common Name (CN) does not match with the expected CN", "NAME"),
            ("The certificate is signed with an unacceptable hash.", "WEAK"),
            ("Usage does not match the extendedKeyUsage extension", "USAGE"),
            ("two\nlines " + "x" * 300, "CERTIFICATE"),
        ):
            self.check(ValueError("\n" + text + "\n"), Untrusted, code)
        self.check(
            OSError(-0x2700, "MBEDTLS_ERR_X509_CERT_VERIFY_FAILED"), Untrusted, "CERTIFICATE"
        )
        self.check(OSError(-0x7A00), Untrusted, "CERTIFICATE")

    def test_network(self):
        for number in (-0x7280, -0x7780, -0x7200, 104, 12):
            self.check(OSError(number), Lost, "TLS")
        self.check(OSError(-0x2880), Lost, "MEMORY")
        self.check(OSError(), Lost, "TLS")

    def test_a_shared_key(self):
        self.trust = trust.Trust((), HOST, psk=(b"Abc", bytes(32)))
        self.check(OSError(-0x7780), Untrusted, "PSK")
        self.check(OSError(104), Lost, "TLS")


class Loads(unittest.TestCase):
    def test_several_anchors(self):
        trust.Trust([certificates.ROOT, certificates.ROOT_SHA1], HOST)

    def test_a_broken_anchor_is_said(self):
        try:
            trust.Trust([certificates.ROOT, b"-----BEGIN"], HOST)
        except Untrusted as e:
            self.assertEqual(e.code, "ANCHOR")
        else:
            self.fail("it was taken")


if __name__ == "__main__":
    unittest.main()

"""RFC 9525: which names of a certificate stand for the host that was dialled."""

import unittest

from limpet import names


class Matches(unittest.TestCase):
    def test_equal(self):
        self.assertTrue(names.matches(b"broker.example", b"broker.example"))
        self.assertTrue(names.matches(b"localhost", b"localhost"))

    def test_wildcard_is_one_whole_left_label(self):
        self.assertTrue(names.matches(b"*.lan.example", b"broker.lan.example"))
        for pattern, host in (
            (b"*.lan.example", b"lan.example"),
            (b"*.lan.example", b"a.b.lan.example"),
            (b"*.lan.example", b".lan.example"),
            (b"b*.lan.example", b"broker.lan.example"),
            (b"*r.lan.example", b"broker.lan.example"),
            (b"broker.*.example", b"broker.lan.example"),
            (b"*.*.example", b"broker.lan.example"),
            (b"*", b"localhost"),
            (b"*", b"broker"),
            (b"*.example", b"broker.example"),
            (b"*.example.", b"broker.example."),
            (b"*.", b"broker."),
            (b"", b"broker"),
        ):
            self.assertFalse(names.matches(pattern, host), pattern)

    def test_no_part_of_a_name_is_enough(self):
        for pattern in (b"broker.example\0.evil.example", b"broker.exampl", b"xbroker.example"):
            self.assertFalse(names.matches(pattern, b"broker.example"))


class Address(unittest.TestCase):
    def test_ipv4(self):
        self.assertEqual(names.address(b"192.0.2.7"), b"\xc0\x00\x02\x07")
        for host in (
            b"192.0.2",
            b"192.0.2.256",
            b"192.0.2.7.1",
            b"1.2.3.+4",
            b"1.2.3.",
            b"1.2.3.a",
        ):
            self.assertIsNone(names.address(host))

    def test_ipv6(self):
        full = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x07"
        self.assertEqual(names.address(b"2001:db8::7"), full)
        self.assertEqual(names.address(b"2001:db8:0:0:0:0:0:7"), full)
        self.assertEqual(names.address(b"::"), bytes(16))
        self.assertEqual(names.address(b"::1"), bytes(15) + b"\x01")
        for host in (
            b"2001:db8",
            b"1:2:3:4:5:6:7:8:9",
            b"1:2:3:4:5:6:7:8::",
            b"1::2::3",
            b"12345::",
            b"g::",
            b":1",
            b":",
            b"::1:",
        ):
            self.assertIsNone(names.address(host), host)

    def test_a_name_is_none(self):
        for host in (b"broker.example", b"localhost", b"", b"a.b.c.d"):
            self.assertIsNone(names.address(host))


if __name__ == "__main__":
    unittest.main()

import unittest

from limpet import dns, resolve
from limpet.errors import Lost

PORT = 8883


def name(text):
    return b"".join([bytes((len(p),)) + p.encode() for p in text.split(".")]) + b"\0"


def answer(query, *records):
    """A DNS answer to `query`: (kind, data) records, each under a compressed name."""
    body = b"".join(
        [
            b"\xc0\x0c\0%c\0\1\0\0\0\x3c" % kind + len(data).to_bytes(2, "big") + data
            for kind, data in records
        ]
    )
    return query[:2] + b"\x81\x80\0\1" + bytes((0, len(records))) + b"\0\0\0\0" + query[12:] + body


class Server:
    """DNS servers by address: what each answers to a query; nothing for those not named."""

    AF_INET, SOCK_STREAM, SOCK_DGRAM = 2, 1, 2

    def __init__(self, answers):
        self.answers = answers
        self.asked = []
        self.open = 0

    def getaddrinfo(self, host, port, family=0, kind=0):
        if host[:1] not in "0123456789" and ":" not in host:
            raise OSError(-2)
        return [(10 if ":" in host else 2, kind, 0, "", (host, port))]

    def socket(self, family, kind):
        self.open += 1
        return Udp(self)


class Udp:
    def __init__(self, net):
        self.net = net
        self.inbox = []

    def setblocking(self, flag):
        pass

    def connect(self, where):
        self.server = where[0]

    def send(self, query):
        self.net.asked.append(self.server)
        found = self.net.answers.get(self.server)
        if found:
            self.inbox.append(found(query))

    def recv(self, n):
        if not self.inbox:
            raise OSError(11)
        return self.inbox.pop(0)

    def close(self):
        self.net.open -= 1


def both(query):
    kind = query[-3]
    if kind == 1:
        cname = (5, name("other.example"))
        return answer(query, cname, (1, b"\x0a\0\0\1"), (1, b"\x0a\0\0\2"))
    return answer(query, (28, bytes(15) + b"\1"))


class Case(unittest.TestCase):
    def setUp(self):
        self.before = resolve.socket, dns.socket, dns.ticks_ms, resolve.forget
        resolve.forget = lambda name: None  # a module loaded anew would have the real socket
        self.now = 0
        dns.ticks_ms = lambda: self.now

    def tearDown(self):
        resolve.socket, dns.socket, dns.ticks_ms, resolve.forget = self.before

    def use(self, answers, servers=("10.0.0.53", "10.0.0.54")):
        self.net = resolve.socket = dns.socket = Server(answers)
        self.resolver = resolve.Resolver(lambda: list(servers))

    def addresses(self, host="broker.example"):
        steps = self.resolver.addresses(host, PORT)
        while True:
            try:
                raw, for_write, ms = next(steps)
            except StopIteration as e:
                return [info[-1][0] for info in e.value]
            self.assertFalse(for_write)
            if not raw.inbox:
                self.now += ms


class TestResolve(Case):
    def test_all_addresses_of_both_kinds_behind_an_alias(self):
        self.use({"10.0.0.53": both})
        self.assertEqual(self.addresses(), ["10.0.0.1", "10.0.0.2", "0:0:0:0:0:0:0:1"])
        self.assertEqual(self.net.open, 0)

    def test_a_silent_server_is_followed_by_the_next_one(self):
        self.use({"10.0.0.54": both})
        self.assertEqual(len(self.addresses()), 3)
        self.assertEqual(self.now, 1000)

    def test_silence_ends_within_seven_seconds_with_words(self):
        self.use({})
        with self.assertRaises(Lost):
            self.addresses()
        self.assertTrue(self.now <= 7000)
        self.assertEqual(self.net.open, 0)

    def test_no_such_name(self):
        self.use({"10.0.0.53": answer})
        try:
            self.addresses()
            self.fail("no error")
        except Lost as e:
            self.assertEqual(e.code, "DNS")
            self.assertTrue("broker.example" in e.words)

    def test_numbers_and_local_names_ask_no_server(self):
        self.use({})
        self.assertEqual(self.addresses("192.168.4.7"), ["192.168.4.7"])
        self.assertEqual(self.addresses("fe80::1"), ["fe80::1"])
        with self.assertRaises(Lost):
            self.addresses("broker.local")
        self.assertEqual(self.net.asked, [])

    def test_kept_while_they_work_asked_anew_when_not_and_old_ones_better_than_none(self):
        self.use({"10.0.0.53": both})
        self.addresses()
        asked = len(self.net.asked)
        self.resolver.good("broker.example", PORT)
        self.addresses()
        self.assertEqual(len(self.net.asked), asked)
        self.resolver.bad("broker.example", PORT)
        self.addresses()
        self.assertTrue(len(self.net.asked) > asked)
        self.net.answers.clear()
        self.assertEqual(len(self.addresses()), 3)

    def test_a_server_that_cannot_tell_is_followed_by_the_next_one(self):
        def ill(query):
            whole = bytearray(answer(query))
            whole[3] = whole[3] & 0xF0 | 2  # SERVFAIL (RFC 1035, 4.1.1)
            return bytes(whole)

        self.use({"10.0.0.53": ill, "10.0.0.54": both})
        self.assertEqual((len(self.addresses()), self.now), (3, 0))
        # Some routers know A only.
        self.use({"10.0.0.53": lambda query: both(query) if query[-3] == 1 else ill(query)})
        self.assertEqual((self.addresses(), self.now), (["10.0.0.1", "10.0.0.2"], 0))

    def test_nonsense_is_no_answer(self):
        for bad in (b"", b"\xff" * 40, bytes(12), bytes(300)):
            self.use({"10.0.0.53": lambda query, bad=bad: query[:2] + bad})
            with self.assertRaises(Lost):
                self.addresses()

    def test_another_questions_answer_is_not_ours(self):
        def other(query):
            return bytes((query[0] ^ 1,)) + both(query)[1:]

        self.use({"10.0.0.53": other, "10.0.0.54": other})
        with self.assertRaises(Lost):
            self.addresses()


if __name__ == "__main__":
    unittest.main()

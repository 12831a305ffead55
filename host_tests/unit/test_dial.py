import unittest

from limpet import dial, record
from limpet.errors import Lost, Untrusted


class Trust:
    """Loads no key of generation 2; no memory for the host `small`."""

    def __init__(self, anchors, host, pins, psk, client):
        if host == "broken":
            raise Untrusted("ANCHOR", "invalid key")
        if host == "small":
            raise MemoryError("allocating 3048 bytes")


class Link:
    def open(self, address, trust, hello):
        if not isinstance(trust, Trust):
            raise AttributeError("no trust")
        return False
        yield

    def close(self):
        pass


class Resolver:
    def addresses(self, host, port):
        return [(host, port)]
        yield

    def good(self, host, port):
        pass

    bad = good


class TestDialler(unittest.TestCase):
    def setUp(self):
        self.before = dial.Trust
        dial.Trust = Trust
        self.dialler = dial.Dialler(Link)
        self.dialler.resolver = Resolver()

    def tearDown(self):
        dial.Trust = self.before

    def dial(self, generation, *hosts):
        fields = bytearray()
        for host in hosts:
            value = b"%s:8883" % host.encode()
            fields.extend(bytes((record.SERVER, 0, len(value))) + value)
        steps = self.dialler.dial(record.Record(fields, generation, bytes(16), 1, 0), None)
        try:
            while True:
                next(steps)
        except StopIteration as e:
            return e.value[1]

    def test_a_trust_that_could_not_be_made_leaves_the_next_record_its_own(self):
        self.assertFalse(self.dial(1, "good"))
        self.assertRaises(Untrusted, self.dial, 2, "broken")
        self.assertFalse(self.dial(1, "good"))

    def test_no_memory_for_one_server_leaves_the_next_one(self):
        self.assertFalse(self.dial(1, "small", "good"))
        try:
            self.dial(1, "small")
            self.fail("no error")
        except Lost as e:
            self.assertEqual(e.code, "MEMORY")


if __name__ == "__main__":
    unittest.main()

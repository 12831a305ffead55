import errno
import sys
import unittest

from limpet import link, words
from limpet.errors import Lost, Refused, Untrusted

CONNACK = b"\x20\x02\x00\x00"


class Raw:
    def __init__(self, net):
        self.net = net
        self.closed = 0

    def setblocking(self, flag):
        self.net.blocking = flag

    def setsockopt(self, level, option, value):
        self.net.options.append((level, option, value))

    def connect(self, where):
        self.net.where = where
        raise OSError(self.net.connect_error)

    def close(self):
        self.closed += 1


class Net:
    """The `socket` module of a port whose TCP_NODELAY is not 1."""

    SOCK_STREAM = 1
    TCP_NODELAY = 0x40

    def __init__(self, connect_error=errno.EINPROGRESS):
        self.connect_error = connect_error
        self.options = []
        self.raws = []

    def socket(self, family, kind):
        self.raws.append(Raw(self))
        return self.raws[-1]


class Stream:
    def __init__(self, writes, reads):
        self.writes = writes
        self.reads = reads
        self.got = []
        self.closed = 0

    def write(self, buf):
        self.got.append(bytes(buf))
        step = self.writes.pop(0) if self.writes else len(buf)
        if isinstance(step, Exception):
            raise step
        return step

    def readinto(self, buf):
        step = self.reads.pop(0)
        if isinstance(step, Exception):
            raise step
        if step is None:
            return None
        n = min(len(buf), len(step))
        buf[:n] = step[:n]
        if step[n:]:
            self.reads.insert(0, step[n:])
        return n

    def close(self):
        self.closed += 1


class Trust:
    """Verifies nothing: hands out the stream, and says what a failure is."""

    def __init__(self, stream, verdict=None):
        self.stream = stream
        self.verdict = verdict

    def wrap(self, raw):
        if isinstance(self.stream, Exception):
            raise self.stream
        return self.stream

    def failure(self, error):
        return self.verdict or Lost("TLS", error)


class Case(unittest.TestCase):
    def setUp(self):
        self.before = link.socket, link.ticks_ms, link.sys
        self.now = 1000
        link.ticks_ms = lambda: self.now
        self.net = link.socket = Net()

    def tearDown(self):
        link.socket, link.ticks_ms, link.sys = self.before

    def open(self, writes=(), reads=(CONNACK,), verdict=None, each=0, wrapped=None):
        """(value, waits) of `open`; `each` ms pass in each wait; `wrapped` is raised by `wrap`."""
        self.stream = wrapped or Stream(list(writes), list(reads))
        self.packet = bytearray(b"CONNECT with a password")
        self.link = link.Link()
        steps = self.link.open((2, 1, 0, "", "opaque"), Trust(self.stream, verdict), self.hello)
        waits = []
        while True:
            try:
                raw, for_write, ms = next(steps)
            except StopIteration as e:
                return e.value, waits
            self.assertTrue(raw is self.net.raws[-1])
            waits.append(for_write)
            self.now += min(ms, each)

    def hello(self):
        return self.packet

    def code(self, kind, **options):
        try:
            self.open(**options)
        except kind as e:
            self.assertTrue(e.words)
            return e.code
        return self.fail("no error")


class TestOpen(Case):
    def test_connects_verifies_says_hello_and_reads_connack(self):
        present, waits = self.open(writes=[None, None], reads=[None, b"\x20\x02", b"\x01\x00"])
        self.assertEqual(present, 1)
        self.assertEqual(waits, [True, False, False, False])
        self.assertEqual(self.stream.got, [b"CONNECT with a password"] * 3)
        self.assertEqual(self.net.where, "opaque")
        self.assertFalse(self.net.blocking)

    def test_the_password_is_wiped_also_after_a_failure(self):
        self.open()
        self.assertEqual(set(self.packet), {0})
        self.code(Lost, writes=[OSError(104)])
        self.assertEqual(set(self.packet), {0})

    def test_a_partly_written_hello_goes_on_where_it_stopped(self):
        self.open(writes=[7, None, 10])
        self.assertEqual(self.stream.got[1:3], [b" with a password"] * 2)
        self.assertEqual(self.stream.got[3], b"ssword")

    def test_nodelay_by_the_ports_own_constant_and_off_again_on_rp2(self):
        self.open()
        self.assertEqual(self.net.options, [(6, 0x40, 1)])

        class Rp2:
            platform = "rp2"

        link.sys = Rp2
        self.net.options.clear()
        self.open()
        self.assertEqual(self.net.options, [(6, 0x40, 1), (6, 0x40, 0)])

    def test_one_deadline_for_everything(self):
        for writes, reads in (([None] * 500, []), ([], [None] * 500)):
            began = self.now
            code = self.code(Lost, writes=writes, reads=reads, each=60_000)
            self.assertEqual(code, "DEADLINE")
            self.assertTrue(60_000 <= self.now - began <= 61_000)

    def test_a_drip_gains_nothing(self):
        began = self.now
        self.assertEqual(self.code(Lost, writes=[None] * 500, each=900), "DEADLINE")
        self.assertTrue(60_000 <= self.now - began <= 61_000)

    def test_failures_by_the_step_that_failed(self):
        self.assertEqual(self.code(Lost, writes=[OSError(111)]), "CONNECT")
        self.assertEqual(self.code(Lost, writes=[None, OSError(-9984)]), "TLS")
        for number in (104, 32, 111):  # the socket's own, which the first write tells
            self.assertEqual(self.code(Lost, writes=[OSError(number)]), "CONNECT")
        # A server that speaks first: its bytes are there when the handshake begins.
        for fault in (OSError(-0x7200, "MBEDTLS_ERR_SSL_INVALID_RECORD"), OSError("no number")):
            self.assertEqual(self.code(Lost, writes=[fault]), "TLS")
        self.assertEqual(self.code(Lost, reads=[OSError(104)]), "CLOSED_ON_LOGIN")
        self.assertEqual(self.code(Lost, reads=[b""]), "CLOSED_ON_LOGIN")
        self.assertEqual(self.code(Lost, reads=[b"\x30\x00"]), "MALFORMED")
        self.assertEqual(self.code(Lost, reads=[b"\x20\x02\x00\x03"]), "CONNACK")
        for code in (4, 5):
            self.code(Refused, reads=[b"\x20\x02\x00" + bytes([code])])
        self.net.connect_error = errno.EHOSTUNREACH
        self.assertEqual(self.code(Lost), "CONNECT")

    def test_trusts_own_reason_comes_first(self):
        verdict = Untrusted("NAME", "another server")
        self.assertEqual(self.code(Untrusted, writes=[OSError(104)], verdict=verdict), "NAME")

    def test_out_of_memory_has_words_for_the_port(self):
        class Esp32:
            platform = "esp32"

        words.sys = Esp32
        for e in (OSError(errno.ENOMEM), OSError(-17040, "X+MBEDTLS_ERR_MPI_ALLOC_FAILED")):
            try:
                self.open(writes=[None, e])
                self.fail("no error")
            except Lost as failure:
                self.assertEqual(failure.code, "MEMORY")
                told = words.of(failure.code, failure.facts)
                self.assertTrue("idf_heap_info" in told, told)
        for e in (OSError(errno.ENOMEM), MemoryError("allocating 16717 bytes")):
            try:
                self.open(wrapped=e)  # where mbedTLS takes its buffers
                self.fail("no error")
            except Lost as failure:
                self.assertEqual(failure.code, "MEMORY")
        words.sys = sys

    def test_close_closes_both_whatever_happened(self):
        self.code(Lost, writes=[OSError(104)])
        self.link.close()
        self.link.close()
        self.assertEqual((self.net.raws[0].closed, self.stream.closed), (1, 1))


if __name__ == "__main__":
    unittest.main()

import unittest

from limpet import clock, ntp, times
from limpet.errors import Lost, Untrusted
from vault_rig import ANCHOR

DAY = 86_400
FLOOR = 1_800_000_000
ENDS = FLOOR + 400 * DAY


class Record:
    def all(self, tag):
        return [ANCHOR]


class Fakes:
    """Logins and dialler."""

    def __init__(self):
        self.kept = 0
        self.ends = ENDS
        self.looked_up = []
        self.resolver = self

    def floor(self, record):
        return max(FLOOR, self.kept)

    def raise_floor(self, floor):
        self.kept = floor

    def addresses(self, host, port):
        self.looked_up.append(host)
        raise Lost("DNS", "nobody knows it")
        yield


class TestTimes(unittest.TestCase):
    def setUp(self):
        self.now = FLOOR - 300 * DAY  # what a board wakes with
        self._saved = clock.now, clock.set_to
        clock.now = lambda: self.now
        clock.set_to = self.set_to
        self.fakes = Fakes()
        self.times = times.Times(self.fakes, self.fakes, lambda line: None, ())
        self.begin()

    def tearDown(self):
        clock.now, clock.set_to = self._saved

    def set_to(self, seconds):
        self.now = seconds

    def begin(self):
        for _ in self.times.before(Record()):
            pass

    def told(self, t, retained=0):
        self.times.told(t.to_bytes(8, "big"), retained)
        return self.now

    def test_the_floor_is_the_least(self):
        self.assertEqual(self.now, FLOOR)

    def test_time_servers_are_asked_while_the_clock_is_not_known(self):
        servers = ("a.example", "b.example", "c.example")
        asked = times.Times(self.fakes, self.fakes, lambda line: None, servers)

        def begin():
            self.fakes.looked_up.clear()
            for _ in asked.before(Record()):
                pass
            return len(self.fakes.looked_up)

        self.now = FLOOR - 1
        self.assertEqual(begin(), 2)  # two of three have to agree: the third is not needed
        self.assertEqual(begin(), 0)  # it has been set since the board woke
        asked.failed(Untrusted("EXPIRED", "ended"))
        self.assertEqual(begin(), 2)

    def test_a_live_time_sets_the_clock_and_the_floor(self):
        self.assertEqual(self.told(FLOOR + 30 * DAY), FLOOR + 30 * DAY)
        self.assertEqual(self.fakes.kept, FLOOR + 30 * DAY)
        # Back again: the clock may, the floor not; and not below the floor.
        self.assertEqual(self.told(FLOOR + 31 * DAY), FLOOR + 31 * DAY)
        self.assertEqual(self.fakes.kept, FLOOR + 30 * DAY)
        self.assertEqual(self.told(FLOOR + 30 * DAY), FLOOR + 30 * DAY)
        self.told(FLOOR)
        self.assertTrue(self.times.refused)
        self.assertEqual(self.now, FLOOR + 30 * DAY)

    def test_a_retained_time_moves_forward_only(self):
        self.told(FLOOR + 10 * DAY)
        self.assertEqual(self.told(FLOOR + 10 * DAY - 60, 1), FLOOR + 10 * DAY)
        self.assertEqual(self.told(FLOOR + 10 * DAY + 60, 1), FLOOR + 10 * DAY + 60)
        self.told(FLOOR - 30, 1)  # of before the enrolment, as long as the kit says no other
        self.assertFalse(self.times.refused)
        self.told(ENDS + 1, 1)
        self.assertTrue(self.times.refused)

    def test_a_liar_moves_nothing_beyond_the_chain(self):
        self.told(ENDS + 1)
        self.assertTrue(self.times.refused)
        self.assertEqual((self.now, self.fakes.kept), (FLOOR, 0))
        self.told(ENDS)
        self.assertEqual(self.fakes.kept, ENDS - DAY)  # a certificate that ends later still works
        self.assertFalse(self.times.refused)

    def test_without_a_chain_the_floor_stays(self):
        self.fakes.ends = 0
        self.assertEqual(self.told(FLOOR + 9_000 * DAY), FLOOR + 9_000 * DAY)
        self.assertEqual(self.fakes.kept, 0)

    def test_what_is_no_time_is_nothing(self):
        for payload in (b"", b"1800000000", bytes(7)):
            self.times.told(payload, 0)
        self.assertEqual(self.now, FLOOR)

    def test_a_refusal_because_of_time_takes_a_lie_back(self):
        self.now = ENDS + DAY
        self.times.failed(Untrusted("NAME", "another"))
        self.times.failed(Lost("TLS", "gone"))
        self.assertEqual(self.now, ENDS + DAY)
        self.times.failed(Untrusted("EXPIRED", "ended"))
        self.assertEqual(self.now, FLOOR)


class TestNtp(unittest.TestCase):
    STAMP = b"12345678"

    def answer(self, first=0x24, stratum=2, stamp=STAMP, seconds=FLOOR + 2_208_988_800):
        seconds %= 1 << 32
        return bytes((first, stratum)) + bytes(22) + stamp + bytes(8) + seconds.to_bytes(4, "big")

    def parse(self, answer):
        return ntp.parse(answer + bytes(4), self.STAMP)

    def test_an_answer(self):
        self.assertEqual(self.parse(self.answer()), FLOOR)
        late = 2_300_000_000  # in 2042: era 1
        self.assertEqual(self.parse(self.answer(seconds=late + 2_208_988_800)), late)

    def test_what_is_none(self):
        for wrong in (
            self.answer(stamp=b"87654321"),
            self.answer(first=0x23),
            self.answer(first=0xE4),
            self.answer(stratum=0),
            self.answer(stratum=16),
            self.answer()[:40],
            b"",
        ):
            self.assertIsNone(self.parse(wrong))


if __name__ == "__main__":
    unittest.main()

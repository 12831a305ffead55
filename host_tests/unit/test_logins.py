import unittest

from limpet import logins, slots, vault
from limpet.errors import Lost, Refused, Untrusted
from vault_rig import CHIP, SECRET, MemoryStore, record_fields, vault_id

LOST = Lost("TLS", "gone")
REFUSED = Refused("REFUSED", "no")
UNTRUSTED = Untrusted("NAME", "another")
HOUR = 3_600_000


class TestLogins(unittest.TestCase):
    def setUp(self):
        self.store = MemoryStore()
        self.now = 1_800_000_000
        self.ticks = 0
        self._ticks_ms = logins.ticks_ms
        logins.ticks_ms = lambda: self.ticks
        self.boot()

    def tearDown(self):
        logins.ticks_ms = self._ticks_ms

    def boot(self):
        self.vault = vault.Vault(self.store, CHIP, now=lambda: self.now)
        self.logins = logins.Logins(self.vault, lambda: 1 << 23)
        self.logins.name()

    def enrol(self, number=1):
        self.vault.write(1, vault_id(1), SECRET, record_fields(b"%d" % number))

    def change(self, number):
        used = self.vault.read()
        slots.succeed(self.vault, used, record_fields(b"%d" % number, (12, b"\0\0\0\x07")))

    def login(self, outcome=None):
        """One try: (number of the account, ms to wait after a failure)."""
        record = self.logins.record()
        account = int(record.one(3))
        self.logins.sending()
        if outcome:
            return account, self.logins.failed(outcome)
        self.logins.accepted(record)
        return account, None

    def test_pending_first_and_the_confirmed_at_once_when_it_fails(self):
        for failure in (LOST, REFUSED, UNTRUSTED):
            self.setUp()
            self.enrol()
            self.change(2)
            self.assertEqual(self.login(failure), (2, 0))
            self.assertEqual(self.login(), (1, None))
            self.assertEqual(self.vault.journal.strikes, 1)

    def test_a_confirmed_pending_record_is_the_only_one(self):
        self.enrol()
        self.change(2)
        self.assertEqual(self.login(), (2, None))
        self.assertFalse(self.vault.pending)
        account, wait = self.login(LOST)
        self.assertEqual(account, 2)
        self.assertTrue(0 <= wait <= 2_000 and wait)

    def test_an_older_record_put_back_beside_the_newer_is_not_used(self):
        self.enrol()
        old = {item: self.store.items[item] for item in ("box0", "key0")}
        self.change(2)
        self.assertEqual(self.login(), (2, None))
        self.store.items.update(old)
        self.boot()
        self.assertEqual(self.login(), (2, None))
        self.assertEqual([r.one(3) for r in self.vault.records()], [b"2"])
        self.assertTrue("box0" not in self.store.items and "key0" not in self.store.items)
        # Nor does it win while the network is cut: its account has ended, the newer one stays.
        self.store.items.update(old)
        self.boot()
        for _ in range(5):
            self.assertEqual(self.login(LOST), (2, 0))
            self.assertEqual(self.login(REFUSED)[0], 1)
            self.assertEqual(self.vault.journal.strikes, 0)
        self.assertEqual(self.login(), (2, None))
        self.assertEqual([r.one(3) for r in self.vault.records()], [b"2"])

    def test_three_strikes_drop_it_and_the_kit_learns_why(self):
        self.enrol()
        self.change(2)
        for strike, wait in ((1, 600_000), (2, HOUR)):
            self.assertEqual(self.login(REFUSED), (2, 0))
            self.assertEqual(self.login(), (1, None))
            self.assertEqual(self.vault.journal.strikes, strike)
            self.assertFalse(self.logins.is_due)
            self.ticks += wait - 1
            self.assertEqual(self.logins.record().one(3), b"1")
            self.ticks += 1
            self.assertTrue(self.logins.is_due)
            self.assertFalse(self.logins.is_due)
        self.assertEqual(self.login(REFUSED), (2, 0))
        self.assertEqual(self.login(), (1, None))
        self.assertFalse(self.vault.pending)
        self.boot()
        record = self.logins.record()
        self.assertEqual(record.one(3), b"1")
        ack = self.logins.acknowledgement(record)
        self.assertEqual((ack[5], ack[6], ack[8:12]), (3, 1, b"\0\0\0\x07"))

    def test_both_lost_is_no_strike(self):
        self.enrol()
        self.change(2)
        self.assertEqual(self.login(LOST), (2, 0))
        account, wait = self.login(LOST)
        self.assertTrue(account == 1 and wait)
        self.assertEqual(self.vault.journal.strikes, 0)
        self.assertEqual(self.login(LOST)[0], 2)

    def test_both_refused_is_one_refusal_and_they_take_turns(self):
        self.enrol()
        self.change(2)
        self.assertEqual(self.login(REFUSED), (2, 0))
        self.assertEqual(self.login(REFUSED), (1, HOUR))
        tries = [self.login(REFUSED) for _ in range(5)]
        self.assertEqual([account for account, _ in tries], [2, 1, 2, 1, 2])
        self.assertEqual([wait // HOUR for _, wait in tries], [2, 4, 8, 16, 24])
        self.assertEqual(self.login(), (1, None))
        self.assertEqual(self.vault.journal.steps, 0)

    def test_refusals_in_a_day(self):
        self.enrol()
        passed = count = 0
        while passed < 24 * HOUR:
            passed += self.login(REFUSED)[1]
            count += 1
        self.assertTrue(count <= 8, count)

    def test_a_refused_wait_outlives_a_reset(self):
        self.enrol()
        self.login(REFUSED)
        self.boot()
        self.assertEqual(self.logins.waiting(), HOUR)
        self.now += 600
        self.assertEqual(self.logins.waiting(), HOUR - 600_000)
        # A board whose clock starts anew loses nothing and hammers nobody.
        self.now = 1_600_000_000
        self.boot()
        self.assertEqual(self.logins.waiting(), HOUR)

    def test_a_reset_in_the_middle_of_a_try_counts(self):
        self.enrol()
        self.login(REFUSED)
        for step in (2, 4, 8, 16, 24, 24):
            self.boot()
            self.logins.record()
            self.logins.sending()  # and the power goes
            self.boot()
            self.assertEqual(self.logins.waiting(), step * HOUR)

    def test_another_end_than_a_refusal_is_forgiven(self):
        self.enrol()
        self.login(REFUSED)
        self.login(LOST)
        self.assertEqual((self.vault.journal.steps, self.logins.waiting()), (1, 0))
        self.assertEqual(self.login(REFUSED), (1, 2 * HOUR))

    def test_a_failure_before_connect_takes_no_refusal_back(self):
        self.enrol()
        self.login(REFUSED)
        self.logins.record()
        self.logins.failed(LOST)  # no Wi-Fi: CONNECT was not reached
        self.assertEqual(self.vault.journal.steps, 1)
        self.assertEqual(self.login(REFUSED), (1, 2 * HOUR))

    def test_a_try_at_several_addresses_counts_once(self):
        self.enrol()
        self.login(REFUSED)
        for _ in range(3):
            self.logins.record()
            self.logins.sending()
            self.logins.sending()
            self.logins.failed(LOST)
        self.assertEqual(self.login(REFUSED), (1, 2 * HOUR))

    def test_connections_that_do_not_last_are_not_followed_at_once_for_ever(self):
        self.enrol()
        waits = []
        for _ in range(20):
            self.login()
            waits.append(self.logins.failed(LOST))
        self.assertTrue(max(waits[:8]) <= 2_000, waits)
        self.assertTrue(min(waits[12:]) > 10_000, waits)
        self.login()
        self.ticks += 61_000
        self.logins.lasts()
        self.assertTrue(self.logins.failed(LOST) <= 2_000)

    def test_the_wait_is_noted_by_eighths(self):
        self.enrol()
        wait = self.login(REFUSED)[1]
        pieces = self.logins.pieces(wait)
        self.assertEqual(next(pieces), 900_000)
        next(pieces)
        self.assertEqual(self.vault.journal.left, 2_700)
        self.assertEqual(sum(pieces) + 2 * 900_000, wait)
        self.assertEqual(self.vault.journal.left, 0)
        self.assertEqual(list(self.logins.pieces(5)), [5])

    def test_somebody_wants_it_now_or_it_slept(self):
        self.enrol()
        self.login(REFUSED)
        self.logins.skip(1_000)
        self.assertEqual(self.logins.waiting(), HOUR - 1_000_000)
        self.logins.skip()
        self.assertEqual(self.logins.waiting(), 0)

    def test_an_enrolment_by_cable_ends_a_wait(self):
        self.enrol()
        self.login(REFUSED)
        self.enrol(2)
        self.boot()
        self.assertEqual(self.logins.waiting(), 0)
        self.assertEqual(self.login(), (2, None))


if __name__ == "__main__":
    unittest.main()

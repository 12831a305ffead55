import unittest

from limpet import retry


class TestRetry(unittest.TestCase):
    def waits(self, kind, count, random=0):
        schedule = retry.Retry(lambda: random)
        return [schedule.wait(kind) for _ in range(count)]

    def test_network_first_at_once_then_spread_then_doubling_to_the_cap(self):
        most = self.waits(retry.NETWORK, 8, (1 << 24) - 1)
        self.assertTrue(most[0] < 2_000 and most[1] < 30_000)
        self.assertTrue(most[-1] > 299_000 and max(most) < 300_000)
        self.assertEqual(self.waits(retry.NETWORK, 4), [0, 0, 2_000, 2_000])

    def test_refused_goes_from_an_hour_to_a_day(self):
        hour = 3_600_000
        middle = [retry.refusal(step, lambda: 1 << 23) for step in range(1, 8)]
        self.assertEqual([w // hour for w in middle], [1, 2, 4, 8, 16, 24, 24])
        self.assertEqual(retry.refusal(1, lambda: 0), hour * 4 // 5)

    def test_closed_without_an_answer_has_a_longer_cap_from_the_fifth_in_a_row(self):
        most = self.waits(retry.CLOSED, 9, (1 << 24) - 1)
        self.assertTrue(300_000 < max(most) < 900_000)

    def test_health_begins_anew(self):
        schedule = retry.Retry(lambda: 0)
        for _ in range(5):
            schedule.wait(retry.NETWORK)
        schedule.healthy()
        self.assertEqual([schedule.wait(retry.NETWORK) for _ in range(2)], [0, 0])


if __name__ == "__main__":
    unittest.main()

import asyncio
import unittest

from limpet.errors import Lost
from limpet.flight import Flight, Message
from limpet.packets import DUP, QOS1


def message(number):
    return Message(b"t", b"%d" % number, QOS1)


def filled(count, window=2, queue=2, policy="wait"):
    flight = Flight(window, queue, policy)
    for i in range(count):
        assert flight.put(message(i))
    return flight


def sent(flight):
    """Payloads of what may be sent now."""
    found = []
    while True:
        m = flight.next(0)
        if not m:
            return found
        found.append(m.payload)


class TestFlight(unittest.TestCase):
    def test_the_window_bounds_what_is_on_its_way(self):
        flight = filled(3)
        self.assertEqual(sent(flight), [b"0", b"1"])
        self.assertTrue(flight.acknowledged(2))
        self.assertEqual(sent(flight), [b"2"])

    def test_after_a_lost_connection_all_go_again_in_order_with_dup_and_the_same_id(self):
        flight = filled(4)
        first = [flight.next(0), flight.next(0)]
        ids = [m.pid for m in first]
        flight.lost()
        again = [flight.next(0), flight.next(0)]
        self.assertEqual([m.payload for m in again], [b"0", b"1"])
        self.assertEqual([m.pid for m in again], ids)
        self.assertEqual([m.flags for m in again], [QOS1 | DUP] * 2)
        flight.acknowledged(ids[0])
        self.assertEqual(flight.next(0).flags, QOS1)

    def test_an_id_of_the_connection_before_is_no_acknowledgement(self):
        flight = filled(1)
        pid = flight.next(0).pid
        flight.lost()
        self.assertFalse(flight.acknowledged(pid))
        self.assertEqual(len(flight), 1)

    def test_ids_wrap_and_are_never_reused_in_flight(self):
        flight = Flight(2, 2, "wait")
        kept = message(0)
        flight.put(kept)
        self.assertEqual(flight.next(0).pid, 2)
        seen = bytearray(8192)  # one bit each: a set of so many does not fit a board
        for i in range(66000):
            flight.put(message(i))
            pid = flight.next(0).pid
            self.assertTrue(2 < pid < 65536)
            seen[pid >> 3] |= 1 << (pid & 7)
            flight.acknowledged(pid)
        self.assertEqual(sum(bin(bits).count("1") for bits in seen), 65533)

    def test_a_full_queue_waits_drops_or_raises(self):
        self.assertFalse(filled(4).put(message(4)))
        flight = filled(4, policy="raise")
        with self.assertRaises(Lost):
            flight.put(message(4))
        flight = filled(4, policy="drop")
        sent(flight)
        self.assertTrue(flight.put(message(4)))
        self.assertEqual((len(flight), flight.dropped), (4, 1))
        flight.acknowledged(2)
        flight.acknowledged(3)
        self.assertEqual(sent(flight), [b"3", b"4"])  # 2 was the oldest not on its way

    def test_who_waits_for_room_gets_it_in_turn(self):
        async def main():
            flight = filled(4)
            sent(flight)
            pumped = []
            waiting = [
                asyncio.create_task(flight.put_later(message(i), lambda: pumped.append(1)))
                for i in (4, 5)
            ]
            await asyncio.sleep(0)
            flight.acknowledged(2)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.assertEqual(len(pumped), 1)
            self.assertFalse(flight.put(message(6)))  # not past those who wait
            for pid in (3, 4, 5, 6, 7):
                sent(flight)
                flight.acknowledged(pid)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            for task in waiting:
                await task

        asyncio.run(main())

    def test_a_dropped_message_tells_who_waits_for_it(self):
        async def main():
            flight = filled(3, policy="drop")
            m = message(3)
            flight.put(m)
            task = asyncio.create_task(m.wait())
            await asyncio.sleep(0)
            for i in range(4):
                flight.put(message(4 + i))
            try:
                await task
                self.fail("no error")
            except Lost as e:
                self.assertEqual(e.code, "DROPPED")

        asyncio.run(main())

    def test_overdue_looks_at_the_oldest(self):
        flight = filled(2)
        flight.next(1000)
        flight.next(9000)
        self.assertFalse(flight.overdue(20_000, 20_000))
        self.assertTrue(flight.overdue(21_001, 20_000))
        flight.acknowledged(2)
        self.assertFalse(flight.overdue(21_001, 20_000))


if __name__ == "__main__":
    unittest.main()

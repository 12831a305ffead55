import asyncio
import sys
import unittest
from time import ticks_add, ticks_ms

from limpet import packets, session
from limpet.errors import Lost
from limpet.flight import Flight, Message
from limpet.session import Session
from limpet.status import Counters

if sys.implementation.name == "cpython":  # it does not await a generator

    class Done:
        def __await__(self):
            return iter(())

    session.DONE = Done()

KEEPALIVE_S = 60
SECOND = 1000


class Ready:
    """Awaited until the test says that the socket is ready."""

    def __init__(self):
        self.event = asyncio.Event()

    async def _wait(self):
        self.event.clear()
        await self.event.wait()

    def __await__(self):
        return self._wait().__await__()

    def __iter__(self):
        return self._wait()


class Stream:
    """What a TLS stream does: it may take nothing, or a part, and give nothing, or end."""

    def __init__(self):
        self.written = []  # each write that was taken
        self.offered = []  # and each that was offered
        self.take = []  # how many bytes the next writes take, None for nothing; empty for all
        self.give = []  # what the next reads bring: bytes, None, an exception

    def write(self, buf, at=0, n=None):
        n = len(buf) if n is None else n
        data = bytes(memoryview(buf)[at : at + n])
        self.offered.append(data)
        taken = self.take.pop(0) if self.take else n
        if taken:
            self.written.append(data[:taken])
        return taken

    def readinto(self, buf):
        if not self.give:
            return None
        data = self.give.pop(0)
        if isinstance(data, Exception):
            raise data
        buf[: len(data)] = data
        return len(data)


class Rig:
    def __init__(self, handler=None, send=64, window=2):
        self.stream = Stream()
        self.readable = Ready()
        self.writable = Ready()
        self.flight = Flight(window, 8, "wait")
        self.handled = []
        self.counters = Counters()
        self.session = Session(
            self.stream,
            self.readable,
            self.writable,
            KEEPALIVE_S,
            self.flight,
            packets.Out(send),
            packets.In(128),
            handler or self.handle,
            self.counters,
        )

    def handle(self, in_, session):
        self.handled.append(bytes(in_.view[in_.payload : in_.end]))
        return True

    def queue(self, *payloads):
        for payload in payloads:
            self.flight.put(Message(b"t", payload, packets.QOS1))

    async def read(self, *data):
        """Have the session read this, then wait again."""
        task = asyncio.create_task(self.session.run())
        await asyncio.sleep(0)
        self.stream.give.extend(data)
        self.readable.event.set()
        for _ in range(6):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    async def settle(self):
        for _ in range(6):
            await asyncio.sleep(0)


def publish(payload, pid=0):
    out = packets.Out(128)
    out.publish(b"t", payload, packets.QOS1 if pid else 0, pid)
    return bytes(out.buf[out.off : out.off + out.n])


def puback(pid):
    return bytes((0x40, 2, pid >> 8, pid & 255))


def run(test):
    """Run an async test method on both interpreters."""

    def method(self):
        asyncio.run(test(self))

    return method


class TestWriting(unittest.TestCase):
    @run
    async def test_one_packet_is_one_write(self):
        rig = Rig()
        rig.session.publish(b"t", b"hello", 0)
        self.assertEqual(rig.stream.written, [b"\x30\x08\x00\x01thello"])
        self.assertEqual(rig.counters.bytes_out, 10)

    @run
    async def test_what_was_not_taken_is_offered_again_untouched_before_anything_else(self):
        rig = Rig()
        rig.stream.take = [None, None, 4]
        rig.session.publish(b"t", b"hello", 0)
        rig.session.acknowledge(7)
        rig.session.flush()
        rig.session.check(ticks_add(ticks_ms(), 40 * SECOND))  # a ping would be due
        await rig.settle()
        rig.writable.event.set()
        await rig.settle()
        whole = b"\x30\x08\x00\x01thello"
        self.assertEqual(rig.stream.offered[:4], [whole, whole, whole, whole[4:]])
        self.assertEqual(b"".join(rig.stream.written), whole + puback(7))

    @run
    async def test_a_large_payload_goes_in_pieces_of_4_kib(self):
        rig = Rig()
        rig.session.publish(b"t", bytes(10_000), 0)
        await rig.settle()
        self.assertEqual(len(b"".join(rig.stream.written)), 1 + 2 + 3 + 10_000)
        self.assertTrue(max([len(w) for w in rig.stream.written]) <= 4096)

    @run
    async def test_a_qos_0_message_waits_behind_a_half_written_packet(self):
        rig = Rig()
        rig.stream.take = [None, None]
        rig.session.publish(b"t", b"1", 0)
        later = asyncio.create_task(rig.session._publish(b"t", b"2", 0))
        await rig.settle()
        self.assertEqual(rig.stream.written, [])
        rig.writable.event.set()
        await rig.settle()
        await later
        self.assertEqual([w[-1:] for w in rig.stream.written], [b"1", b"2"])

    @run
    async def test_an_error_of_a_write_ends_the_session_and_frees_who_waits(self):
        rig = Rig()

        def broken(buf, at, n):
            raise OSError(104)

        rig.session.write = broken
        await rig.session.publish(b"t", b"1", 0)
        self.assertEqual(rig.session.failure.code, "WRITE")
        with self.assertRaises(Lost):
            await rig.session.subscribe([b"x"])


class TestAcknowledgements(unittest.TestCase):
    @run
    async def test_the_queue_flows_with_the_window_and_the_acknowledgements(self):
        rig = Rig()
        rig.queue(b"0", b"1", b"2", b"3")
        rig.session.pump()
        self.assertEqual(rig.stream.written, [])  # not before the subscriptions stand
        rig.session.flow()
        self.assertEqual([w[-1:] for w in rig.stream.written], [b"0", b"1"])
        await rig.read(puback(2) + puback(3))
        self.assertEqual([w[-1:] for w in rig.stream.written], [b"0", b"1", b"2", b"3"])
        self.assertEqual(rig.counters.acknowledged, 2)

    @run
    async def test_all_packets_of_one_read_are_handled_and_acknowledged_in_one_write(self):
        rig = Rig()
        await rig.read(publish(b"a", 7) + publish(b"b") + publish(b"c", 8))
        self.assertEqual(rig.handled, [b"a", b"b", b"c"])
        self.assertEqual(rig.stream.written, [puback(7) + puback(8)])

    @run
    async def test_one_byte_at_a_time(self):
        rig = Rig()
        data = publish(b"a", 7) + publish(b"b")
        await rig.read(*[data[i : i + 1] for i in range(len(data))])
        await rig.read()
        self.assertEqual(rig.handled, [b"a", b"b"])

    @run
    async def test_after_the_handler_ran_not_before(self):
        rig = Rig(handler=lambda in_, session: False)
        await rig.read(publish(b"a", 7))
        self.assertEqual(rig.stream.written, [])

    @run
    async def test_subscriptions_one_at_a_time_with_their_codes(self):
        rig = Rig()
        first = asyncio.create_task(rig.session.subscribe([b"a", b"b"]))
        second = asyncio.create_task(rig.session.subscribe([b"c"]))
        await rig.settle()
        self.assertEqual(len(rig.stream.written), 1)
        await rig.read(b"\x90\x04\x00\x01\x01\x80")
        self.assertEqual(await first, b"\x01\x80")
        await rig.settle()
        self.assertEqual(len(rig.stream.written), 2)
        await rig.read(b"\x90\x03\x00\x01\x01")
        self.assertEqual(await second, b"\x01")

    @run
    async def test_a_subscription_that_waits_to_be_written_does_not_hang_the_next(self):
        rig = Rig()
        rig.stream.take = [1, None]
        rig.session.publish(b"t", b"hello", 0)
        first = asyncio.create_task(rig.session.subscribe([b"a"]))
        second = asyncio.create_task(rig.session.subscribe([b"c"]))
        await rig.settle()
        rig.writable.event.set()
        await rig.settle()
        await rig.read(b"\x90\x03\x00\x01\x01")
        self.assertEqual(await first, b"\x01")
        await rig.settle()
        await rig.read(b"\x90\x03\x00\x01\x80")
        self.assertEqual(await second, b"\x80")

    @run
    async def test_packets_out_of_place_end_the_session(self):
        for bad in (
            b"\x20\x02\0\0",
            b"\x90\x03\0\x01\x01",
            b"\x41\x02\0\x02",
            b"\xd0\x01\0",
            b"\x10\0",
        ):
            rig = Rig()
            with self.assertRaises(Lost):
                rig.stream.give.append(bad)
                await rig.session.run()

    @run
    async def test_a_huge_claim_ends_it_from_the_header(self):
        rig = Rig()
        rig.stream.give.append(b"\x30\xff\xff\xff\x7f")
        try:
            await rig.session.run()
            self.fail("no error")
        except Lost as e:
            self.assertEqual(e.code, "TOO_BIG")


class TestLiveness(unittest.TestCase):
    def rig(self):
        rig = Rig()
        rig.now = ticks_ms()
        rig.session._heard_at = rig.session.sent_at = rig.now
        return rig

    def at(self, rig, seconds):
        rig.session.check(ticks_add(rig.now, seconds * SECOND))
        return rig.stream.written.count(b"\xc0\0")

    @run
    async def test_a_ping_when_nothing_was_heard_although_much_was_sent(self):
        rig = self.rig()
        for t in (10, 20, 30):
            rig.session.publish(b"t", b"x", 0)
            self.assertEqual(self.at(rig, t), 0)
        rig.session.publish(b"t", b"x", 0)
        self.assertEqual(self.at(rig, 31), 1)
        self.assertEqual(self.at(rig, 38), 1)  # once

    @run
    async def test_a_ping_when_nothing_was_sent_although_much_was_heard(self):
        rig = self.rig()
        for t in (10, 20, 30):
            rig.session._heard_at = ticks_add(rig.now, t * SECOND)
            self.assertEqual(self.at(rig, t), 0)
        rig.session._heard_at = ticks_add(rig.now, 31 * SECOND)
        self.assertEqual(self.at(rig, 31), 1)

    @run
    async def test_silence_ends_it_within_one_and_a_half_keep_alives(self):
        rig = self.rig()
        self.at(rig, 74)
        self.assertTrue(rig.session.failure is None)
        self.at(rig, 76)
        self.assertEqual(rig.session.failure.code, "SILENT")

    @run
    async def test_an_overdue_acknowledgement_ends_it(self):
        rig = self.rig()
        rig.queue(b"0")
        rig.session.flow()
        self.at(rig, 19)
        self.assertTrue(rig.session.failure is None)
        self.at(rig, 21)
        self.assertEqual(rig.session.failure.code, "NO_ACK")

    @run
    async def test_an_overdue_subscription_ends_it(self):
        rig = self.rig()
        task = asyncio.create_task(rig.session.subscribe([b"a"]))
        await rig.settle()
        self.at(rig, 21)
        self.assertEqual(rig.session.failure.code, "NO_ACK")
        with self.assertRaises(Lost):
            await task

    @run
    async def test_ticks_may_wrap(self):
        rig = self.rig()
        rig.now = ticks_add(0, -10 * SECOND)
        rig.session._heard_at = rig.session.sent_at = rig.now
        self.assertEqual(self.at(rig, 29), 0)
        self.assertEqual(self.at(rig, 31), 1)
        self.at(rig, 76)
        self.assertEqual(rig.session.failure.code, "SILENT")

    @run
    async def test_closing_marks_what_is_on_its_way(self):
        rig = self.rig()
        rig.queue(b"0")
        rig.session.flow()
        rig.session.close()
        self.assertEqual(rig.flight.next(0).flags, packets.QOS1 | packets.DUP)
        self.assertTrue(rig.session.ended.is_set())


if __name__ == "__main__":
    unittest.main()

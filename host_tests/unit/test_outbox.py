import asyncio
import os
import unittest

from limpet.errors import LimpetError
from limpet.flight import Message
from limpet.outbox import Outbox

try:
    import vfs
except ImportError:  # CPython
    vfs = None

BLOCK = 4096


class Broker:
    """A client whose server acknowledges each message after `ack()` was called for it."""

    def __init__(self):
        self.got = []
        self.waiting = []

    def publish_nowait(self, topic, payload, qos, retain):
        message = Message(topic, payload, retain)
        self.got.append(payload)
        self.waiting.append(message)
        return message

    def ack(self):
        self.waiting.pop(0).end()


class PowerCut(Exception):
    pass


class Flash:
    """Block device in RAM whose power is cut at the n-th erase or program."""

    def __init__(self, blocks=32):
        self.data = bytearray(b"\xff" * (blocks * BLOCK))
        self.operations = 0
        self.erases = 0
        self.cut_at = None

    def _operate(self):
        self.operations += 1
        return self.cut_at is not None and self.operations >= self.cut_at

    def readblocks(self, n, buf, off=0):
        at = n * BLOCK + off
        buf[:] = memoryview(self.data)[at : at + len(buf)]

    def writeblocks(self, n, buf, off=0):
        at = n * BLOCK + off
        cut = self._operate()
        half = len(buf) // 2 if cut else len(buf)
        if self.operations > (self.cut_at or self.operations):
            half = 0  # it is dark
        for i in range(half):
            self.data[at + i] &= buf[i]
        if cut:
            raise OSError(5)

    def ioctl(self, op, arg):
        if op == 4:
            return len(self.data) // BLOCK
        if op == 5:
            return BLOCK
        if op == 6:
            if self._operate():
                raise OSError(5)
            self.erases += 1
            self.data[arg * BLOCK : (arg + 1) * BLOCK] = b"\xff" * BLOCK
        return 0


async def settle():
    for _ in range(4):
        await asyncio.sleep(0)


async def life(flash, folder, count, broker, kept, start):
    """Put `count` messages and have each acknowledged once, as far as the power goes."""
    box = Outbox(broker, folder)
    try:
        async with box:
            for i in range(start, start + count):
                box.put("t", b"%d" % i)
                kept.append(b"%d" % i)
                await settle()
                if i % 2:
                    broker.ack()
                    await settle()
            while broker.waiting:
                broker.ack()
                await settle()
            return len(box) == 0
    except OSError:
        return False


class TestOutbox(unittest.TestCase):
    folder = "outbox-%s" % os.urandom(4).hex()  # tests of other processes run beside this one

    def tearDown(self):
        try:
            for name in os.listdir(self.folder):
                os.remove(self.folder + "/" + name)
            os.rmdir(self.folder)
        except OSError:
            pass

    def test_kept_until_acknowledged_and_over_a_restart_in_order(self):
        async def main():
            broker = Broker()
            box = Outbox(broker, self.folder)
            for i in range(3):
                box.put("t", "%d" % i, retain=i == 1)
            async with Outbox(broker, self.folder) as again:
                await settle()
                self.assertEqual(broker.got, [b"0"])  # one at a time
                broker.ack()
                await settle()
                self.assertEqual((broker.got, len(again)), ([b"0", b"1"], 2))
            third = Outbox(Broker(), self.folder)
            self.assertEqual(len(third), 2)

        asyncio.run(main())

    def test_leaving_and_coming_back_does_not_double_what_is_on_its_way(self):
        async def main():
            broker = Broker()
            box = Outbox(broker, self.folder)
            box.put("t", b"0")
            for _ in range(3):
                async with box:
                    await settle()
            broker.ack()
            async with box:
                await settle()
            self.assertEqual((broker.got, len(box)), ([b"0"], 0))

        asyncio.run(main())

    def test_a_full_one_drops_the_oldest_or_raises(self):
        box = Outbox(Broker(), self.folder, limit=2)
        for i in range(3):
            box.put("t", b"%d" % i)
        self.assertEqual((len(box), box.dropped), (2, 1))
        box = Outbox(Broker(), self.folder, limit=2, drop=False)
        with self.assertRaises(LimpetError):
            box.put("t", b"3")

    def test_what_cannot_be_kept_costs_no_older_one_and_foreign_files_are_left_alone(self):
        box = Outbox(Broker(), self.folder, limit=1)
        box.put("t", b"0")
        for name in ("notes.msg", "x.txt", "7.msg"):
            with open(self.folder + "/" + name, "wb"):
                pass
        box = Outbox(Broker(), self.folder, limit=1)
        with self.assertRaises(ValueError):
            box.put("t" * 256, b"1")
        with self.assertRaises(TypeError):
            box.put("t", 21.5)
        self.assertEqual((len(box), box.dropped, len(os.listdir(self.folder))), (1, 0, 4))


if vfs:

    class TestOutboxPowerCut(unittest.TestCase):
        def one(self, cut_at):
            """Cut at this flash operation, restart, and judge what the server got."""
            flash = Flash()
            vfs.VfsLfs2.mkfs(flash)
            vfs.mount(flash, "/cut")
            first = flash.operations
            flash.cut_at = cut_at and first + cut_at
            kept = []
            broker = Broker()
            whole = asyncio.run(life(flash, "/cut/box", 5, broker, kept, 0))
            used = flash.operations - first
            vfs.umount("/cut")
            flash.cut_at = None
            vfs.mount(flash, "/cut")
            after = Broker()
            asyncio.run(life(flash, "/cut/box", 0, after, kept, 5))
            asyncio.run(life(flash, "/cut/box", 1, after, kept, 5))
            vfs.umount("/cut")
            got = broker.got + after.got
            for payload in kept:
                self.assertTrue(payload in got, "%s lost at %s" % (payload, cut_at))
            numbers = [int(p) for p in got]
            doubles = len(numbers) - len(set(numbers))
            self.assertTrue(doubles <= 1, "doubled at %s: %s" % (cut_at, numbers))
            self.assertEqual(numbers, sorted(numbers))
            return whole, used

        def test_a_hundred_messages_wear_the_flash_by_less_than_twelve_erases(self):
            flash = Flash()
            vfs.VfsLfs2.mkfs(flash)
            vfs.mount(flash, "/cut")
            before = flash.erases
            asyncio.run(life(flash, "/cut/box", 100, Broker(), [], 0))
            vfs.umount("/cut")
            self.assertTrue(flash.erases - before < 12)

        def test_a_cut_at_every_flash_operation_loses_none_and_doubles_at_most_one(self):
            whole, used = self.one(None)
            self.assertTrue(whole and used > 10)
            for cut_at in range(1, used + 1):
                self.one(cut_at)


if __name__ == "__main__":
    unittest.main()

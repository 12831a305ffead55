import asyncio
import unittest

from limpet import packets
from limpet.topics import Router


def incoming(topic, payload):
    """A receive buffer that holds this PUBLISH."""
    in_ = packets.In(256)
    body = len(topic).to_bytes(2, "big") + topic + payload
    packet = bytes((0x30, len(body))) + body
    in_.buf[: len(packet)] = packet
    in_.have = len(packet)
    assert in_.next()
    in_.publish()
    return in_


class Sketch:
    def __init__(self):
        self.got = []

    def method(self, payload):
        self.got.append(payload)

    async def coroutine(self, payload):
        self.got.append(payload)


class TestHandlers(unittest.TestCase):
    def setUp(self):
        self.said = []
        self.router = Router(self.said.append)
        self.router.named("lamp-1")

    def deliver(self, topic, payload=b"on"):
        return self.router.deliver(incoming(topic, payload), None)

    def kinds(self, handler, count=3):
        """What the handler was given: kinds of payload, one a message."""
        got = []

        def closure(payload):
            got.append(type(payload))

        sketch = Sketch()
        if handler == "method":
            handler = sketch.method
        elif handler == "closure":
            handler = closure
        self.router.add("led", handler, False)
        for _ in range(count):
            self.assertTrue(self.deliver(b"limpet/lamp-1/cmd/led"))
        return got or [type(payload) for payload in sketch.got]

    def test_a_method_gets_views_from_its_second_message_on(self):
        # Only what the first call returns tells that it is no coroutine; until then: a copy.
        self.assertEqual(self.kinds("method")[1:], [memoryview] * 2)

    def test_a_closure_gets_views_from_its_second_message_on(self):
        self.assertEqual(self.kinds("closure")[1:], [memoryview] * 2)

    def test_a_coroutine_gets_copies(self):
        sketch = Sketch()
        self.router.add("led", sketch.coroutine, False)

        async def run():
            for _ in range(2):
                self.assertFalse(self.deliver(b"limpet/lamp-1/cmd/led"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(run())
        self.assertEqual(sketch.got, [b"on", b"on"])
        self.assertTrue(all(isinstance(payload, bytes) for payload in sketch.got))

    def test_what_a_server_would_end_the_connection_for_is_not_published(self):
        for topic in ("/", "a/+", "#", "a\0", "room/light"):  # the last: dropped, and acknowledged
            self.assertRaises(ValueError, self.router.up, topic)
        self.assertEqual(self.router.up("/a/b"), b"a/b")

    def test_a_failing_handler_is_contained(self):
        def broken(payload):
            raise ValueError("broken")

        self.router.add("led", broken, False)
        self.assertTrue(self.deliver(b"limpet/lamp-1/cmd/led"))
        self.assertTrue("broken" in self.said[0])

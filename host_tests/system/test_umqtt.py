"""A sketch for umqtt, ported by its import line, on the real umqtt and a real broker."""

import os

import pytest
from limpet_kit import protocol
from limpet_kit.broker.client import KitClient
from limpet_kit.secret import Secret

pytestmark = pytest.mark.on_ports
sample = pytest.mark.on_ports(always=True)

SKETCH = """
    from limpet.umqtt import MQTTClient

    def callback(topic, message):
        say("message", topic=topic.decode(), message=message.decode())
        if topic == b"ping":
            c.publish(b"pong", message, qos=1)

    c = MQTTClient(
        "ignored", "ignored.example", keepalive=2, store=vault(),
        log=lambda line: say("log", line=line),
    )
    c._logins.retry.random = lambda: 1 << 18
    c.set_callback(callback)
    c.connect()
    c.subscribe(b"ping")
    c.subscribe("led", 1)
    say("connected")
    c.publish(b"temperature", b"21.5")
    c.publish("temperature", "22.5", True, 1)
    c.publish("large", bytes(6000), qos=1)
    say("published")
    while True:
        c.wait_msg()
"""


@pytest.fixture
def device(broker_factory, device_factory, umqtt):
    device = device_factory(broker_factory("mosquitto"))
    device.environment["MICROPYPATH"] += os.pathsep + str(umqtt)
    return device


@sample
def test_publish_subscribe_and_answer_from_the_callback(device):
    with KitClient(device.broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/#")
        device.run(SKETCH)
        device.wait("published")
        for wanted in (b"21.5", b"22.5", bytes(6000)):
            assert kit.wait(lambda t, p, w=wanted: p == w, 5)
        kit.publish("limpet/lamp-1/cmd/led", b"on")
        assert device.wait("message") == {"event": "message", "topic": "led", "message": "on"}
        kit.publish("limpet/lamp-1/cmd/ping", b"hello")
        assert device.wait("message")["message"] == "hello"
        assert kit.wait(lambda t, p: t == "limpet/lamp-1/up/pong" and p == b"hello", 5)


def test_it_comes_back_with_its_subscriptions(device):
    device.run(SKETCH)
    device.wait("published")
    device.broker.kill()
    device.wait("log", line="the connection ended")
    device.broker.start()
    with KitClient(device.broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/state")
        assert kit.wait(lambda t, p: b"online" in p, 15)
        kit.publish("limpet/lamp-1/cmd/led", b"off")
        assert device.wait("message")["message"] == "off"


def test_it_pings_while_it_waits(device):
    device.run(SKETCH)
    device.wait("published")
    with pytest.raises(pytest.fail.Exception):
        device.wait("log", timeout=4)  # twice its keep-alive


def test_the_kits_changes_are_taken_and_its_wipe(device):
    """Between the sketch's own packets: a change is tried, confirmed and told; a wipe ends it."""
    key = Secret(device.control_key)

    def send(kit, operation, sequence, *fields):
        packed = protocol.encode(fields)
        box = protocol.control_box(key, device.vault_id, operation, sequence, packed)
        kit.publish("limpet/lamp-1/kit/set", box, retain=True)

    def told(kit, state, sequence):
        def fits(topic, payload):
            ack = protocol.read_ack(key, device.vault_id, payload)
            return (
                topic.endswith("/ack") and ack and (ack.state, ack.sequence) == (state, sequence)
            )

        return kit.wait(fits, 15) is not None

    with KitClient(device.broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/#")
        device.run(SKETCH)
        device.wait("published")
        send(kit, protocol.CHANGE, 1, (protocol.SERVER, b"nobody.invalid:1"), (11, b""))
        assert told(kit, protocol.REFUSED, 1)  # of its fields
        server = device.broker.settings.server.encode()
        send(kit, protocol.CHANGE, 2, (protocol.SERVER, server))
        assert told(kit, protocol.PENDING, 2) and told(kit, protocol.APPLIED, 2)
        kit.publish("limpet/lamp-1/cmd/ping", b"still here")
        assert kit.wait(lambda t, p: t.endswith("up/pong") and p == b"still here", 10)
        send(kit, protocol.WIPE, 3, (protocol.NAME, b"lamp-1"))
        assert told(kit, protocol.WIPED, 3)
        assert device.end() != 0 and "UNPROVISIONED" in device.said()


def test_what_nobody_read_is_no_silence(device):
    """QoS 0 alone for twice the keep-alive, without `check_msg`; then QoS 1, and the answer is
    not there yet when it looks first."""
    device.run("""
        import time
        from limpet.umqtt import MQTTClient

        class Far:
            def __init__(self, stream):
                self.stream = stream
                self.at = time.ticks_ms()

            def write(self, *piece):
                self.at = time.ticks_ms()
                return self.stream.write(*piece)

            def readinto(self, buf):
                if time.ticks_diff(time.ticks_ms(), self.at) > 50:
                    return self.stream.readinto(buf)

            def close(self):
                self.stream.close()

        c = MQTTClient("", "", keepalive=2, store=vault(), log=lambda line: say("log", line=line))
        c.connect()
        time.sleep_ms(200)
        c.check_msg()  # what the kit was told is acknowledged
        c._wire.link.stream = Far(c._wire.link.stream)
        for i in range(8):
            c.publish("x", b"%d" % i)
            time.sleep_ms(500)
        c.publish("x", b"last", qos=1)
        say("acknowledged")
    """)
    device.wait("acknowledged")
    assert "the connection ended" not in device.said()


def test_a_callback_publishes_qos_1_while_a_publish_waits(device):
    """The broker hands a device's own message back before it acknowledges it."""
    with KitClient(device.broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/up/#")
        device.run("""
            import time
            from limpet.umqtt import MQTTClient

            c = MQTTClient("", "", store=vault(), log=lambda line: say("log", line=line))
            c.set_callback(lambda topic, message: c.publish("reply", message, qos=1))
            c.connect()
            c.subscribe("/limpet/lamp-1/from/+/ping")
            begun = time.ticks_ms()
            c.publish("/limpet/lamp-1/from/lamp-1/ping", b"hello", qos=1)
            say("acknowledged", ms=time.ticks_diff(time.ticks_ms(), begun))
            while True:
                c.wait_msg()
        """)
        assert kit.wait(lambda t, p: t.endswith("up/reply") and p == b"hello", 10)
    assert device.wait("acknowledged")["ms"] < 5000

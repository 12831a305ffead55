"""The client on the real MicroPython, against real brokers over verified TLS."""

import pytest
from limpet_kit.broker import server
from limpet_kit.broker.client import KitClient
from rig.broker import KINDS
from rig.micropython import ROOT

HELLO = """
    c = client(random=lambda: 1 << 18)  # short pauses

    @c.on("ping")
    async def ping(payload):
        await c.publish("pong", payload, qos=1)

    @c.on("led")
    def led(payload):
        say("led", value=bytes(payload).decode())

    async def main():
        async with c:
            await c.online()
            say("online")
            await c.publish("temperature", "21.5", qos=1)
            say("acknowledged")
            await c.publish("memory", b"1234")
            while True:
                await asyncio.sleep(1)

    asyncio.run(main())
"""


@pytest.fixture(params=KINDS)
def broker(request, broker_factory):
    return broker_factory(request.param)


def test_online_publish_command_and_answer(broker, device_factory):
    device = device_factory(broker)
    with KitClient(broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/#")
        device.run(HELLO)
        device.wait("online")
        device.wait("acknowledged")
        assert kit.wait(lambda t, p: t == "limpet/lamp-1/up/temperature" and p == b"21.5", 5)
        assert kit.wait(lambda t, p: t == "limpet/lamp-1/up/memory", 5)
        kit.publish("limpet/lamp-1/cmd/led", b"on")
        assert device.wait("led")["value"] == "on"
        kit.publish("limpet/lamp-1/cmd/ping", b"hello")
        assert kit.wait(lambda t, p: t == "limpet/lamp-1/up/pong" and p == b"hello", 5)


def test_the_default_application(broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    device = device_factory(broker)
    main = (ROOT / "firmware" / "main.py").read_text()
    with KitClient(broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/#")
        device.run("import limpet\nlimpet.Client = client\n" + main)
        assert kit.wait(lambda t, p: t.startswith("limpet/lamp-1/up/memory"), 10)
        kit.publish("limpet/lamp-1/cmd/ping", b"hello")
        assert kit.wait(lambda t, p: t == "limpet/lamp-1/up/ping" and p == b"hello", 5)


def test_a_restarted_broker_finds_the_device_back(broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    device = device_factory(broker)
    device.run(HELLO)
    device.wait("acknowledged")
    broker.kill()
    device.wait("log", line="OFFLINE: the ")
    broker.start()
    device.wait("log", line="ONLINE")


def test_a_wrong_password_is_refused_and_not_tried_again(broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    device = device_factory(broker)
    server.sync(broker.settings, [], force=True)
    device.run(
        """
        async def main():
            async with client() as c:
                async for state, reason in c.events():
                    say("state", state=state, reason=reason, next_try=c.next_try)

        asyncio.run(main())
        """
    )
    found = device.wait("state", state="REFUSED")
    assert "refused this device's account" in found["reason"]
    assert 0.8 * 3600 <= found["next_try"] <= 1.2 * 3600


def test_closing_says_goodbye_and_a_second_start_works(broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    device = device_factory(broker)
    with KitClient(broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/state")
        device.run(
            """
            async def main():
                c = client()
                for _ in range(2):
                    async with c:
                        await c.online()
                        say("online")
                    say("closed")

            asyncio.run(main())
            """
        )
        for _ in range(2):
            device.wait("online")
            device.wait("closed")
            assert kit.wait(lambda t, p: b"closed" in p, 5)
        assert device.end() == 0


def test_a_report_wakes_publishes_and_leaves(broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    device = device_factory(broker)
    with KitClient(broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/#")
        device.run(
            """
            c = client()
            for i in range(2):
                asyncio.run(c.report("temperature", "%d" % i))
                say("done", bytes=c.counters.bytes_out)
            """
        )
        for i in range(2):
            device.wait("done")
            found = kit.wait(lambda t, p: True, 5)
            assert found == ("limpet/lamp-1/up/temperature", b"%d" % i)
        assert device.end() == 0

"""The client on the real MicroPython, against real brokers over verified TLS."""

import socket

import pytest
from limpet_kit.broker import server
from limpet_kit.broker.client import KitClient
from rig.broker import KINDS
from rig.device import Device
from rig.micropython import ROOT

pytestmark = pytest.mark.on_ports
sample = pytest.mark.on_ports(always=True)

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


def test_whichever_of_its_servers_is_up_is_found(broker, device_factory, proxy_factory):
    """All that are in its vault are dialled in one try, so it costs one pause."""
    first, second = proxy_factory(broker), proxy_factory(broker)
    first.refuse()
    device = device_factory(broker, servers=[f"localhost:{p.port}" for p in (first, second)])
    device.run(HELLO)
    device.wait("acknowledged")
    for gone, there in ((second, first), (first, second)):
        there.listen()
        gone.refuse()
        gone.cut()
        device.wait("log", line="OFFLINE", timeout=30)
        device.wait("log", line="ONLINE", timeout=60)


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


@sample
def test_the_default_application(broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    device = device_factory(broker)
    main = (ROOT / "firmware" / "main.py").read_text()
    with KitClient(broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/#")
        device.run("import limpet\nlimpet.Client = client\n" + main)
        reading = "temperature" if device.port else "memory"  # a desktop measures nothing else
        assert kit.wait(lambda t, p: t == f"limpet/lamp-1/up/{reading}", 10)
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


def test_the_client_scrubs_while_it_is_online(broker_factory, device_factory):
    device = device_factory(broker_factory("mosquitto"))
    device.run(
        """
        from limpet.client import Client
        from limpet.store import FileStore
        from limpet.vault import Vault
        from sketch import FOLDER

        class Small(FileStore):  # the flash of the machine that runs this is not to be filled
            steps = 0

            def scrub_steps(self):
                return 3

            def scrub(self, left):
                Small.steps += 1
                super().scrub(left)

        v = Vault(Small(FOLDER), b"chip-001")
        c = Client(v)

        async def main():
            async with c:
                await c.online()
                say("before", due=v.scrub_due)
                while v.scrub_due:
                    await c.publish("temperature", b"1", qos=1)
                    await asyncio.sleep_ms(100)
                say("after", steps=Small.steps, connects=c.counters.connects)

        asyncio.run(main())
        again = vault()
        again.records()
        say("next boot", due=again.scrub_due)
        """
    )
    assert device.wait("before")["due"]
    assert device.wait("after") == {"event": "after", "steps": 3, "connects": 1}
    assert not device.wait("next boot")["due"]
    assert device.end() == 0


def test_a_report_confirms_a_pending_record_or_falls_back_at_once(broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    device = device_factory(broker)
    device.run(
        """
        from limpet import record, rules, slots
        from limpet.client import Client

        def pend(password=None):
            used = v.records()[0]
            fields = [(t, bytes(used.fields[a:b])) for t, a, b in record.walk(used.fields)]
            fields = [(t, password if password and t == record.PASSWORD else x) for t, x in fields]
            slots.succeed(v, used, rules.encode(*fields))

        def tell():
            found = v.records()
            say("report", generations=[r.generation for r in found], strikes=v.journal.strikes)

        v = vault()
        c = Client(v)
        pend(b"\\x01" * 32)  # refused
        asyncio.run(c.report("temperature", "1"))
        tell()
        pend()  # accepted
        c = Client(v)  # the next wake
        asyncio.run(c.report("temperature", "2"))
        tell()
        """
    )
    with KitClient(broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/up/#")
        assert device.wait("report", generations=[1, 2])["strikes"] == 1
        assert device.wait("report", generations=[2])["strikes"] == 0
        assert [kit.wait(lambda t, p: True, 5)[1] for _ in range(2)] == [b"1", b"2"]
    assert device.end() == 0


def test_closing_is_prompt_from_every_state(broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    silent = socket.create_server(("127.0.0.1", 0))  # accepts and says nothing
    server_of = f"localhost:{silent.getsockname()[1]}"
    waiting, online = device_factory(broker, "lamp-1", "lamp-2")
    connecting = Device(waiting.folder.parent / "lamp-3", broker, "lamp-3", servers=[server_of])
    sketch = """
        import time

        async def main():
            c = client()
            c.start()
            while c.state != {state!r}:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            begun = time.ticks_ms()
            await c.close()
            await c.close()
            say("closed", ms=time.ticks_diff(time.ticks_ms(), begun), state=c.state)

        asyncio.run(main())
        """
    try:
        for device, state in ((online, "ONLINE"), (connecting, "CONNECTING")):
            device.run(sketch.format(state=state))
            found = device.wait("closed")
            assert found["state"] == "OFFLINE" and found["ms"] < 5000, found
            assert device.end() == 0
        broker.kill()
        waiting.run(sketch.format(state="OFFLINE"))
        assert waiting.wait("closed")["ms"] < 5000
    finally:
        connecting.kill()
        silent.close()


def test_the_watchdog_is_fed_while_there_is_progress_and_not_when_a_step_hangs(
    broker_factory, device_factory
):
    device = device_factory(broker_factory("mosquitto"))
    device.run(
        """
        import time
        from sketch import Fed

        fed = Fed()

        async def main():
            c = client(feed=fed.feed, keepalive=8)
            async with c:
                await c.online()
                await asyncio.sleep(4)
                say("fed", longest=fed.longest)
                c._keeper._linked = None  # as if the session had gone and nothing came after it
                c._keeper._until = time.ticks_ms()
                fed.feed()
                at = fed.at
                await asyncio.sleep(3)
                say("starved", fed=fed.at != at)

        asyncio.run(main())
        """
    )
    assert device.wait("fed")["longest"] < 2500
    assert device.wait("starved")["fed"] is False


def test_a_feed_that_raises_is_named(broker_factory, device_factory):
    device = device_factory(broker_factory("mosquitto"))
    device.run("""
        bad = False

        def feed():
            if bad:
                raise OSError("no such watchdog")

        async def main():
            global bad
            c = client(feed=feed, keepalive=8)
            async with c:
                await c.online()
                bad = True
                while c.state == "ONLINE":
                    await asyncio.sleep_ms(50)
                say("ended", reason=c.reason)

        asyncio.run(main())
    """)
    assert "no such watchdog" in device.wait("ended")["reason"]


@pytest.mark.parametrize(
    "when",
    [
        "await c.online()",
        # until SUBSCRIBE has gone, and its answer has not come
        "while not (c._keeper._linked and c._keeper._linked._wanted): await asyncio.sleep_ms(0)",
    ],
    ids=["online", "during the login"],
)
def test_a_handler_added_late_is_subscribed_to(when, broker_factory, device_factory):
    broker = broker_factory("mosquitto")
    device = device_factory(broker)
    device.run(
        """
        async def main():
            c = client()
            async with c:
                WHEN

                @c.on("late")
                async def late(payload):
                    say("late", payload=payload.decode())

                await c.online()
                await asyncio.sleep(0.3)
                say("ready")
                while True:
                    await asyncio.sleep(1)

        asyncio.run(main())
        """.replace("WHEN", when)
    )
    device.wait("ready")
    with KitClient(broker.settings) as kit:
        kit.publish("limpet/lamp-1/cmd/late", b"hello")
        assert device.wait("late")["payload"] == "hello"


def test_a_full_heap_is_not_the_end_of_a_device(broker_factory, device_factory):
    """No memory to read the vault: the client says so and tries again, as after any failure."""
    device = device_factory(broker_factory("mosquitto"))
    device.run("""
        c = client(random=lambda: 1 << 16)
        working = c._keeper.logins.record
        left = 2

        def record():
            global left
            left -= 1
            if left >= 0:
                raise MemoryError("no room")
            return working()

        c._keeper.logins.record = record

        async def main():
            async with c:
                await c.online()
                say("online", failures=c.counters.failures)

        asyncio.run(main())
    """)
    assert device.wait("online", failures={"MEMORY": 2})


def test_a_heap_that_is_full_for_a_while_ends_nothing(broker_factory, device_factory):
    """Full through several beats, on a link that is half open: what looks at it is still there."""
    device = device_factory(broker_factory("mosquitto"))
    device.run("""
        import gc

        async def full():
            gc.collect()
            kept, size = None, 8192
            while size >= 32:
                try:
                    while True:
                        kept = [kept, bytearray(size)]
                except MemoryError:
                    size //= 2
            for _ in range(12):
                await asyncio.sleep_ms(100)

        async def main():
            c = client(keepalive=2, random=lambda: 1 << 16)
            async with c:
                await c.online()
                session = c._keeper.session
                session.read = lambda buf: None
                session.write = lambda buf, at=0, n=None: len(buf) if n is None else n
                await full()
                gc.collect()
                say("free", online=c.state == "ONLINE")
                while c.counters.connects < 2:
                    await asyncio.sleep_ms(50)
                await c.online()
                say("again", failures=c.counters.failures)

        asyncio.run(main())
    """)
    device.wait("free")
    assert device.wait("again")["failures"]


def test_a_device_without_a_credential_feeds_its_watchdog_and_says_so(
    broker_factory, device_factory
):
    device = device_factory(broker_factory("mosquitto"))
    device.run("""
        from limpet.client import Client
        from limpet.errors import LimpetError

        from sketch import Fed

        fed = Fed()
        v = vault()
        v.wipe()
        v.store.scrub_steps = lambda: 60
        v.store.scrub = lambda left: None

        async def main():
            c = Client(v, feed=fed.feed)
            c.start()
            for _ in range(2):  # at once, and later
                try:
                    await c.online()
                except LimpetError as e:
                    say("online", code=e.code)
                await asyncio.sleep(3)
            fed.feed()
            say("fed", longest=fed.longest)

        asyncio.run(main())
    """)
    for _ in range(2):
        assert device.wait("online")["code"] == "UNPROVISIONED"
    assert device.wait("fed")["longest"] < 2500

"""One task for one MQTT client, on MicroPython: `clients.py CLIENT TASK SETTINGS`.

SETTINGS is a JSON file: host, port, name (in the certificate), ca (file, DER), account, password,
topic, command, folder (limpet's vault), count, window. The last line of the output is JSON.
"""

import asyncio
import gc
import json
import sys
from time import ticks_diff, ticks_ms, ticks_us

PAYLOAD = b"x" * 32


def cpu_us():
    """CPU time of this process in us, from the scheduler."""
    with open("/proc/self/schedstat") as f:
        return int(f.read().split()[0]) // 1000


def say(**values):
    print(json.dumps(values))


class Floor:
    """Prebuilt packets, written as they are: what the interpreter and TLS cost alone."""

    def __init__(self, s):
        self.s = s
        name = s["account"].encode()
        parts = (name, name, s["password"].encode())
        body = b"\0\4MQTT\4\xc2\0\x3c"
        for p in parts:
            body += bytes((0, len(p))) + p
        self.hello = bytes((0x10, len(body))) + body
        topic = s["topic"].encode()
        self.topic = topic
        self.packet0 = bytes((0x30, 2 + len(topic) + 32, 0, len(topic))) + topic + PAYLOAD
        self.packet1 = bytearray(
            bytes((0x32, 4 + len(topic) + 32, 0, len(topic))) + topic + b"\0\1" + PAYLOAD
        )
        self.at = 4 + len(topic)

    def connect(self):
        import socket

        import tls

        s = self.s
        raw = socket.socket()
        raw.setsockopt(6, 1, 1)
        raw.connect(socket.getaddrinfo(s["host"], s["port"])[0][-1])
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        with open(s["ca"], "rb") as f:
            context.load_verify_locations(f.read())
        self.sock = context.wrap_socket(raw, server_hostname=s["name"])
        self.sock.write(self.hello)
        assert self.sock.read(4) == b"\x20\2\0\0"

    def disconnect(self):
        self.sock.write(b"\xe0\0")
        self.sock.close()

    def publish0(self, count):
        write = self.sock.write
        packet = self.packet0
        for _ in range(count):
            write(packet)

    def publish1(self, count, window=1):
        write = self.sock.write
        read = self.sock.readinto
        packet = self.packet1
        at = self.at
        ack = bytearray(4)
        flying = 0
        for i in range(count):
            packet[at] = i + 1 >> 8 & 255
            packet[at + 1] = i + 1 & 255
            write(packet)
            flying += 1
            if flying == window:
                read(ack)
                flying -= 1
        for _ in range(flying):
            read(ack)

    def receive(self, topic, count, ready):
        t = topic.encode()
        self.sock.write(bytes((0x82, 5 + len(t), 0, 1, 0, len(t))) + t + b"\0")
        self.sock.read(5)
        ready()
        size = (2 + 2 + len(t) + 32) * count
        buf = bytearray(4096)
        while size > 0:
            size -= self.sock.readinto(buf, min(size, 4096))


class Simple:
    """umqtt.simple 1.3.4, with verification."""

    def __init__(self, s):
        from umqtt.simple import MQTTClient

        self.make(MQTTClient, s)

    def make(self, kind, s):
        import ssl

        sys.modules["ussl"] = ssl  # the old name, which MicroPython has dropped
        with open(s["ca"], "rb") as f:
            params = {"cadata": f.read(), "cert_reqs": 2, "server_hostname": s["name"]}
        name = s["account"]
        self.c = kind(name, s["host"], s["port"], name, s["password"], 60, True, params)
        self.topic = s["topic"].encode()

    def connect(self):
        self.c.connect()

    def disconnect(self):
        self.c.disconnect()

    def publish0(self, count):
        publish = self.c.publish
        topic = self.topic
        for _ in range(count):
            publish(topic, PAYLOAD)

    def publish1(self, count, window=1):
        for _ in range(count):
            self.c.publish(self.topic, PAYLOAD, False, 1)

    def receive(self, topic, count, ready):
        self.left = count
        self.c.set_callback(self.got)
        self.c.subscribe(topic.encode())
        ready()
        while self.left:
            self.c.wait_msg()

    def got(self, topic, payload):
        self.left -= 1


class Robust2(Simple):
    """umqtt.robust2 2.2.0 on umqtt.simple2."""

    def __init__(self, s):
        from umqtt.robust2 import MQTTClient

        self.make(MQTTClient, s)
        self.c.set_callback(self.got)
        self.c.set_callback_status(self.status)
        self.flying = 0

    def status(self, pid, how):
        self.flying -= 1

    def publish1(self, count, window=1):
        for i in range(count):
            # Ten equal messages in flight make it fail.
            self.c.publish(self.topic, b"%032d" % i, False, 1)
            self.flying += 1
            while self.flying >= window:
                self.c.check_msg()
        while self.flying:
            self.c.check_msg()

    def receive(self, topic, count, ready):
        self.left = count
        self.c.subscribe(topic.encode())
        ready()
        while self.left:
            self.c.check_msg()

    def got(self, topic, payload, *_):
        self.left -= 1


class Chumicro:
    """chumicro-mqtt 0.30.3, driven as its runner does: a tick, then a wait for the socket."""

    def __init__(self, s):
        from chumicro_mqtt import MQTTClient
        from chumicro_sockets import ssl_context_with_ca
        from chumicro_sockets.sockets_factory import fixed_connector_factory

        with open(s["ca"], "rb") as f:
            context = ssl_context_with_ca(f.read())
        factory = fixed_connector_factory(s["name"], s["port"], use_tls=True, ssl_context=context)
        self.c = MQTTClient(
            transport_factory=factory,
            client_id=s["account"],
            username=s["account"],
            password=s["password"],
        )
        self.topic = s["topic"]
        self.flying = 0

    def connect(self):
        import select

        self.c.connect()
        while self.c.state != "connected":
            self.c.handle(ticks_ms())
        self.poll = select.poll()
        s = self.c.io_socket
        self.poll.register(getattr(s, "sock", s), select.POLLIN)

    def disconnect(self):
        self.c.disconnect()

    def tick(self):
        self.wait()
        self.c.handle(ticks_ms())

    def wait(self):
        self.poll.poll(10)

    def publish0(self, count):
        c = self.c
        for _ in range(count):
            c.publish(self.topic, PAYLOAD)
            c.handle(ticks_ms())

    def done(self, *_):
        self.flying -= 1

    def publish1(self, count, window=1):
        c = self.c
        for _ in range(count):
            c.publish(self.topic, PAYLOAD, qos=1, on_publish=self.done)
            self.flying += 1
            c.handle(ticks_ms())
            while self.flying >= window:
                self.tick()
        while self.flying:
            self.tick()

    def receive(self, topic, count, ready):
        self.left = count
        self.c.on_message = self.got
        self.c.subscribe(topic, qos=0, on_subscribe=lambda *_: ready())
        self.c.handle(ticks_ms())
        while self.left:
            self.tick()

    def got(self, topic, payload, *_):
        self.left -= 1


class ChumicroBusy(Chumicro):
    """The same, ticked without a pause: the processor is never idle."""

    def wait(self):
        pass


class Aiomqttc:
    """aiomqttc 1.0.7; its own output goes nowhere."""

    def __init__(self, s):
        import aiomqttc as module
        import tls

        class RTC:
            """This binary has none."""

            def datetime(self):
                return (2026, 1, 1, 0, 0, 0, 0, 0)

        module.hal_rtc = RTC

        module.print = lambda *_: None
        module.TimeoutError = asyncio.TimeoutError  # it has a use for it and MicroPython has not
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        with open(s["ca"], "rb") as f:
            context.load_verify_locations(f.read())
        self.c = module.MQTTClient(
            s["account"], s["name"], s["port"], s["account"], s["password"], ssl=context
        )
        self.topic = s["topic"]
        self.loop = asyncio.get_event_loop()

    def connect(self):
        assert self.loop.run_until_complete(self.c.connect())

    def disconnect(self):
        self.loop.run_until_complete(self.c.disconnect())

    def publish0(self, count):
        async def run():
            for _ in range(count):
                await self.c.publish(self.topic, PAYLOAD, 0)

        self.loop.run_until_complete(run())

    def publish1(self, count, window=1):
        async def run(n):
            for _ in range(n):
                await self.c.publish(self.topic, PAYLOAD, 1)

        async def all():
            await asyncio.gather(*[run(count // window) for _ in range(window)])

        self.loop.run_until_complete(all())

    def receive(self, topic, count, ready):
        self.left = count
        done = asyncio.Event()

        async def got(*_):
            self.left -= 1
            if not self.left:
                done.set()

        self.c.on_message = got

        async def run():
            await self.c.subscribe(topic, 0)
            ready()
            await done.wait()

        self.loop.run_until_complete(run())


class Limpet:
    """Ours, as a sketch uses it."""

    def __init__(self, s):
        from limpet import keeper
        from limpet.client import Client
        from limpet.store import FileStore
        from limpet.vault import Vault

        limpet = self

        class Marked(keeper.Session):
            """Notes when CONNACK had come."""

            def __init__(self, *arguments):
                limpet.connack = ticks_us()
                super().__init__(*arguments)

        keeper.Keeper.Session = Marked
        self.s = s
        self.c = Client(Vault(FileStore(s["folder"]), b"chip-001"), window=s["window"])
        self.topic = s["topic"].rpartition("/")[2]
        self.loop = asyncio.get_event_loop()

    def connect(self):
        async def run():
            self.c.start()
            await self.c.online()

        self.loop.run_until_complete(run())

    def disconnect(self):
        self.loop.run_until_complete(self.c.close())

    def wake(self):
        self.loop.run_until_complete(self.c.report(self.topic, PAYLOAD))

    def publish0(self, count):
        async def run():
            publish = self.c.publish
            topic = self.topic
            for _ in range(count):
                await publish(topic, PAYLOAD)

        self.loop.run_until_complete(run())

    def publish1(self, count, window=1):
        async def one():
            publish = self.c.publish
            for _ in range(count):
                await publish(self.topic, PAYLOAD, qos=1)

        async def many():
            # With a queue of 8 behind the window publish() waits for room by itself.
            waits = []
            for _ in range(count):
                waits.append(self.c.publish(self.topic, PAYLOAD, qos=1))
                if len(waits) >= window:
                    await waits.pop(0)
            for w in waits:
                await w

        self.loop.run_until_complete(one() if window == 1 else many())

    def prepare(self, topic, count):
        global left, done
        left = count
        done = asyncio.Event()
        self.c.on(topic.rpartition("/")[2])(got)

    def receive(self, topic, count, ready):
        ready()
        self.loop.run_until_complete(done.wait())


def got(payload):
    """A plain function; a method or a closure would get copies, because it may be a coroutine."""
    global left
    left -= 1
    if not left:
        done.set()


CLIENTS = {
    "limpet": Limpet,
    "floor": Floor,
    "umqtt.simple": Simple,
    "umqtt.robust2": Robust2,
    "chumicro": Chumicro,
    "chumicro, busy": ChumicroBusy,
    "aiomqttc": Aiomqttc,
}


def main():
    name, task, settings = sys.argv[1:]
    with open(settings) as f:
        s = json.load(f)
    count = s["count"]
    client = CLIENTS[name](s)
    if task == "receive" and name == "limpet":
        client.prepare(s["command"], count)
    gc.collect()
    begun = ticks_us()
    if task == "wake" and hasattr(client, "wake"):
        client.wake()
        return say(ms=ticks_diff(ticks_us(), begun) / 1000)
    client.connect()
    ended = getattr(client, "connack", None) or ticks_us()
    if task == "connect":
        say(ms=ticks_diff(ended, begun) / 1000)
    elif task == "qos0":
        client.publish0(200)
        gc.collect()
        gc.disable()
        client.publish0(50)
        before = gc.mem_alloc()
        client.publish0(50)
        after = gc.mem_alloc()
        client.publish0(1_050)
        left = gc.mem_alloc() - after - (after - before)  # without what a call of ours costs
        gc.enable()
        begun = cpu_us()
        client.publish0(count)
        say(
            us=(cpu_us() - begun) / count, bytes=max(0, left) // 1_000
        )  # less than 1,000 B in all is not the messages'
    elif task in ("qos1", "window"):
        window = s["window"] if task == "window" else 1
        client.publish1(min(20, count), window)
        begun = ticks_us()
        client.publish1(count, window)
        say(rate=count / ticks_diff(ticks_us(), begun) * 1_000_000)
    elif task == "receive":
        marks = []

        def ready():
            gc.collect()
            gc.disable()
            marks.append(gc.mem_alloc())
            marks.append(cpu_us())
            say(ready=True)

        client.receive(s["command"], count, ready)
        cpu = cpu_us() - marks[1]
        say(us=cpu / count, bytes=max(0, gc.mem_alloc() - marks[0]) / count)
        gc.enable()
    elif task == "wake":
        client.publish1(1)
        client.disconnect()
        return say(ms=ticks_diff(ticks_us(), begun) / 1000)
    elif task == "heap":
        client.publish0(500)
        client.publish1(500)
        say(ok=True)
    elif task == "plain":
        client.publish0(count)
    elif task == "modules":
        say(modules=list(sys.modules))
    elif task == "many":
        client.publish1(count)
        say(ok=True)
    client.disconnect()
    return None


main()

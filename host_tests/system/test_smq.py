"""The SMQ client on the real MicroPython, against a strict broker of ours, over verified TLS."""

import secrets
import struct
import textwrap

import pytest
from limpet_kit import install
from limpet_kit.attack.server import Server
from limpet_kit.secret import Secret
from rig import device as rig_device
from rig.device import Device
from rig.micropython import ROOT
from rig.smq_broker import DISCONNECT, PUBLISH, frame
from test_hostile import CASES, FIRST, arrived

HEAD = """
from limpet import smq
c = smq.Client("/smq.lsp", vault(), wifi=False, log=lambda line: say("log", line=line),
               random=lambda: 1 << 18, {options})  # short pauses
"""
RUN = """
async def main():
    async with c:
        await c.online()
        say("online", etid=c.etid)
        {then}
        while True:
            await asyncio.sleep(1)

asyncio.run(main())
"""


class Rig:
    """A broker and devices enrolled there."""

    def __init__(self, folder, broker, holder):
        self.folder = folder
        self.broker = broker
        self.holder = holder
        self.made = []

    def device(self, name="lamp-1", servers=None, port=None):
        servers = servers or [f"localhost:{self.broker.port}"]
        device = Device(self.folder / name, self.holder, name, servers=servers, port=port)
        device.uid = device.account.name.encode()
        self.broker.accounts[device.uid] = device.password.reveal()
        self.made.append(device)
        return device

    def run(self, device, sketch="", options="", then="pass", heap="400k"):
        source = HEAD.format(options=options) + textwrap.dedent(sketch) + RUN.format(then=then)
        device.run(source, heap=heap)

    def online(self, sketch="", **options):
        device = self.device()
        self.run(device, sketch, **options)
        device.wait("online")
        return device


@pytest.fixture
def rig(tmp_path, smq_broker):
    made = Rig(tmp_path, *smq_broker())
    yield made
    for device in made.made:
        device.kill()
    assert not made.broker.faults


TALK = """
@c.on("garden")
def garden(payload, sender):
    say("garden", payload=payload.decode(), sender=sender)

@c.on("garden", "wet")
async def wet(payload, sender):
    say("wet", payload=payload.decode())

@c.on("self")
async def private(payload, sender):
    say("private", payload=payload.decode())
    await c.publish(sender, b"answer to " + payload)
"""


def test_topics_sub_topics_and_one_to_one_with_reply(rig):
    lamp = rig.online(TALK)
    other = rig.device("other-1")
    rig.run(
        other,
        """
        @c.on("self")
        def private(payload, sender):
            say("private", payload=payload.decode(), sender=sender)

        async def talk():
            await c.publish("garden", "all")
            await c.publish("garden", "some", "wet")
            await c.publish(ETID, b"you")
        """.replace("ETID", str(rig.broker.peer(lamp.uid).etid)),
        then="await talk()",
    )
    etid = other.wait("online")["etid"]
    assert lamp.wait("garden", payload="all")["sender"] == etid
    lamp.wait("garden", payload="some")
    lamp.wait("wet", payload="some")
    lamp.wait("private", payload="you")
    answer = other.wait("private", payload="answer to you")
    assert answer["sender"] == rig.broker.peer(lamp.uid).etid
    [(uid, password, info), _] = rig.broker.logins
    assert (uid, password, info) == (lamp.uid, lamp.password.reveal(), b"lamp-1")
    assert rig.broker.requests[0].startswith(b"GET /smq.lsp HTTP/1.0\r\n")


def test_its_own_message_comes_back_and_each_handler_gets_it(rig):
    lamp = rig.online(
        TALK,
        then='await c.publish("garden", b"dry", "dry"); await c.publish("garden", b"wet", "wet")',
    )
    lamp.wait("garden", payload="dry")
    lamp.wait("garden", payload="wet")
    assert lamp.wait("wet")["payload"] == "wet"  # and not the dry one


OBSERVE = """
def counted(count):
    say("count", n=count)

c.observe("garden", counted)

@c.on("self")
def private(payload, sender):
    c.observe(sender, lambda count: say("gone", n=count, who=sender))
    say("observing")
"""


def test_observe_a_topic_and_the_loss_of_a_client(rig):
    lamp = rig.online(OBSERVE)
    lamp.wait("count", n=0)
    other = rig.device("other-1")
    rig.run(other, TALK, then=f'await c.publish({rig.broker.peer(lamp.uid).etid}, "me")')
    lamp.wait("count", n=1)
    lamp.wait("observing")
    etid = other.wait("online")["etid"]
    other.kill()
    lamp.wait("count", n=0)
    assert lamp.wait("gone", n=0)["who"] == etid


def test_after_a_restart_of_the_broker_all_is_restored_with_new_ids(rig):
    lamp = rig.online(TALK + OBSERVE.split("@c.on")[0])
    before = dict(rig.broker.topics)
    rig.broker.stop()
    lamp.wait("log", line="OFFLINE")
    rig.broker.start()
    lamp.wait("log", line="ONLINE")
    assert rig.broker.topics["garden"] != before["garden"]
    lamp.wait("count", n=1)
    rig.broker.publish(lamp.uid, b"again", "garden", rig.broker.subs["wet"])
    lamp.wait("wet", payload="again")


def test_a_handler_is_forgotten_without_telling_the_broker(rig):
    lamp = rig.online(OBSERVE, then="c.forget(counted); say('done')")
    lamp.wait("done")
    rig.broker.publish(lamp.uid, b"x")
    lamp.wait("observing")
    assert 15 not in rig.broker.ops  # Unobserve breaks the real broker


def test_a_failing_handler_and_a_refused_topic_are_reported(rig):
    rig.broker.no = {"secret"}
    device = rig.device()
    rig.run(
        device,
        """
        @c.on("self")
        def bad(payload, sender):
            raise ValueError(5)

        c.on("secret")(bad)
        """,
        then='await c.publish("secret", "x"); say("sent", dropped=c.counters.dropped)',
    )
    device.wait("log", line="refused: topic secret")
    assert device.wait("sent")["dropped"] == 1
    rig.broker.publish(device.uid, b"x")
    device.wait("log", line="failed: ValueError(5")


@pytest.mark.parametrize("part", range(8))
def test_every_byte_in_a_credential(part, rig, monkeypatch):
    values = bytes(range(part * 32, part * 32 + 32))
    monkeypatch.setattr(rig_device.accounts, "draw_password", lambda profile: Secret(values))
    monkeypatch.setattr(rig_device.accounts, "verifier", lambda password, form: "")  # Mosquitto's
    rig.online()
    assert [password for _, password, _ in rig.broker.logins] == [values]


def test_a_take_over_is_a_state_and_not_a_fight(rig):
    lamp = rig.online()
    rig.broker.drop(lamp.uid, DISCONNECT, b"reconnect")
    lamp.wait("log", line="TAKEN: somebody else logged in")
    pause = int(lamp.wait("log", line="next try in ")["line"].split()[3])
    assert 0.8 * 3600 <= pause <= 1.2 * 3600


def test_another_end_by_the_broker_is_a_network_failure(rig):
    lamp = rig.online()
    rig.broker.drop(lamp.uid, DISCONNECT, b"maintenance")
    lamp.wait("log", line="OFFLINE: the connection was closed (by the server)")
    lamp.wait("log", line="ONLINE")


@pytest.mark.parametrize("code", [3, 4, 6])
def test_a_refused_account_waits_for_an_hour(code, rig):
    rig.broker.code = code
    lamp = rig.device()
    rig.run(lamp)
    lamp.wait("log", line=f"REFUSED: the server refused this device's account ({code})")
    pause = int(lamp.wait("log", line="next try in ")["line"].split()[3])
    assert 0.8 * 3600 <= pause <= 1.2 * 3600
    assert len(rig.broker.logins) == 1


def test_a_busy_broker_is_tried_again_soon(rig):
    rig.broker.code = 2
    lamp = rig.device()
    rig.run(lamp)
    lamp.wait("log", line="OFFLINE: the server cannot take this device now (2)")
    rig.broker.code = None
    lamp.wait("log", line="ONLINE")


def test_a_missing_pong_ends_the_session(rig):
    lamp = rig.online(options="keepalive=1")
    rig.broker.mute = True
    lamp.wait("log", line="OFFLINE: the server was silent for too long")
    rig.broker.mute = False
    lamp.wait("log", line="ONLINE")


def test_pings_keep_an_idle_session(rig):
    lamp = rig.online(
        options="keepalive=1", then="await asyncio.sleep(3); say('still', s=c.state)"
    )
    assert lamp.wait("still")["s"] == "ONLINE"
    assert rig.broker.ops.count(12) >= 3
    assert len(rig.broker.logins) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\x0d", "the server sent what cannot be read (0)"),
        (b"\0\2\x0d", "the server sent what cannot be read (2)"),
        (b"\xff\xff\x08", "the server sent what cannot be read (65535)"),
        (frame(10), "the server sent what cannot be read (10)"),
        (frame(PUBLISH, b"short"), "the server sent what cannot be read (8)"),
        (frame(5, b"\0\0\0\0\1garden"), "the server sent what cannot be read (5)"),
    ],
)
def test_malformed_frames_end_the_session(data, words, rig):
    lamp = rig.online()
    rig.broker.say(lamp.uid, data)
    lamp.wait("log", line="OFFLINE: " + words)
    lamp.wait("log", line="ONLINE")


@pytest.mark.parametrize("head", [True, False])
def test_one_byte_at_a_time_with_and_without_an_http_head(head, rig):
    rig.broker.head = head
    rig.broker.slice = 1
    lamp = rig.online(TALK)
    rig.broker.publish(lamp.uid, bytes(range(32, 96)), "garden")
    assert lamp.wait("garden")["payload"] == bytes(range(32, 96)).decode()


def test_many_frames_in_one_record(rig):
    lamp = rig.online(TALK)
    peer = rig.broker.peer(lamp.uid)
    head = struct.pack(">III", peer.etid, 1, 0)
    rig.broker.say(lamp.uid, b"".join(frame(PUBLISH, head + str(k).encode()) for k in range(12)))
    for k in range(12):
        assert lamp.wait("private")["payload"] == str(k)


def test_a_frame_as_large_as_the_buffer(rig):
    lamp = rig.online(TALK, options="receive=512")
    rig.broker.publish(lamp.uid, b"x" * (512 - 15), "garden")
    assert len(lamp.wait("garden")["payload"]) == 512 - 15
    rig.broker.publish(lamp.uid, b"x" * (512 - 14), "garden")
    lamp.wait("log", line="OFFLINE: the server sent what cannot be read (513)")


def test_the_largest_message_goes_out(rig):
    lamp = rig.online(TALK, then='await c.publish("big", bytes(65520)); say("sent")', heap="900k")
    lamp.wait("sent")
    rig.broker.publish(lamp.uid, b"still there", "garden")
    lamp.wait("garden", payload="still there")


@pytest.mark.parametrize("status", [404, 403])
def test_a_wrong_path_is_named(status, rig):
    rig.broker.status = status
    lamp = rig.device()
    rig.run(lamp)
    lamp.wait(
        "log", line=f"OFFLINE: there is no SMQ broker at this path of the server (b'{status}')"
    )


@pytest.mark.parametrize("trouble", ["silent", "reset", "half-open", "refused"])
def test_through_the_fault_proxy(trouble, rig, proxy_factory):
    proxy = proxy_factory(("127.0.0.1", rig.broker.port))
    lamp = rig.device(servers=[f"localhost:{proxy.port}"])
    if trouble == "refused":
        proxy.refuse()
    rig.run(lamp, options="keepalive=2")
    if trouble == "refused":
        lamp.wait("log", line="OFFLINE")
        proxy.listen()
    lamp.wait("log", line="ONLINE")
    if trouble == "reset":
        proxy.cut()
    elif trouble != "refused":
        proxy.freeze(*(("down",) if trouble == "silent" else ()))
    if trouble != "refused":
        lamp.wait("log", line="OFFLINE")
        proxy.thaw()
        lamp.wait("log", line="ONLINE")


def hostile(name, rig):
    case = CASES[name]
    with Server(case.make(), **case.server) as server:
        device = Device(
            rig.folder / "lamp-1",
            rig.holder,
            "lamp-1",
            servers=[f"{case.host}:{server.port}"],
            anchor=case.anchor().der,
        )
        rig.made.append(device)
        first = f"{FIRST}\nfrom warp import clock; clock.eager = {case.slow}"
        device.run(
            "from limpet import resolve\nworking = resolve._info\n"
            'resolve._info = lambda host, port: working("127.0.0.1", port)\n'
            + HEAD.format(options="")
            + RUN.format(then="pass"),
            first=first,
        )
        device.wait("log", line="next try in", timeout=60)
        assert server.seen
        assert arrived(server, device.password.reveal()) == 0
        assert not any(b"GET" in one.plain for one in server.seen if one.done)
        return device


IMPOSTORS = [name for name, case in CASES.items() if case.words.startswith("UNTRUSTED")]


@pytest.mark.parametrize("name", IMPOSTORS[:: max(1, len(IMPOSTORS) // 8)])
def test_an_impostor_hears_nothing(name, rig):
    hostile(name, rig)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_hostile_server_hears_anything(name, rig):
    hostile(name, rig)


def test_an_impostor_makes_it_untrusted(rig, smq_broker):
    other, _ = smq_broker()
    lamp = rig.device(servers=[f"localhost:{other.port}"])
    rig.run(lamp)
    lamp.wait("log", line="UNTRUSTED: ")
    assert not other.requests and not other.logins


def example(name):
    """A sketch of firmware/examples, which asks for no vault of its own."""
    text = (ROOT / "firmware" / "examples" / name).read_text()
    text = text.replace("smq.Client(", "smq.Client(store=vault(), wifi=False, path=", 1)
    return text.replace("log=print", 'log=lambda line: say("log", line=line)')


def test_the_sketch_on_a_board(rig):
    lamp = rig.device(port="SIM_RP2")
    other = rig.device("other-1")
    lamp.run(example("smq.py"))
    lamp.wait("log", line="ONLINE")
    etid = rig.broker.peer(lamp.uid).etid
    rig.run(
        other,
        """
        @c.on("self")
        def answered(payload, sender):
            say("answer", payload=payload.decode())

        @c.on("memory")
        def read(payload, sender):
            say("memory", free=int(payload))
        """,
        then=f'await c.publish("led", "on"); await c.publish({etid}, "?")',
    )
    assert other.wait("answer")["payload"] == "on"


HEAP = """
import gc

def kept(name):
    gc.collect()
    before = gc.mem_alloc()
    __import__("limpet." + name)
    gc.collect()
    return gc.mem_alloc() - before

print(kept("client"), kept("smq"))
"""


def test_its_size_beside_the_mqtt_client(tmp_path, micropython, record_property):
    """4 KB of .mpy at most."""
    (tmp_path / "heap.py").write_text(HEAP)
    client, smq = micropython(tmp_path / "heap.py", port="SIM_RP2").stdout.split()
    made = install.compiled()
    bytes_ = sum(len(made[name]) for name in ("smq.mpy", "smqwire.mpy"))
    words = f"SMQ is {bytes_:,} B of .mpy; on a heap of 64 bits it keeps {int(smq):,} B "
    record_property("measured", words + f"beside the {int(client):,} B of the MQTT client")
    assert bytes_ <= 4096


def test_the_control_an_honest_one_hears_the_password(rig):
    lamp = rig.online()
    assert secrets.compare_digest(rig.broker.logins[0][1], lamp.password.reveal())

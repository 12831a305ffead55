"""A broker on three machines: RabbitMQ nodes that are killed, cut off and brought back."""

import contextlib
import queue
import socket
import ssl
import time
from types import SimpleNamespace

import pytest
from limpet_kit.broker import accounts, client, connect, export, rabbitmq_api, server, state
from limpet_kit.broker.client import KitClient
from limpet_kit.errors import REFUSED, KitError
from limpet_kit.ledger import Ledger
from rig.cluster import NODES, OneAtATime
from rig.device import Device
from rig.peer import QUIET_S, WAIT_S, enrol, publish
from rig.peer import Device as Peer
from test_web import PASSWORD, limpet, log_in

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(600)]
BACK_S = 90  # far more than it takes; what it takes is printed


@pytest.fixture
def peers(cluster):
    """`peers(name, ...)`: devices with accounts, at the first node unless told."""
    made = []

    def make(*names, node=0):
        at = SimpleNamespace(settings=cluster.at(node))
        new = [Peer(at, name) for name in names]
        made.extend(new)
        assert server.sync(cluster.settings, [one.account for one in made], force=True)
        return new

    yield make
    server.sync(cluster.settings, [], force=True)


# -- accounts


def test_logins_and_what_becomes_of_them(cluster, peers, record_property):
    """A session on one node ends when another is told so."""
    lamp, other = peers("lamp-1", "lamp-2", node=1)
    assert lamp.login() == connect.ACCEPTED
    wrong = accounts.draw_password("binary")
    assert client.login(lamp.settings, lamp.account.name, wrong) == connect.BAD_LOGIN
    took = []
    for _ in range(5):
        with lamp.online(), other.online():
            began = time.monotonic()
            assert server.sync(cluster.settings, [other.account], at_once=True)
            assert lamp.gone.wait(WAIT_S)
            took.append(time.monotonic() - began)
            assert lamp.login() == connect.BAD_LOGIN
            assert not other.gone.is_set()
        server.sync(cluster.settings, [lamp.account, other.account])
    record_property(
        "measured",
        "revoke to live session closed on another node: "
        f"{min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms",
    )
    # Another password ends the session of the old one.
    with lamp.online():
        lamp.password = accounts.draw_password("binary")
        changed = lamp.account._replace(verifier=lamp.settings.verifier(lamp.password))
        assert server.sync(cluster.settings, [changed, other.account])
        assert lamp.gone.wait(WAIT_S) and lamp.login() == connect.ACCEPTED


def test_an_empty_ledger_locks_nobody_out(cluster, peers):
    lamps = peers(*(f"lamp-{n}" for n in range(5)))
    with pytest.raises(KitError) as e:
        server.sync(cluster.settings, [])
    assert e.value.code == REFUSED
    assert all(lamp.login() == connect.ACCEPTED for lamp in lamps)


def test_accounts_that_the_kit_did_not_make_leave_when_nothing_is_known(cluster, peers):
    """The copy of what the nodes were told is lost, or is another cluster's."""
    (lamp,) = peers("lamp-1")
    for file in (cluster.settings.folder / "applied").iterdir():
        file.unlink()
    (cluster.settings.folder / "applied").rmdir()
    stranger = Peer(SimpleNamespace(settings=cluster.settings), "lamp-9")
    export.write(cluster.settings.folder, [], force=True)  # and the files too
    assert server.sync(cluster.settings, [stranger.account], force=True)
    assert lamp.login() == connect.BAD_LOGIN and stranger.login() == connect.ACCEPTED


def test_a_kit_that_was_killed_before_it_noted_who_left_goes_on(cluster, peers):
    lamp, other, third = peers("lamp-1", "lamp-2", "lamp-3")
    with rabbitmq_api.Api(cluster.settings) as api:
        api.send("POST", "users/bulk-delete", {"users": [lamp.account.name]})
    assert server.sync(cluster.settings, [third.account], force=True)
    assert [one.login() for one in (lamp, other)] == [connect.BAD_LOGIN] * 2
    assert third.login() == connect.ACCEPTED


# -- what an account may do: RabbitMQ ends the connection of one that tries something else


MINE = ("limpet/lamp-1/state", "limpet/lamp-1/up/t", "limpet/lamp-2/from/lamp-1/x",
        "limpet/lamp-1/kit/ack")  # fmt: skip
FORBIDDEN = (
    "limpet/lamp-2/up/t",
    "limpet/lamp-2/state",
    "limpet/lamp-2/cmd/led",
    "limpet/lamp-1/cmd/led",
    "limpet/lamp-2/kit/set",
    "limpet/lamp-2/kit/ack",
    "limpet/lamp-2/from/lamp-3/x",  # a forged sender
    "limpet/lamp-1/up/a/b",
    "limpet/lamp-1/up/a.b",
    "limpet.lamp-2.up.t",
    "limpet/time",
    "limpet",
    "other",
)
READABLE = ("limpet/lamp-1/cmd/+", "limpet/lamp-1/cmd/led", "limpet/lamp-1/from/+/+",
            "limpet/lamp-1/kit/set", "limpet/time")  # fmt: skip
UNREADABLE = ("#", "limpet/#", "limpet/+/cmd/+", "limpet/lamp-2/cmd/+", "+/+/+/+",
              "limpet/lamp-1/cmd/#", "limpet/lamp-1/#", "limpet/lamp-1/+/+",
              "limpet.lamp-2.cmd.led")  # fmt: skip


def test_a_device_writes_what_is_its_own_and_nothing_else(cluster, peers):
    (lamp,) = peers("lamp-1", node=1)
    with KitClient(cluster.at(0)) as kit:
        kit.subscribe("limpet/#")
        with lamp.online() as mqtt:
            for topic in MINE:
                publish(mqtt, topic, b"x")
                assert kit.wait(lambda t, p, wanted=topic: t == wanted, WAIT_S)
        for topic in FORBIDDEN:
            with lamp.online() as mqtt:
                mqtt.publish(topic, b"forged", 1)
                assert lamp.gone.wait(WAIT_S), topic
        assert kit.wait(lambda t, p: p == b"forged", QUIET_S) is None
        with lamp.online(will=("limpet/lamp-2/state", b"forged", 1, True)) as mqtt:
            mqtt.socket().close()
        assert kit.wait(lambda t, p: p == b"forged", QUIET_S) is None


def test_a_device_reads_what_is_its_own_and_nothing_else(cluster, peers):
    (lamp,) = peers("lamp-1", node=1)
    with KitClient(cluster.at(0)) as kit:
        with lamp.online() as mqtt:
            for topic_filter in READABLE:
                assert lamp.subscribe(mqtt, topic_filter).value == 1
            kit.publish("limpet/lamp-1/cmd/led", b"on")
            while (found := lamp.next())[0] == "limpet/time":
                pass
            assert found[:2] == ("limpet/lamp-1/cmd/led", b"on")
        for topic_filter in UNREADABLE:
            with lamp.online() as mqtt, contextlib.suppress(queue.Empty):
                mqtt.subscribe(topic_filter, 1)
                assert lamp.gone.wait(WAIT_S), topic_filter


def test_somebody_else_s_client_id(cluster, peers):
    """RabbitMQ does not bind it to the account: who knows another account's name can end its
    session, and gets nothing of what waits for it."""
    lamp, thief = peers("lamp-1", "lamp-2")
    with lamp.online(clean=False) as mqtt:
        assert lamp.subscribe(mqtt, "limpet/lamp-1/cmd/+").value == 1
    with KitClient(cluster.settings) as kit:
        kit.publish("limpet/lamp-1/cmd/led", b"for lamp-1")
        with (
            contextlib.suppress(AssertionError, queue.Empty, OSError),
            thief.online(client_id=lamp.account.name, clean=False) as mqtt,
        ):
            mqtt.subscribe("limpet/lamp-2/cmd/+", 1)
            assert not thief.gone.wait(WAIT_S)
        assert thief.messages.empty()
        with lamp.online(clean=False):
            assert lamp.next()[:2] == ("limpet/lamp-1/cmd/led", b"for lamp-1")


def test_what_is_retained_is_so_on_every_node(cluster, peers):
    """Each node retains for itself alone, and knows no wildcards then: the kit asks for all."""
    (lamp,) = peers("lamp-1", node=1)
    topic = "limpet/lamp-1/kit/set"
    with KitClient(cluster.settings) as kit:  # at the first node
        kit.publish(topic, b"box", retain=True)
        with lamp.online() as mqtt:
            lamp.subscribe(mqtt, topic)
            assert lamp.next() == (topic, b"box", True)
            publish(mqtt, "limpet/lamp-1/kit/ack", b"done", retain=True)
        assert kit.retained("limpet/+/kit/ack", WAIT_S) == {"limpet/lamp-1/kit/ack": b"done"}
    with KitClient(cluster.settings) as kit:
        kit.subscribe("limpet/+/kit/ack")
        assert kit.wait(lambda t, p: p == b"done", WAIT_S)
        for gone in (topic, "limpet/lamp-1/kit/ack"):
            kit.publish(gone, b"", retain=True)
    with KitClient(cluster.settings) as kit:
        assert kit.retained("limpet/lamp-1/#", WAIT_S) == {}


def test_the_page_of_a_person(cluster, peers, home, web_server, browser):
    """At the first node, for a device at the second; who is online the nodes know together."""
    (lamp,) = peers("lamp-1", node=1)
    with Ledger() as ledger:
        enrol(ledger, lamp)
    limpet("web", "user", "add", "anna", "--devices", "lamp-1", typed=PASSWORD + "\n")
    stale = cluster.at(0)
    with KitClient(stale) as kit:  # what it said there, long ago
        kit.publish("limpet/lamp-1/state", b'{"state":"offline"}', retain=True)
    url = web_server(SimpleNamespace(settings=cluster.settings))
    with lamp.online() as mqtt:
        lamp.subscribe(mqtt, "limpet/lamp-1/cmd/+")
        end = time.monotonic() + BACK_S
        while lamp.account.name not in state.connected(cluster.settings):  # it counts now and then
            assert time.monotonic() < end
            time.sleep(0.2)
        page = log_in(browser, url)
        device = page.locator(".device")
        device.get_by_text("online", exact=True).wait_for()
        publish(mqtt, "limpet/lamp-1/up/temperature", b"21.5")
        device.locator("[data-value=temperature] .now", has_text="21.5").wait_for()
        device.get_by_role("button", name="LED on").click()
        assert lamp.next()[:2] == ("limpet/lamp-1/cmd/led", b"on")
        publish(mqtt, "limpet/lamp-1/state", b'{"state":"offline","cause":"sleeps"}')
        device.get_by_text("offline: sleeps").wait_for()
        limpet("web", "user", "remove", "anna")
        page.get_by_text("You were logged out.").wait_for()
        assert not page.errors
    with KitClient(cluster.settings) as kit:
        kit.publish("limpet/lamp-1/state", b"", retain=True)


def test_only_nodes_reach_the_nodes(cluster):
    """Where they speak with each other they show and demand a certificate that only they have."""
    folder, where = cluster.settings.folder, (cluster.hosts[0], cluster.settings.node_port)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "nodes.crt")
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the end of a handshake says who is let in
    for certificate in (None, "server", "node"):
        if certificate:
            context.load_cert_chain(folder / f"{certificate}.crt", folder / f"{certificate}.key")
        refused = (
            pytest.raises(ssl.SSLError) if certificate != "node" else contextlib.nullcontext()
        )
        with socket.create_connection(where, WAIT_S) as raw, refused:
            context.wrap_socket(raw).close()
    with socket.create_connection(where, WAIT_S) as raw:  # Erlang's own handshake, in clear
        raw.sendall(b"\0\x15N" + bytes(12) + b"\0\6x@host")
        with contextlib.suppress(ConnectionResetError):
            assert not raw.recv(100).startswith(b"\0\3sok")


# -- nodes that die


SKETCH = """
    c = client(clean=CLEAN, queue=32)
    heard, stop = set(), asyncio.Event()

    @c.on("n")
    def n(payload):
        heard.add(int(bytes(payload)))

    @c.on("stop")
    def halt(payload):
        stop.set()

    @c.on("tell")
    def tell(payload):
        say("heard", count=len(heard), most=max(heard) if heard else -1)

    async def main():
        async with c:
            await c.online()
            say("up")
            sent = 0
            while not stop.is_set():
                await c.publish("n", b"%d" % sent, qos=1)
                sent += 1
                await asyncio.sleep(0.4)
            say("sent", count=sent)
            await asyncio.sleep(600)

    asyncio.run(main())
"""


class Fleet:
    """Devices that publish numbers and are sent numbers, all with QoS 1."""

    def __init__(self, cluster, folder, count):
        self.cluster = cluster
        self.devices = []
        broker = SimpleNamespace(settings=cluster.settings)
        for k in range(count):
            first = k % NODES
            hosts = [*cluster.hosts[first:], *cluster.hosts[:first]]
            name = f"lamp-{k}"
            servers = [f"{host}:{cluster.settings.port}" for host in hosts]
            self.devices.append(Device(folder / name, broker, name, servers=servers))
        assert server.sync(cluster.settings, [d.account for d in self.devices], force=True)
        self.heard = {d.name: set() for d in self.devices}
        self.told = 0
        self.clean = self.devices[1::2]  # what they are sent while they are away is lost

    def run(self):
        for device in self.devices:
            device.run(SKETCH.replace("CLEAN", str(device in self.clean)))
        for device in self.devices:
            device.wait("up", timeout=BACK_S)

    def pulse(self, kit, seconds):
        """Send numbers for so long, and hear what comes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for device in self.devices:
                kit.publish(f"limpet/{device.name}/cmd/n", b"%d" % self.told)
            self.told += 1
            self._hear(kit, 0.3)

    def back(self, kit, node):
        """Those whose home was this node are online again elsewhere; s until the last was."""
        began = time.monotonic()
        waiting = [d for k, d in enumerate(self.devices) if k % NODES == node]
        while waiting:
            assert time.monotonic() - began < BACK_S, [d.said() for d in waiting]
            self.pulse(kit, 0.3)
            waiting = [d for d in waiting if not self._is_back(d)]
        return time.monotonic() - began

    def _is_back(self, device):
        while True:
            try:
                line = device.lines.get_nowait()
            except queue.Empty:
                return False
            device.seen.append(line)
            if '"ONLINE"' in (line or ""):
                return True

    def _hear(self, kit, seconds):
        kit.wait(self._take, seconds)

    def _take(self, topic, payload):
        parts = topic.split("/")
        if parts[2:] == ["up", "n"]:
            self.heard[parts[1]].add(int(payload))
        return False

    def check(self, kit):
        """Nothing that was acknowledged is lost, in either direction."""
        for device in self.devices:
            kit.publish(f"limpet/{device.name}/cmd/stop", b"")
        sent = {d.name: d.wait("sent", timeout=BACK_S)["count"] for d in self.devices}
        end = time.monotonic() + BACK_S
        while any(len(self.heard[name]) < count for name, count in sent.items()):
            assert time.monotonic() < end, {n: c - len(self.heard[n]) for n, c in sent.items()}
            self._hear(kit, 0.3)
        for device in (d for d in self.devices if d not in self.clean):
            while True:
                kit.publish(f"limpet/{device.name}/cmd/tell", b"")
                said = device.wait("heard", timeout=BACK_S)
                if said["count"] == self.told:
                    break
                assert time.monotonic() < end + BACK_S, (device.name, said, self.told)
        return sum(sent.values()), self.told * (len(self.devices) - len(self.clean))

    def kill(self):
        for device in self.devices:
            device.kill()


@pytest.mark.parametrize("count", [9, pytest.param(30, marks=pytest.mark.slow)])
def test_nodes_die_are_cut_off_and_come_back(cluster, tmp_path, record_property, count):
    fleet = Fleet(cluster, tmp_path, count)
    try:
        with KitClient(cluster.at(2), BACK_S) as kit:
            kit.subscribe("limpet/+/up/n")
            fleet.run()
            fleet.pulse(kit, 2)
            cluster.kill(0)
            killed = fleet.back(kit, 0)
            fleet.pulse(kit, 2)
            cluster.start(0)
            fleet.pulse(kit, 2)
            cluster.cut(1)
            cut = fleet.back(kit, 1)
            fleet.pulse(kit, 2)
            cluster.mend(1)
            end = time.monotonic() + 2 * BACK_S  # it may hang, and be started anew
            while not cluster.lets_in(1):
                assert time.monotonic() < end, cluster.log(1)
                fleet.pulse(kit, 0.5)
            fleet.pulse(kit, 2)
            up, down = fleet.check(kit)
    finally:
        fleet.kill()
        server.sync(cluster.settings, [], force=True)
    record_property(
        "measured",
        f"cluster, {count} devices: a node killed, all back after {killed:.1f} s; one cut off, "
        f"{cut:.1f} s; {up} messages up and {down} down, none lost",
    )


def test_a_node_that_could_not_come_back_is_started_anew(cluster, peers):
    """It has closed its listeners, and its process lives: so RabbitMQ hangs after some cuts."""
    (lamp,) = peers("lamp-1", node=1)
    cluster.tell(1, "stop_app")
    said, end = cluster.folder / "node-1.log", time.monotonic() + BACK_S
    while "could not come back" not in said.read_text("utf-8", "replace"):
        assert time.monotonic() < end, cluster.log(1)
        time.sleep(0.2)
    while not cluster.lets_in(1):
        assert time.monotonic() < end, cluster.log(1)
        time.sleep(0.2)
    assert lamp.login() == connect.ACCEPTED


@pytest.mark.mosquitto
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "count, kills", [(3, 0), pytest.param(20, 3, marks=pytest.mark.slow)], ids=["3", "20"]
)
def test_a_fleet_moves_here_and_back(count, kills, cluster, broker_factory, there_and_back):
    there_and_back(broker_factory("mosquitto"), OneAtATime(cluster), count, kills)

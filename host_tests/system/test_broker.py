"""Every kind of broker, as the same promises to the same clients.

RabbitMQ answers otherwise what is not allowed, so what it promises there is in test_rabbitmq.py.
"""

import contextlib
import dataclasses
import os
import re
import signal
import socket
import ssl
import stat
import threading
import time

import pytest
from limpet_kit.broker import accounts, client, connect, export, server, settings
from limpet_kit.broker.accounts import Account
from limpet_kit.errors import NO_BROKER, REFUSED, KitError
from limpet_kit.secret import Secret
from rig.broker import ALL_KINDS, KINDS
from rig.broker import REFUSED as LOGIN_REFUSED
from rig.peer import QUIET_S, WAIT_S, Device, arrives, break_link, publish

OTHERS = pytest.mark.parametrize("broker", KINDS, indirect=True)


@pytest.fixture(params=ALL_KINDS)
def broker(request, broker_factory):
    return broker_factory(request.param)


@pytest.fixture
def pair(broker):
    """Two enrolled devices."""
    devices = Device(broker, "lamp-1"), Device(broker, "lamp-2")
    assert server.sync(broker.settings, [d.account for d in devices]) is True
    return devices


@pytest.mark.mosquitto
def test_every_byte_but_nul_is_a_password_on_mosquitto(broker_factory):
    broker = broker_factory("mosquitto")
    everything = bytes(range(1, 256))
    passwords = [everything[start : start + 32] for start in range(0, 255, 32)]
    passwords += [everything[::-1], b"\xff\xfe" * 16, b"\n" * 32, b":" * 32]
    passwords += [accounts.draw_password("binary").reveal() for _ in range(8)]
    devices = [Device(broker, "lamp-1") for _ in passwords]
    for device, password in zip(devices, passwords, strict=True):
        device.password = Secret(password)
        device.account = Account(device.account.name, accounts.verifier(device.password), "")
    assert server.sync(broker.settings, [d.account for d in devices])
    for device in devices:
        assert device.login() == 0
        for wrong in (device.password.reveal()[:-1], device.password.reveal() + b"\x01"):
            assert device.login(Secret(wrong)) == connect.NOT_AUTHORISED


def test_text_passwords_log_in_and_wrong_ones_do_not(broker):
    device = Device(broker, "lamp-1", profile="text")
    assert server.sync(broker.settings, [device.account])
    assert device.login() == 0
    assert device.login(accounts.draw_password("text")) in LOGIN_REFUSED
    for name in ("nobody", "probe-", settings.load(broker.settings.folder).kit):
        assert client.login(broker.settings, name, device.password) in LOGIN_REFUSED


def test_rsa_and_a_demo_on_the_embedded_broker(broker_factory):
    broker = broker_factory("embedded", rsa=True, demo=True)
    device = Device(broker, "lamp-1")
    assert server.sync(broker.settings, [device.account]) and device.login() == 0


@pytest.mark.mosquitto
def test_rsa_on_mosquitto(broker_factory):
    broker = broker_factory("mosquitto", rsa=True)
    device = Device(broker, "lamp-1")
    assert server.sync(broker.settings, [device.account]) and device.login() == 0


def test_messages_go_both_ways_at_qos_0_and_1(broker, pair):
    one, _ = pair
    with client.KitClient(broker.settings) as kit, one.online() as mqtt:
        kit.subscribe("limpet/#")
        for qos in (0, 1):
            assert one.subscribe(mqtt, "limpet/lamp-1/cmd/+", qos).value == qos
            publish(mqtt, "limpet/lamp-1/up/t", b"%d" % qos, qos)
            assert arrives(kit, "limpet/lamp-1/up/t") == b"%d" % qos
            kit.publish("limpet/lamp-1/cmd/led", b"on", qos)
            assert one.next() == ("limpet/lamp-1/cmd/led", b"on", False)
        many = [b"%d" % n for n in range(200)]
        for payload in many:
            mqtt.publish("limpet/lamp-1/up/n", payload, 1)
        assert [arrives(kit, "limpet/lamp-1/up/n") for _ in many] == many
        big = os.urandom(20000)
        publish(mqtt, "limpet/lamp-1/up/big", big)
        assert arrives(kit, "limpet/lamp-1/up/big") == big


def test_no_message_is_lost_while_others_subscribe(broker, pair):
    one, two = pair
    with contextlib.ExitStack() as stack:
        kits = [stack.enter_context(client.KitClient(broker.settings)) for _ in range(3)]
        for kit, topic_filter in zip(
            kits, ("limpet/lamp-1/up/+", "limpet/+/up/+", "limpet/#"), strict=True
        ):
            kit.subscribe(topic_filter)
        mqtt, other = stack.enter_context(one.online()), stack.enter_context(two.online())
        many = [b"%d" % n for n in range(300)]
        for number, payload in enumerate(many):
            mqtt.publish("limpet/lamp-1/up/n", payload, 1)
            other.subscribe(f"limpet/lamp-2/from/x{number}/+", 0)
        for kit in kits:
            assert [arrives(kit, "limpet/lamp-1/up/n") for _ in many] == many


@OTHERS
def test_a_device_cannot_read_or_write_what_is_not_its_own(broker, pair):
    one, two = pair
    with client.KitClient(broker.settings) as kit, one.online() as mqtt, two.online() as other:
        kit.subscribe("limpet/#")
        for topic_filter in ("#", "limpet/#", "limpet/+/cmd/+", "limpet/lamp-2/cmd/+", "+/+/+/+"):
            one.subscribe(mqtt, topic_filter)
        two.subscribe(other, "limpet/lamp-2/#")
        forbidden = (
            "limpet/lamp-2/up/t",
            "limpet/lamp-2/state",
            "limpet/lamp-2/cmd/led",
            "limpet/lamp-1/cmd/led",
            "limpet/lamp-2/kit/set",
            "limpet/lamp-2/kit/ack",
            "limpet/lamp-2/from/lamp-3/x",  # a forged sender
            "limpet/lamp-1/up/a/b",
            "limpet/time",
            "other",
        )
        for topic in forbidden:
            publish(mqtt, topic, b"forged", retain=True)
        publish(mqtt, "limpet/lamp-2/from/lamp-1/x", b"from me")
        assert kit.wait(lambda t, p: True, WAIT_S) == ("limpet/lamp-2/from/lamp-1/x", b"from me")
        assert kit.wait(lambda t, p: True, QUIET_S) is None
        assert two.next() == ("limpet/lamp-2/from/lamp-1/x", b"from me", False)
        assert two.next(QUIET_S) is None
        kit.publish("limpet/lamp-2/cmd/led", b"for two")
        kit.publish("limpet/lamp-2/kit/set", b"sealed", retain=True)
        kit.publish("limpet/time", b"now")
        assert one.next()[:2] == ("limpet/time", b"now")  # each of its filters may bring it again
        got = {one.next(QUIET_S) for _ in range(3)}
        assert got <= {("limpet/time", b"now", False), None}


@OTHERS
def test_retained_messages_reach_only_who_may_read_them(broker, pair):
    one, two = pair
    with client.KitClient(broker.settings) as kit:
        kit.publish("limpet/lamp-1/kit/set", b"box 1", retain=True)
        kit.publish("limpet/lamp-2/kit/set", b"box 2", retain=True)
        with one.online() as mqtt:
            # The kit's wide subscription must not bring a device what only the kit may read.
            kit.subscribe("limpet/#")
            publish(mqtt, "limpet/lamp-1/state", b"online", retain=True)
            assert one.next(QUIET_S) is None
            one.subscribe(mqtt, "limpet/#")
            assert one.next() == ("limpet/lamp-1/kit/set", b"box 1", True)
            assert one.next(QUIET_S) is None
        with two.online() as mqtt:
            assert two.next(QUIET_S) is None
            two.subscribe(mqtt, "limpet/lamp-2/kit/set")
            assert two.next() == ("limpet/lamp-2/kit/set", b"box 2", True)
        kit.publish("limpet/lamp-2/kit/set", b"", retain=True)
    with client.KitClient(broker.settings) as kit:
        kit.subscribe("limpet/#")
        kept = {kit.wait(lambda t, p: True, WAIT_S) for _ in range(2)}
        assert kept == {("limpet/lamp-1/state", b"online"), ("limpet/lamp-1/kit/set", b"box 1")}
        assert kit.wait(lambda t, p: True, QUIET_S) is None


def test_a_will_is_sent_when_the_link_breaks_and_kept(broker, pair):
    one, two = pair
    state = "limpet/lamp-1/state"
    with client.KitClient(broker.settings) as kit:
        kit.subscribe("limpet/#")
        with one.online(will=(state, b"offline", 1, True)) as mqtt:
            publish(mqtt, state, b"online", retain=True)
            assert arrives(kit, state) == b"online"
            break_link(mqtt)
            assert arrives(kit, state) == b"offline"
        with one.online(will=(state, b"offline", 1, True)):
            pass  # leaves in good order: no will
        assert arrives(kit, state, QUIET_S) is None
        with two.online(will=(state, b"forged", 1, True)) as mqtt:
            break_link(mqtt)
        assert arrives(kit, state, QUIET_S) is None
    with client.KitClient(broker.settings) as kit:
        kit.subscribe(state)
        assert arrives(kit, state) == b"offline"


def test_the_second_connection_of_an_account_ends_the_first(broker, pair):
    """Its will comes before the new connection's word, or never, so that the state is right in
    the end."""
    one, _ = pair
    state = "limpet/lamp-1/state"
    rabbitmq = broker.settings.kind == "rabbitmq"  # sends no will then; the client binds its id
    with client.KitClient(broker.settings) as kit:
        kit.subscribe("limpet/#")
        with one.online(will=(state, b"offline", 1, True)) as first:
            publish(first, state, b"online 1", retain=True)
            again = Device(broker, "lamp-1")
            again.account, again.password = one.account, one.password
            with again.online(client_id=None if rabbitmq else "somebody-else") as second:
                assert one.gone.wait(WAIT_S)
                publish(second, state, b"online 2", retain=True)
                will = [] if rabbitmq else [b"offline"]
                said = [arrives(kit, state) for _ in range(2 + len(will))]
                assert said == [b"online 1", *will, b"online 2"]
                assert arrives(kit, state, QUIET_S) is None


@OTHERS
def test_a_client_id_does_not_reach_another_session(broker, pair):
    one, two = pair
    with client.KitClient(broker.settings) as kit, one.online() as mqtt:
        one.subscribe(mqtt, "limpet/lamp-1/cmd/+")
        with two.online(client_id=one.account.name) as other:
            publish(other, "limpet/lamp-2/up/t", b"x")
            assert not one.gone.wait(QUIET_S)
            kit.publish("limpet/lamp-1/cmd/led", b"on")
            assert one.next() == ("limpet/lamp-1/cmd/led", b"on", False)
    # A wrong password under a right account must not disturb its session either.
    with one.online() as mqtt:
        assert one.login(accounts.draw_password("text")) == connect.NOT_AUTHORISED
        assert not one.gone.wait(QUIET_S)
        publish(mqtt, "limpet/lamp-1/up/t", b"still here")


@OTHERS
def test_what_waits_for_a_sleeping_device_is_not_for_another(broker, pair):
    """Somebody with an account of his own and the client id of a device that sleeps."""
    one, two = pair
    filters = ("limpet/lamp-1/cmd/+", "limpet/lamp-1/from/+/+")
    with one.online(clean=False) as mqtt:
        for topic_filter in filters:
            one.subscribe(mqtt, topic_filter)
    with client.KitClient(broker.settings) as kit:
        kit.publish("limpet/lamp-1/cmd/led", b"for one alone")
    for clean in (False, True):
        with two.online(client_id=one.account.name, clean=clean) as mqtt:
            for topic_filter in filters:
                two.subscribe(mqtt, topic_filter)
            assert two.next(QUIET_S) is None
    if broker.settings.kind == "mosquitto":  # the embedded broker keeps nothing for sleepers
        with one.online(clean=False):
            assert one.next() == ("limpet/lamp-1/cmd/led", b"for one alone", False)


@OTHERS
def test_devices_talk_to_each_other_and_the_sender_is_certain(broker, pair):
    """A message says in its topic whom it is from, and an answer goes back by that name."""
    one, two = pair
    three = Device(broker, "lamp-3")
    server.sync(broker.settings, [d.account for d in (one, two, three)])
    with one.online() as mqtt, two.online() as other, three.online() as third:
        one.subscribe(mqtt, "limpet/lamp-1/from/+/+")
        two.subscribe(other, "limpet/lamp-2/from/+/+")
        for topic_filter in ("limpet/+/from/+/+", "limpet/lamp-2/#", "#"):
            three.subscribe(third, topic_filter)
        publish(mqtt, "limpet/lamp-2/from/lamp-1/ask", b"how warm?")
        topic, payload, _ = two.next()
        assert (topic, payload) == ("limpet/lamp-2/from/lamp-1/ask", b"how warm?")
        publish(other, f"limpet/{topic.split('/')[3]}/from/lamp-2/answer", b"21.5")
        assert one.next()[:2] == ("limpet/lamp-1/from/lamp-2/answer", b"21.5")
        for forged in ("limpet/lamp-1/from/lamp-2/answer", "limpet/lamp-1/from/kit/answer"):
            publish(third, forged, b"99")
            publish(third, forged, b"99", retain=True)
        assert one.next(QUIET_S) is None
        assert three.next(QUIET_S) is None


@pytest.mark.parametrize(
    "topic", ["limpet/time", "limpet/lamp-1/from/lamp-3/x", "limpet/lamp-1/kit/set", "$SYS/x"]
)
def test_a_will_is_bound_by_the_acl_too(broker, pair, topic):
    _, two = pair
    with client.KitClient(broker.settings) as kit:
        kit.subscribe("limpet/#")
        with two.online(will=(topic, b"forged", 1, True)) as mqtt:
            break_link(mqtt)
        kit.publish("limpet/lamp-9/up/t", b"later")
        assert kit.wait(lambda t, p: True, WAIT_S) == ("limpet/lamp-9/up/t", b"later")
        assert arrives(kit, topic, QUIET_S) is None


def test_a_silent_client_is_noticed(broker, pair):
    one, _ = pair
    state = "limpet/lamp-1/state"
    will = connect.Will(state, b"offline", 0, True)
    hello = connect.Connect(one.account.name, one.password, "x", keepalive=1, will=will)
    with client.KitClient(broker.settings) as kit:
        kit.subscribe("limpet/#")
        raw = socket.create_connection((broker.settings.address, broker.settings.port))
        with client.context(broker.settings).wrap_socket(raw) as link:
            link.sendall(connect.encode(hello))
            assert link.recv(4) == connect.connack(0)
            link.sendall(b"\xc0\0")
            assert link.recv(2) == b"\xd0\0"
            assert arrives(kit, state, 20) == b"offline"  # Mosquitto looks every few seconds


def test_sync_lets_in_throws_out_and_leaves_the_rest_alone(broker, pair):
    one, two = pair
    three = Device(broker, "lamp-3")
    assert three.login() in LOGIN_REFUSED
    with client.KitClient(broker.settings) as kit, one.online() as mqtt, two.online():
        kit.subscribe("limpet/#")
        assert server.sync(broker.settings, [one.account, three.account])
        assert three.login() == 0
        assert two.gone.wait(WAIT_S)
        assert two.login() in LOGIN_REFUSED
        assert not one.gone.is_set()
        publish(mqtt, "limpet/lamp-1/up/t", b"undisturbed")
        assert arrives(kit, "limpet/lamp-1/up/t") == b"undisturbed"
        changed = Account(
            one.account.name, broker.settings.verifier(three.password), one.account.acl
        )
        assert server.sync(broker.settings, [changed, three.account])
        assert one.gone.wait(WAIT_S)
        assert one.login() in LOGIN_REFUSED
        assert one.login(three.password) == 0


def test_an_export_that_would_lock_the_fleet_out_is_refused(broker):
    fleet = [Device(broker, f"lamp-{number}") for number in range(4)]
    assert server.sync(broker.settings, [d.account for d in fleet])
    with pytest.raises(KitError) as e:
        server.sync(broker.settings, [])
    assert e.value.code == REFUSED
    assert all(d.login() == 0 for d in fleet)
    assert server.sync(broker.settings, [], force=True)
    assert all(d.login() in LOGIN_REFUSED for d in fleet)


def test_two_exports_at_once_come_one_after_the_other(broker):
    fleets = [[Device(broker, f"lamp-{n}-{k}") for n in range(3)] for k in range(4)]
    failures = []

    def sync(devices):
        try:
            assert server.sync(broker.settings, [d.account for d in devices], force=True)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=sync, args=(fleet,)) for fleet in fleets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    alive = [[d.login() == 0 for d in fleet] for fleet in fleets]
    assert sorted(map(sum, alive)) == [0, 0, 0, 3]  # one export won, whole
    exported = export.read(broker.settings.folder)
    assert len([n for n in exported if n.startswith("probe-")]) == 1
    assert not list(broker.settings.folder.glob(".passwords*"))


def test_killed_and_started_again_it_knows_everybody(broker, pair):
    one, two = pair
    with one.online():
        broker.kill()
        assert one.gone.wait(WAIT_S)
    assert not broker.running() and broker.pid() is None
    with pytest.raises(KitError, match=r"does not run|reset by peer"):
        one.login()
    # What is exported while it is down counts from its start.
    assert server.sync(broker.settings, [one.account]) is False
    broker.start()
    assert one.login() == 0 and two.login() in LOGIN_REFUSED


@OTHERS
def test_starting_and_stopping(broker):
    again = server.open_broker(settings.load(broker.settings.folder))
    assert again.running() and again.pid() == broker.pid()
    with pytest.raises(KitError, match="runs already") as e:
        again.start()
    assert e.value.code == NO_BROKER
    again.stop()  # it was not started by this object
    assert not again.running() and not broker.running()
    again.stop()
    assert again.reload() is False
    (broker.settings.folder / server.PID).write_text(f"{os.getpid()}\n")  # a number reused
    assert again.pid() is None and again.reload() is False and not again.running()


def test_everything_it_leaves_is_private(broker, pair):
    with pair[0].online():
        pass
    folder = broker.settings.folder
    broker.stop()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        mode = stat.S_IMODE(path.stat().st_mode)
        # Mosquitto's own database is made with its umask; the folder keeps everybody out.
        assert not mode & 0o177 or path.is_dir() or path.name == "mosquitto.db", path
    everything = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert pair[0].password.reveal() not in everything


@OTHERS
def test_a_taken_port_is_told_in_words(broker):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        folder = broker.settings.folder
        text = (folder / "broker.toml").read_text()
        broker.stop()
        (folder / "broker.toml").write_text(re.sub(r"port = \d+", f"port = {port}", text))
        with pytest.raises(KitError, match=f"Port {port} is taken by another program") as e:
            server.open_broker(settings.load(folder)).start()
        assert e.value.code == NO_BROKER
        assert not server.open_broker(settings.load(folder)).running()


@OTHERS
def test_a_broker_that_cannot_start_says_why(broker):
    broker.stop()
    (broker.settings.folder / "server.key").write_text("nonsense")
    with pytest.raises(KitError, match=r"did not come up: it ended with code .* It said: ") as e:
        broker.start()
    assert e.value.code == NO_BROKER and not broker.running()


def test_ctrl_c_in_the_midst_of_a_start_leaves_no_broker_behind(broker_factory, monkeypatch):
    """Python forgets a child whose start is interrupted; it held the broker's lock for ever."""
    broker = broker_factory("embedded", start=False)
    spawn = broker._spawn

    def interrupted(*arguments):
        child = spawn(*arguments)
        signal.raise_signal(signal.SIGINT)
        return child

    monkeypatch.setattr(broker, "_spawn", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            broker.start()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not broker.running()
    monkeypatch.setattr(broker, "_spawn", spawn)
    broker.start()
    (broker.settings.folder / server.PID).write_text("")  # the kit was killed, not interrupted
    for ask in (broker.stop, broker.reload, server.open_broker(broker.settings).pid):
        with pytest.raises(KitError, match="lsof names it"):
            ask()
    broker._child.kill()


@OTHERS
def test_strangers_cannot_harm_it_and_leave_one_line_each(broker, pair):
    """Garbage before and after TLS, half a CONNECT, a huge length, wrong versions."""
    one, _ = pair
    address = (broker.settings.address, broker.settings.port)
    log = broker.settings.folder / server.LOG
    before = log.stat().st_size
    with one.online() as mqtt:
        for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(300)):
            # Mosquitto may reset the link while we still talk.
            with socket.create_connection(address, 5) as raw, contextlib.suppress(OSError):
                raw.sendall(garbage)
                raw.shutdown(socket.SHUT_WR)
                raw.recv(100)
        refused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # knows no anchor: ends the handshake
        with socket.create_connection(address, 5) as raw, pytest.raises(ssl.SSLError):
            refused.wrap_socket(raw, server_hostname="localhost")
        good = connect.encode(connect.Connect("x", Secret(b"y"), "x"))
        for packet, answer in (
            (b"", b""),
            (b"\x10", b""),
            (b"\x10\xff\xff\xff\x7f", b""),
            (good[:-1], b""),
            (b"\x30\x03\0\1a", b""),
            (connect.encode(connect.Connect("a\nb\x1b[31m", Secret(b"y"))), b""),
            (good, connect.connack(5)),
            (connect.encode(connect.Connect(None, None, "x")), connect.connack(5)),
        ):
            raw = socket.create_connection(address, 5)
            with client.context(broker.settings).wrap_socket(raw) as link:
                link.sendall(packet)
                if packet in (b"", b"\x10", good[:-1]):
                    continue  # leave in the middle
                got = b""
                with contextlib.suppress(OSError):
                    while part := link.recv(100):
                        got += part
                assert got == answer, packet
        publish(mqtt, "limpet/lamp-1/up/t", b"still served")
        assert one.login() == 0
    time.sleep(0.05)
    said = log.read_bytes()[before:].decode()
    assert "Traceback" not in said and "\x1b" not in said
    assert len(said.splitlines()) < 60


def test_the_kit_has_several_sessions_and_says_when_there_are_no_more(broker):
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(client.KitClient(broker.settings))
            for _ in range(settings.KIT_SESSIONS)
        ]
        sessions[0].subscribe("limpet/#")
        for number, session in enumerate(sessions):
            session.publish("limpet/x/up/n", b"%d" % number)
        got = {sessions[0].wait(lambda t, p: True, WAIT_S)[1] for _ in sessions}
        assert got == {b"%d" % number for number in range(len(sessions))}
        with pytest.raises(KitError, match="sessions of the kit are open"):
            stack.enter_context(client.KitClient(broker.settings))
    with client.KitClient(broker.settings):
        pass


@OTHERS
def test_the_kit_comes_back_with_its_subscriptions(broker):
    with client.KitClient(broker.settings) as kit:
        kit.subscribe("limpet/#")
        broker.kill()
        broker.start()
        end = time.monotonic() + WAIT_S
        with client.KitClient(broker.settings) as other:
            while arrives(kit, "limpet/x/up/n", 0.2) is None and time.monotonic() < end:
                other.publish("limpet/x/up/n", b"again")
        assert time.monotonic() < end


def test_messages_wait_for_who_asks(broker):
    with client.KitClient(broker.settings) as kit:
        kit.subscribe("limpet/#")
        for letter in (b"a", b"b", b"c"):
            kit.publish("limpet/x/up/n", letter)
        assert kit.wait(lambda t, p: p == b"b", WAIT_S)[1] == b"b"
        assert kit.wait(lambda t, p: True, WAIT_S)[1] == b"a"
        assert kit.wait(lambda t, p: p == b"b", 0.05) is None
        assert kit.wait(lambda t, p: True, WAIT_S)[1] == b"c"


@OTHERS
def test_the_kit_trusts_only_its_own_broker(broker, broker_factory):
    """Another CA's broker on the port, and one whose certificate is for another name."""
    other = broker_factory("embedded", start=False).settings
    port = broker.settings.port
    wrong_ca = dataclasses.replace(other, port=port, kit_port=port)
    with pytest.raises(KitError, match="is not the one of"), client.KitClient(wrong_ca):
        pass
    ours = broker.settings
    renamed = dataclasses.replace(ours, names=("other.local",))
    with pytest.raises(KitError, match=r"is not the one of .*other\.local") as e:
        client.login(renamed, "x", Secret(b"y"))
    assert e.value.code == NO_BROKER
    with pytest.raises(KitError, match="refuses the kit's account"):
        ours.kit_password_file.write_bytes(b"wrong\n")
        with client.KitClient(ours):
            pass


def test_nobody_listens(broker_factory):
    broker = broker_factory("embedded", start=False)
    with pytest.raises(KitError, match=r"does not run\. Start it with: limpet broker run"):
        client.login(broker.settings, "x", Secret(b"y"))
    with (
        pytest.raises(KitError, match=r"does not run|reset by peer"),
        client.KitClient(broker.settings),
    ):
        pass

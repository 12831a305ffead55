"""Which servers and which anchor a device is given."""

import secrets
from collections import Counter
from types import SimpleNamespace

import pytest
from limpet_kit import ca, destination, protocol
from limpet_kit.broker import settings
from limpet_kit.errors import NO_BROKER, REFUSED, KitError

VAULT = bytes(16)
NODES = tuple(f"node-{number}.local:8883" for number in range(3))


def cluster(servers, given=False, hosts=()):
    names = ("broker.local",)
    return SimpleNamespace(servers=servers, given=given, names=names, hosts=hosts)


def test_the_one_server_and_the_ca_of_a_broker(tmp_path):
    made = settings.create(tmp_path / "a", ["broker.local"], 18883, "embedded")
    anchor = ca.anchor_der(made.folder)
    assert made.servers == ("broker.local:18883",)
    for simulated, server in ((False, b"broker.local:18883"), (True, b"127.0.0.1:18883")):
        wanted = [(protocol.ANCHOR, anchor), (protocol.SERVER, server)]
        assert destination.fields(made, VAULT, simulated) == wanted


def test_a_demo_and_a_loopback_broker_are_for_simulated_boards_only(tmp_path):
    demo = settings.create(tmp_path / "a", ["broker.local"], kind="embedded", demo=True)
    with pytest.raises(KitError, match="demo's") as e:
        destination.fields(demo, VAULT, simulated=False)
    assert e.value.code == REFUSED and destination.fields(demo, VAULT, simulated=True)
    loopback = settings.create(tmp_path / "b", ["localhost"], kind="embedded")
    with pytest.raises(KitError, match="this machine only") as e:
        destination.fields(loopback, VAULT, simulated=False)
    assert e.value.code == NO_BROKER


def test_each_device_has_all_servers_and_begins_with_another():
    first = Counter()
    for _ in range(300):
        found = destination.servers(cluster(NODES), secrets.token_bytes(16), simulated=False)
        assert sorted(found) == list(NODES)
        first[found[0]] += 1
    assert all(first[node] > 50 for node in NODES)


def test_of_more_than_fit_a_device_has_four():
    many = tuple(f"node-{number}.local:8883" for number in range(6))
    found = destination.servers(cluster(many), (5).to_bytes(4, "big"), simulated=False)
    assert found == [many[5], *many[:3]]


def test_a_simulated_board_dials_this_machine():
    here = ("broker.local:1", "broker.local:2", "node.local:2")
    assert destination.servers(cluster(here), VAULT, True) == ["127.0.0.1:1", "127.0.0.1:2"]
    assert destination.servers(cluster(NODES, given=True), VAULT, True) == list(NODES)
    assert destination.servers(cluster(NODES, hosts=NODES), VAULT, True) == list(NODES)

"""Of the goals of `make bench`, those that are no matter of speed; ours and the floor alone."""

import pytest
from bench import compare
from rig.broker import require

PAYLOADS = 200


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    require("mosquitto")
    made = compare.Rig(tmp_path_factory.mktemp("bench"), ["floor", "limpet"])
    yield made
    made.close()


def wire(rig, client, task, way, count):
    relay = rig.relays[way]
    relay.reset()
    assert rig.run(client, task, way, count) is not None, rig.why
    return relay.count()


def test_a_publish_is_one_record_of_86_bytes(rig):
    few, many = (wire(rig, "limpet", "plain", "near", count) for count in (100, 100 + PAYLOADS))
    assert many.records - few.records == PAYLOADS
    assert many.up - few.up == 86 * PAYLOADS


def test_a_publish_leaves_nothing_to_collect_and_a_message_received_little(rig):
    assert rig.run("limpet", "qos0", count=200)["bytes"] == 0

    def burst(topic, count):
        with compare.Sender(rig.broker.settings) as sender:
            sender.burst(topic, count)

    assert rig.run("limpet", "receive", count=250, during=burst)["bytes"] <= 100


def test_a_wake_cycle_is_a_record_shorter_than_the_floors(rig):
    floor = wire(rig, "floor", "wake", "near", 1)
    assert wire(rig, "limpet", "wake", "near", 1).up <= floor.up - 29


def test_packet_ids_wrap(rig):
    assert rig.run("limpet", "many", count=70_000) is not None, rig.why


def test_goals_hold_or_not():
    assert compare.Goal("at most", "qos0_us", 9, reached=8.9).holds
    assert not compare.Goal("at most", "qos0_us", 9, reached=9.1).holds
    assert compare.Goal("at least", "qos1_rate", 9, True, reached=9.1).holds
    assert not compare.Goal("not measured", "qos1_rate", 9, True).holds

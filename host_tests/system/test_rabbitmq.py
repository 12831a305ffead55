"""What RabbitMQ promises in its own way, one node of it; several: test_cluster.py."""

import contextlib
import queue

import pytest
from limpet_kit.broker import rabbitmq_api, server
from limpet_kit.broker.client import KitClient
from rig.peer import QUIET_S, WAIT_S, Device

pytestmark = [pytest.mark.xdist_group("rabbitmq"), pytest.mark.timeout(600)]


@pytest.fixture
def pair(rabbitmq_node):
    devices = Device(rabbitmq_node, "lamp-1"), Device(rabbitmq_node, "lamp-2")
    assert server.sync(rabbitmq_node.settings, [d.account for d in devices])
    return devices


@pytest.mark.parametrize("clean", [False, True])
def test_what_waits_for_a_sleeping_device_is_neither_got_nor_lost_by_another(
    rabbitmq_node, pair, clean
):
    """Somebody with an account of his own and the client id of a device that sleeps."""
    one, two = pair
    topic = "limpet/lamp-1/cmd/led"
    with one.online(clean=False) as mqtt:
        one.subscribe(mqtt, "limpet/lamp-1/cmd/+")
    with KitClient(rabbitmq_node.settings) as kit:
        kit.publish(topic, b"for one alone")
    for wanted in ("limpet/lamp-1/cmd/+", "limpet/lamp-2/cmd/+"):
        with (
            contextlib.suppress(AssertionError, queue.Empty, OSError),
            two.online(client_id=one.account.name, clean=clean) as mqtt,
        ):
            mqtt.subscribe(wanted, 1)
            assert two.next(QUIET_S) is None
            mqtt.disconnect()
    assert two.messages.empty()
    with one.online(clean=False):
        assert one.next(WAIT_S) == (topic, b"for one alone", False)


def test_nobody_is_there_but_the_kit_and_its_devices(rabbitmq_node, pair):
    """Above all no guest, and the kit's administrator cannot speak MQTT."""
    settings = rabbitmq_node.settings
    known = {*settings.kit_accounts, *(d.account.name for d in pair)}
    with rabbitmq_api.Api(settings) as api:
        users = {user["name"]: user["tags"] for user in api.get("users")}
        rights = {(one["user"], one["vhost"]) for one in api.get("permissions")}
    assert {name for name in users if not name.startswith("probe-")} == {
        *known,
        settings.administrator,
    }
    assert [name for name, tags in users.items() if tags] == [settings.administrator]
    assert settings.administrator not in {user for user, _ in rights}

"""Real brokers for tests; the plug-in of the kit makes them."""

import os
import subprocess

import pytest
from limpet_kit.broker import accounts, client, export, mosquitto, rabbitmq, server, settings
from limpet_kit.broker.server import free_port

__all__ = [
    "ALL_KINDS",
    "KINDS",
    "broker_factory",
    "free_port",
    "rabbitmq_node",
    "rabbitmq_session",
    "require",
]

KINDS = (pytest.param("mosquitto", marks=pytest.mark.mosquitto), "embedded")
# RabbitMQ takes seconds to start: its tests share a node, and so a worker. What every run has
# of it is in test_rabbitmq.py and test_cluster*.py.
RABBITMQ = pytest.param("rabbitmq", marks=[pytest.mark.xdist_group("rabbitmq"), pytest.mark.slow])
ALL_KINDS = (*KINDS, RABBITMQ)
PROGRAMS = {"mosquitto": (mosquitto, "mosquitto"), "rabbitmq": (rabbitmq, "rabbitmq-server")}
REFUSED = (4, 5)  # CONNACK of a wrong password: RabbitMQ's, and everybody else's


def require(kind: str) -> None:
    """Skip the test, loudly, when this broker is missing; fail it when CI must have all."""
    program, package = PROGRAMS.get(kind, (None, ""))
    if program and program.find() is None:
        words = f"{kind} is NOT INSTALLED, so it was not tested (apt install {package})"
        if os.environ.get("LIMPET_REQUIRE_ALL") == "1":
            pytest.fail(words)
        pytest.skip(words)


@pytest.fixture(scope="session")
def rabbitmq_session(tmp_path_factory):
    """A node, not started. In the end Erlang's name server goes too, if nobody else needs it."""
    require("rabbitmq")
    folder, port = tmp_path_factory.mktemp("rabbitmq") / "broker", free_port(count=4)
    made = settings.create(folder, ["localhost"], port, "rabbitmq", hosts=["127.0.0.1"])
    broker = server.open_broker(made)
    yield broker
    broker.kill()
    subprocess.run(["epmd", "-kill"], capture_output=True)


@pytest.fixture
def rabbitmq_node(rabbitmq_session):
    """A running RabbitMQ that knows nobody and retains nothing; the test may stop it."""
    broker = rabbitmq_session
    if not broker.running():
        broker.start()
    yield broker
    if not broker.running():
        broker.start()
    lines = export.read_acl(broker.settings.folder).values()
    with client.KitClient(broker.settings) as kit:
        for device in {accounts.device_of(acl) for acl in lines} - {""}:
            kit.clear(device, 5)
    server.sync(broker.settings, [], force=True)


@pytest.fixture
def broker_factory(request, broker_factory):
    """The plug-in's, for which a kind must be there; of RabbitMQ it is one that runs already.

    Without mosquitto a test that asks for it is skipped, or fails when LIMPET_REQUIRE_ALL=1.
    """

    def factory(kind="embedded", *arguments, **options):
        require(kind)
        if kind == "rabbitmq":
            assert not arguments and not options, "it is the same one for all tests"
            return request.getfixturevalue("rabbitmq_node")
        return broker_factory(kind, *arguments, **options)

    return factory

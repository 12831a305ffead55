"""Real brokers for tests: each on a free loopback port, in the test's own folder, for its life."""

import os

import pytest
from limpet_kit.broker import mosquitto, server, settings
from limpet_kit.broker.server import free_port
from limpet_kit.errors import KitError

__all__ = ["KINDS", "broker_factory", "free_port", "require"]

KINDS = (pytest.param("mosquitto", marks=pytest.mark.mosquitto), "embedded")


def require(kind: str) -> None:
    """Skip the test, loudly, when this broker is missing; fail it when CI must have all."""
    if kind == "mosquitto" and mosquitto.find() is None:
        words = "mosquitto is NOT INSTALLED, so it was not tested (apt install mosquitto)"
        if os.environ.get("LIMPET_REQUIRE_ALL") == "1":
            pytest.fail(words)
        pytest.skip(words)


@pytest.fixture
def broker_factory(tmp_path):
    """`broker_factory(kind, names=["localhost"], rsa=False, demo=False, start=True)` -> Broker.

    Without mosquitto a test that asks for it is skipped, or fails when LIMPET_REQUIRE_ALL=1.
    """
    made = []

    def factory(kind="embedded", names=("localhost",), start=True, **options):
        require(kind)
        for attempt in range(3):
            folder = tmp_path / f"broker-{len(made)}-{attempt}"
            chosen = settings.create(folder, list(names), free_port(), kind, **options)
            broker = server.open_broker(chosen)
            if not start:
                break
            try:
                broker.start()
                break
            except KitError as e:
                if "taken" not in str(e) or attempt == 2:  # another test was quicker
                    raise
        made.append(broker)
        return broker

    yield factory
    for broker in made:
        broker.kill()

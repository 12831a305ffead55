"""Real brokers for tests; the plug-in of the kit makes them."""

import os

import pytest
from limpet_kit.broker import mosquitto
from limpet_kit.broker.server import free_port

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
def broker_factory(broker_factory):
    """The plug-in's, for which a kind must be there.

    Without mosquitto a test that asks for it is skipped, or fails when LIMPET_REQUIRE_ALL=1.
    """

    def factory(kind="embedded", *arguments, **options):
        require(kind)
        return broker_factory(kind, *arguments, **options)

    return factory

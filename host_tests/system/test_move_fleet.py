"""`limpet broker move` of a fleet and back, while kit, brokers and boards are killed at random."""

import pytest

# How many boards, and how often kit and brokers are killed a way.
FLEETS = [
    pytest.param(4, 1, id="4 boards"),
    pytest.param(20, 3, id="20 boards", marks=pytest.mark.slow),
]


@pytest.mark.mosquitto
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count, kills", FLEETS)
def test_from_one_mosquitto_to_another(count, kills, there_and_back, broker_factory):
    there_and_back(broker_factory("mosquitto"), broker_factory("mosquitto"), count, kills)

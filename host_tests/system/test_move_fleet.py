"""`limpet broker move` of a fleet and back, while kit, brokers and boards are killed at random."""

import time

import pytest
from conftest import MEASURED
from limpet_kit.ledger import Ledger
from rig import fleet
from rig.refusals import FALL_BACK_S, Refusals

# How many boards, and how often kit and brokers are killed a way.
FLEETS = [
    pytest.param(4, 1, id="4 boards"),
    pytest.param(20, 3, id="20 boards", marks=pytest.mark.slow),
]


class OneOf:
    """A cluster of which one node at a time is killed."""

    def __init__(self, cluster):
        self.settings = cluster.settings
        self._cluster = cluster
        self._next = 0

    def kill(self):
        self._cluster.kill(self._next)

    def start(self):
        self._cluster.start(self._next)
        self._next = (self._next + 1) % len(self.settings.hosts)


@pytest.fixture
def there_and_back(sim_factory, record_property):
    """`there_and_back(here, there, count, kills)`: so many boards; none is lost."""

    def run(here, there, count, kills):
        made = fleet.enrol(sim_factory, here.settings, count)
        boards = fleet.named(made)
        took = []
        with Refusals(made) as refusals:
            for source, target in ((here, there), (there, here)):
                began = time.monotonic()
                fleet.move(boards, source, target, kills)
                took.append(f"{time.monotonic() - began:.0f} s")
        with Ledger() as ledger:
            drawn = len(ledger.changes())
        record_property(
            MEASURED,
            f"fleet of {count}: moved from {here.settings.kind} to {there.settings.kind} in "
            f"{took[0]}, back in {took[1]}; each way {kills} kits, {kills} brokers, "
            f"{count // 2 if kills else 0} boards killed; {drawn} changes drawn, {2 * count} "
            f"needed; {refusals.count} refusals, longest {refusals.longest:.1f} s",
        )
        assert refusals.online >= count, "the boards were not heard: this shows nothing"
        assert refusals.longest < FALL_BACK_S

    return run


@pytest.mark.mosquitto
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count, kills", FLEETS)
def test_from_one_mosquitto_to_another(count, kills, there_and_back, broker_factory):
    there_and_back(broker_factory("mosquitto"), broker_factory("mosquitto"), count, kills)


@pytest.mark.slow
@pytest.mark.mosquitto
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("cluster")
def test_from_mosquitto_to_a_cluster(there_and_back, broker_factory, cluster):
    there_and_back(broker_factory("mosquitto"), OneOf(cluster), 20, 3)

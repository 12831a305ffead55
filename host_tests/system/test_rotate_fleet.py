"""`limpet rotate --all` on a fleet, while kit, broker and boards are killed at random."""

import random
import subprocess
import time

import pytest
from conftest import MEASURED
from limpet_kit.broker import accounts, export
from limpet_kit.errors import OK
from limpet_kit.ledger import APPLIED, Ledger
from rig import fleet
from rig.refusals import FALL_BACK_S, Refusals

FLEET = 50
RUNS = 6


@pytest.mark.slow
@pytest.mark.mosquitto
@pytest.mark.timeout(600)
def test_a_fleet_is_rotated_through_random_kills(sim_factory, broker_factory, record_property):
    broker = broker_factory("mosquitto")
    boards = fleet.enrol(sim_factory, broker.settings, FLEET)
    rotate = ["rotate", "--all", "--wait", 30, "--broker", broker.settings.folder]
    victims = random.sample(boards, FLEET // 4)
    began = time.monotonic()
    with Refusals(boards) as refusals:
        for number in range(3):  # the kit dies three times, the broker once, boards all the while
            with fleet.interrupted(rotate):
                fleet.kill(victims[number::3], 0.5)
                if number == 1:
                    broker.kill()
                    broker.start()
        fleet.start(victims)
        codes = []
        while OK not in codes and len(codes) < RUNS:
            codes.append(subprocess.run(fleet.command(*rotate), capture_output=True).returncode)
        with Ledger() as ledger:
            units = ledger.units()
            last = {ledger.changes(unit.vault)[-1].state for unit in units}
            used = {ledger.account(unit.vault) for unit in units}
            alerts = [unit.alert for unit in units if unit.alert]
        missing = fleet.silent(broker.settings, [unit.name for unit in units])
    record_property(
        MEASURED,
        f"fleet of {FLEET}: rotated in {time.monotonic() - began:.0f} s, {len(victims)} boards, "
        f"3 kits and 1 broker killed; {refusals.count} refusals, longest {refusals.longest:.1f} s",
    )
    prefixes = (accounts.KIT_PREFIX, accounts.PROBE_PREFIX)
    known = export.read(broker.settings.folder)
    assert (codes[-1], last, len(units)) == (OK, {APPLIED}, FLEET)
    assert not missing and not alerts
    assert {name for name in known if not name.startswith(prefixes)} == used
    assert len(used) == FLEET
    assert refusals.online >= FLEET, "the boards were not heard: this shows nothing"
    assert refusals.longest < FALL_BACK_S

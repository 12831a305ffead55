"""`limpet broker move` of a fleet and back, while kit, brokers and boards are killed at random."""

import json
import random
import subprocess
import time

import pytest
from conftest import MEASURED
from limpet_kit.broker import accounts
from limpet_kit.broker.client import KitClient
from limpet_kit.errors import OK
from limpet_kit.ledger import Ledger
from rig import fleet
from rig.refusals import FALL_BACK_S, Refusals

RUNS = 8
WAIT_S = 20

# How many boards, from which kind of broker to which and back, how often the kit is killed a way.
FLEETS = [
    pytest.param(4, "mosquitto", "mosquitto", 1, id="4 boards"),
    pytest.param(20, "mosquitto", "mosquitto", 3, id="20 boards", marks=pytest.mark.slow),
]


def begun(kit):
    """Wait until the kit at work has drawn its first change."""
    with Ledger() as ledger:
        before = len(ledger.changes())
        end = time.monotonic() + 30
        while len(ledger.changes()) == before and kit.poll() is None and time.monotonic() < end:
            time.sleep(0.02)


def move(boards, arguments):
    """The same command until nothing is left to do; its last exit code.

    A board that was at the new broker while that was dead tries it again after ten minutes, or
    when it is reset; here it is reset.
    """
    for _ in range(RUNS):
        done = subprocess.run(fleet.command(*arguments, "--json"), capture_output=True, text=True)
        if done.returncode == OK:
            break
        said = done.stdout.strip()
        late = [boards[name] for name in json.loads(said)["waiting"]] if said else []
        fleet.kill(late, 0)
        fleet.start(late)
    return done.returncode, done.stderr


@pytest.mark.mosquitto
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count, kind, other, kills", FLEETS)
def test_a_fleet_moves_and_comes_back_through_random_kills(
    count, kind, other, kills, sim_factory, broker_factory, record_property
):
    brokers = [broker_factory(kind), broker_factory(other)]
    made = fleet.enrol(sim_factory, brokers[0].settings, count)
    with Ledger() as ledger:
        boards = dict(zip((unit.name for unit in ledger.units()), made, strict=True))
    words = []
    with Refusals(made) as refusals:
        for _ in ("there", "back"):
            began = time.monotonic()
            source, target = brokers
            arguments = "broker", "move", source.settings.folder, target.settings.folder
            arguments = *arguments, "--wait", WAIT_S
            victims = random.sample(made, count // 2)
            for number in range(kills):
                with fleet.interrupted(arguments) as kit:
                    if number == 0:
                        begun(kit)
                    time.sleep(random.random() * 2)
                    fleet.kill(victims[number::kills], 0.5)
                    broker = random.choice(brokers)
                    broker.kill()
                    broker.start()
            fleet.start(victims)
            code, why = move(boards, arguments)
            assert code == OK, why
            with Ledger() as ledger:
                units = ledger.units()
                drawn = len(ledger.changes())
                used = {ledger.account(unit.vault) for unit in units}
            assert {unit.broker for unit in units} == {target.settings.kit}
            assert not fleet.silent(target.settings, boards)
            assert device_accounts(target) == used and len(used) == count
            assert not device_accounts(source)
            with KitClient(source.settings) as kit:
                states = kit.retained("limpet/+/state", 10)
            assert not [topic for topic, payload in states.items() if payload]
            words.append(f"{time.monotonic() - began:.0f} s")
            brokers.reverse()
    record_property(
        MEASURED,
        f"fleet of {count}: moved from {kind} to {other} in {words[0]}, back in {words[1]}; each "
        f"way {kills} kits, {kills} brokers, {count // 2} boards killed; {drawn} changes drawn, "
        f"{2 * count} needed; {refusals.count} refusals, longest {refusals.longest:.1f} s",
    )
    assert refusals.online >= count, "the boards were not heard: this shows nothing"
    assert refusals.longest < FALL_BACK_S


def device_accounts(broker):
    return {name for name in accounts.read(broker.settings.folder) if accounts.is_devices(name)}

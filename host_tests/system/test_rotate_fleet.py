"""`limpet rotate --all` on a fleet, while kit, broker and boards are killed at random."""

import random
import secrets
import subprocess
import sys
import time

import pytest
from conftest import MEASURED
from limpet_kit import bringup, sim
from limpet_kit.broker import accounts
from limpet_kit.broker.client import KitClient
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.errors import OK
from limpet_kit.ledger import APPLIED, Ledger
from limpet_kit.secret import Secret
from limpet_kit.wifi import Network
from rig.refusals import FALL_BACK_S, Refusals

FLEET = 50
RUNS = 6
ONLINE_S = 90.0  # for the last one: the broker was killed, and waits are spread


def silent(settings, names):
    """The devices that do not answer a ping within the time."""
    nonce = secrets.token_hex(8).encode()
    missing = set(names)

    def collect(topic, payload):
        if payload == nonce and "/up/" in topic:
            missing.discard(topic.split("/")[1])
        return not missing

    with KitClient(settings) as kit:
        kit.subscribe("limpet/+/up/ping")
        end = time.monotonic() + ONLINE_S
        while missing and time.monotonic() < end:
            for name in sorted(missing):
                kit.publish(f"limpet/{name}/cmd/ping", nonce)
            kit.wait(collect, 2)
    return missing


@pytest.mark.slow
@pytest.mark.mosquitto
@pytest.mark.timeout(600)
def test_a_fleet_is_rotated_through_random_kills(sim_factory, broker_factory, record_property):
    broker = broker_factory("mosquitto")
    plan = Plan(networks=lambda: [Network(b"home", Secret(b"a key of home"))])
    boards = []
    for _ in range(FLEET):
        boards.append(sim_factory())
        port = f"sim:{boards[-1].name}"
        bringup.bring_up(port, broker.settings, plan, Console(), lambda *_: None, reading_s=0)
    rotate = [sys.executable, "-m", "limpet_kit", "rotate", "--all", "--wait", "30"]
    rotate += ["--broker", str(broker.settings.folder)]
    chance = random.Random()
    victims = chance.sample(boards, FLEET // 4)
    began = time.monotonic()
    with Refusals(boards) as refusals:
        for number in range(3):  # the kit dies three times, the broker once, boards all the while
            kit = subprocess.Popen(rotate, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for board in victims[number::3]:
                time.sleep(chance.random() / 2)
                board.kill()
            if number == 1:
                broker.kill()
                broker.start()
            kit.kill()
            kit.wait()
        for board in victims:
            sim.start(board.name, board.board)
        codes = []
        while OK not in codes and len(codes) < RUNS:
            codes.append(subprocess.run(rotate, capture_output=True).returncode)
        with Ledger() as ledger:
            units = ledger.units()
            last = {ledger.changes(unit.vault)[-1].state for unit in units}
            used = {ledger.account(unit.vault) for unit in units}
            alerts = [unit.alert for unit in units if unit.alert]
        missing = silent(broker.settings, [unit.name for unit in units])
    record_property(
        MEASURED,
        f"fleet of {FLEET}: rotated in {time.monotonic() - began:.0f} s, {len(victims)} boards, "
        f"3 kits and 1 broker killed; {refusals.count} refusals, longest {refusals.longest:.1f} s",
    )
    prefixes = (accounts.KIT_PREFIX, accounts.PROBE_PREFIX)
    known = accounts.read(broker.settings.folder)
    assert (codes[-1], last, len(units)) == (OK, {APPLIED}, FLEET)
    assert not missing and not alerts
    assert {name for name in known if not name.startswith(prefixes)} == used
    assert len(used) == FLEET
    assert refusals.online >= FLEET, "the boards were not heard: this shows nothing"
    assert refusals.longest < FALL_BACK_S

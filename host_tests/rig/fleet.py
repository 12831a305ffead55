"""Many boards at one broker: enrolled, killed with what is around them, asked who is there."""

import contextlib
import json
import random
import secrets
import subprocess
import sys
import time

import pytest
from limpet_kit import bringup, sim
from limpet_kit.broker import accounts, export
from limpet_kit.broker.client import KitClient
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.errors import OK
from limpet_kit.ledger import Ledger
from limpet_kit.secret import Secret
from limpet_kit.wifi import Network
from rig.refusals import FALL_BACK_S, Refusals

__all__ = ["there_and_back"]

RUNS = 8  # of the same command, until nothing is left to do
WAIT_S = 20
ONLINE_S = 150.0  # for the last one: the broker was killed, and waits are spread


def enrol(sim_factory, settings, count):
    """New boards that are online at a broker."""
    plan = Plan(networks=lambda: [Network(b"home", Secret(b"a key of home"))])
    boards = []
    for _ in range(count):
        boards.append(sim_factory())
        port = f"sim:{boards[-1].name}"
        bringup.bring_up(port, settings, plan, Console(), lambda *_: None, reading_s=0)
    return boards


def command(*arguments):
    """A command line of the kit in a process of its own."""
    return [sys.executable, "-m", "limpet_kit", *map(str, arguments)]


@contextlib.contextmanager
def interrupted(arguments):
    """The kit at work in a process that is killed at the end."""
    quiet = subprocess.DEVNULL
    kit = subprocess.Popen(command(*arguments), stdout=quiet, stderr=quiet)
    try:
        yield kit
    finally:
        kit.kill()
        kit.wait()


def kill(boards, within_s):
    """Cut the power of these, one after the other at random moments of each `within_s`."""
    for board in boards:
        time.sleep(random.random() * within_s)
        board.kill()


def start(boards):
    """Power for those that have none."""
    for board in boards:
        sim.start(board.name, board.board)


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


def move(boards, source, target, kills=0):
    """`limpet broker move` of all `boards` while kit, brokers and half of the boards are killed
    `kills` times; asserts that nobody is lost. `boards` are by name of their unit."""
    arguments = "broker", "move", source.settings.folder, target.settings.folder, "--wait", WAIT_S
    victims = random.sample([*boards.values()], len(boards) // 2 if kills else 0)
    for number in range(kills):
        with interrupted(arguments) as kit:
            if number == 0:
                _begun(kit)
            time.sleep(random.random() * 2)
            kill(victims[number::kills], 0.5)
            broker = random.choice([source, target])
            broker.kill()
            broker.start()
    start(victims)
    code, why = _finish(boards, arguments)
    assert code == OK, why
    with Ledger() as ledger:
        units = [ledger.named(name) for name in boards]
        used = {ledger.account(unit.vault) for unit in units}
    assert {unit.broker for unit in units} == {target.settings.kit}
    assert not silent(target.settings, boards)
    assert _device_accounts(target) == used and len(used) == len(boards)
    assert not _device_accounts(source)
    with KitClient(source.settings) as kit:
        states = kit.retained("limpet/+/state", 10, also=boards)
    assert not [topic for topic, payload in states.items() if payload]


@pytest.fixture
def there_and_back(sim_factory, record_property):
    """`there_and_back(here, there, count, kills)`: so many boards; none is lost."""

    def run(here, there, count, kills):
        made = enrol(sim_factory, here.settings, count)
        boards = named(made)
        took = []
        with Refusals(made) as refusals:
            for source, target in ((here, there), (there, here)):
                began = time.monotonic()
                move(boards, source, target, kills)
                took.append(f"{time.monotonic() - began:.0f} s")
        with Ledger() as ledger:
            drawn = len(ledger.changes())
        record_property(
            "measured",
            f"fleet of {count}: moved from {here.settings.kind} to {there.settings.kind} in "
            f"{took[0]}, back in {took[1]}; each way {kills} kits, {kills} brokers, "
            f"{count // 2 if kills else 0} boards killed; {drawn} changes drawn, {2 * count} "
            f"needed; {refusals.count} refusals, longest {refusals.longest:.1f} s",
        )
        assert refusals.online >= count, "the boards were not heard: this shows nothing"
        assert refusals.longest < FALL_BACK_S

    return run


def named(boards):
    """Boards in the order in which they were enrolled, by name of their unit."""
    with Ledger() as ledger:
        return dict(zip((unit.name for unit in ledger.units()), boards, strict=True))


def _begun(kit):
    """Wait until the kit at work has drawn its first change."""
    with Ledger() as ledger:
        before = len(ledger.changes())
        end = time.monotonic() + 30
        while len(ledger.changes()) == before and kit.poll() is None and time.monotonic() < end:
            time.sleep(0.02)


def _finish(boards, arguments):
    """The same command until it has nothing left to do; its last exit code, and what it said.

    A board that was at the new broker while that was dead tries it again after ten minutes, or
    when it is reset; here it is reset.
    """
    for _ in range(RUNS):
        done = subprocess.run(command(*arguments, "--json"), capture_output=True, text=True)
        if done.returncode == OK:
            break
        said = done.stdout.strip()
        late = [boards[name] for name in json.loads(said)["waiting"]] if said else []
        kill(late, 0)
        start(late)
    return done.returncode, done.stderr


def _device_accounts(broker):
    return {name for name in export.read(broker.settings.folder) if accounts.is_devices(name)}

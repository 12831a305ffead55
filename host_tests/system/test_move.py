"""`limpet broker move`: simulated boards log in at another broker, or stay where they are."""

import json

import pytest
from limpet_kit import bringup, cli, sim
from limpet_kit.broker import accounts, export
from limpet_kit.broker.client import KitClient
from limpet_kit.broker.settings import Settings
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.errors import FAILED, NO_BROKER, NOT_ONLINE, OK, REFUSED, USAGE
from limpet_kit.ledger import Ledger
from limpet_kit.secret import Secret
from limpet_kit.watch import Watch
from limpet_kit.wifi import Network
from rig.broker import free_port

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def old(broker_factory):
    return broker_factory("mosquitto")


@pytest.fixture
def new(broker_factory):
    return broker_factory("embedded")


@pytest.fixture
def unit(old, sim_factory):
    """(board, name) of a unit that is online at the old broker; `unit()` makes another one."""

    def make():
        board = sim_factory()
        plan = Plan(networks=lambda: [Network(b"home", Secret(b"a key of home"))])
        done = bringup.bring_up(
            f"sim:{board.name}", old.settings, plan, Console(), lambda *_: None, reading_s=0
        )
        return board, done.unit.name

    return make


@pytest.fixture
def limpet(capsys):
    """(exit code, the JSON object) of a command."""

    def run(*arguments):
        capsys.readouterr()
        code = cli.main([*map(str, arguments), "--json"])
        lines = capsys.readouterr().out.strip().splitlines()
        return code, json.loads(lines[-1]) if lines else None

    return run


def move(source, target, *options):
    return "broker", "move", source.settings.folder, target.settings.folder, *options


def device_accounts(broker):
    return {name for name in export.read(broker.settings.folder) if accounts.is_devices(name)}


def answers(broker, name):
    with Watch(broker.settings, name) as watch:
        return watch.answers(70) is not None


def kept(broker, name):
    """Topics of a device on which a broker keeps something."""
    with KitClient(broker.settings) as kit:
        return set(kit.retained(f"limpet/{name}/#", 5))


def test_there_and_back(old, new, unit, limpet):
    names = [unit()[1] for _ in range(2)]
    first = device_accounts(old)
    with KitClient(old.settings) as kit:  # as a sketch may: it must not outlive the device there
        kit.publish(f"limpet/{names[0]}/up/version", b"7", retain=True)
    code, said = limpet(*move(old, new, "--device", names[0]))
    assert (code, said["applied"]) == (OK, names[:1])
    code, said = limpet(*move(old, new))
    assert (code, said["applied"]) == (OK, names[1:])
    assert not device_accounts(old) and len(device_accounts(new)) == 2
    assert all(answers(new, name) and not kept(old, name) for name in names)
    with Ledger() as ledger:
        for one in ledger.units():
            assert (one.broker, one.profile, one.generation) == (new.settings.kit, "text", 2)
    code, said = limpet(*move(old, new))  # again: there is nothing to do
    assert (code, said["applied"], said["waiting"]) == (OK, [], [])
    code, said = limpet("rotate", "--all", "--broker", new.settings.folder)
    assert (code, sorted(said["applied"])) == (OK, names)
    code, said = limpet(*move(new, old))
    assert (code, sorted(said["applied"])) == (OK, names)
    assert not device_accounts(new) and len(device_accounts(old)) == 2
    assert not device_accounts(old) & first
    assert all(answers(old, name) and not kept(new, name) for name in names)
    for name in names:
        there = kept(old, name)
        assert {f"limpet/{name}/{b}" for b in ("state", "kit/ack")} <= there
        assert f"limpet/{name}/kit/set" not in there


def test_a_device_that_is_off_moves_when_it_is_back(old, new, unit, limpet):
    board, name = unit()
    board.kill()
    code, said = limpet(*move(old, new, "--wait", 0.2))
    assert (code, said["waiting"]) == (NOT_ONLINE, [name])
    assert len(device_accounts(old)) == len(device_accounts(new)) == 1
    go_on = f"limpet broker move {old.settings.folder} {new.settings.folder}"
    assert limpet("status")[1]["units"][0]["change"] == go_on
    code, said = limpet(*move(old, new, "--wait", 0.2))  # repeating draws no other
    assert len(device_accounts(new)) == 1
    code, said = limpet("rotate", name, "--broker", old.settings.folder, "--wait", 0.2)
    assert (code, said["waiting"]) == (NOT_ONLINE, [name])  # one change at a time
    sim.start(board.name)
    code, said = limpet(*move(old, new))
    assert (code, said["applied"]) == (OK, [name])
    assert not device_accounts(old) and answers(new, name)


def test_a_device_that_cannot_log_in_there_stays(old, new, unit, limpet, monkeypatch):
    _, name = unit()
    before = device_accounts(old)
    monkeypatch.setattr(Settings, "servers", (f"localhost:{free_port()}",))
    code, said = limpet(*move(old, new, "--wait", 1))
    assert (code, said["waiting"]) == (NOT_ONLINE, [name])
    assert answers(old, name) and device_accounts(old) == before
    assert len(device_accounts(new)) == 1  # it will be tried again, so both count


def test_one_that_says_no_stays_and_what_was_drawn_ends(old, new, unit, limpet, monkeypatch):
    _, name = unit()
    before = device_accounts(old)
    with monkeypatch.context() as patch:
        patch.setattr(Settings, "servers", ("localhost:0",))  # no port that a board would take
        code, said = limpet(*move(old, new))
    assert code == FAILED and "fields" in said["failed"][name]
    assert device_accounts(old) == before and not device_accounts(new)
    assert answers(old, name) and not kept(new, name)
    code, said = limpet(*move(old, new))
    assert (code, said["applied"]) == (OK, [name])


def test_revoked_in_the_middle_it_is_out_of_both(old, new, unit, limpet):
    board, name = unit()
    board.kill()
    assert limpet(*move(old, new, "--wait", 0.2))[0] == NOT_ONLINE
    assert limpet("revoke", name)[0] == OK
    assert not device_accounts(old) and not device_accounts(new)
    assert limpet("revoke", name, "--undo")[0] == OK
    assert len(device_accounts(old)) == len(device_accounts(new)) == 1
    # Nobody knows now whether it has moved: no other change until a move says so.
    code, said = limpet("rotate", name, "--broker", old.settings.folder)
    assert (code, said["waiting"]) == (NOT_ONLINE, [name])
    sim.start(board.name)
    code, said = limpet(*move(old, new))
    assert (code, said["applied"]) == (OK, [name])
    assert not device_accounts(old) and len(device_accounts(new)) == 1 and answers(new, name)


def test_wiped_in_the_middle_it_is_out_of_both(old, new, unit, limpet):
    board, name = unit()
    board.kill()
    assert limpet(*move(old, new, "--wait", 0.2))[0] == NOT_ONLINE
    sim.start(board.name)
    assert limpet("wipe", "--port", f"sim:{board.name}", "--yes")[0] == OK
    assert not device_accounts(old) and not device_accounts(new)
    assert not kept(old, name) and not kept(new, name)


def test_what_cannot_move_is_said_before_anything_is_drawn(old, new, unit, limpet, capsys, home):
    _, name = unit()
    before = device_accounts(old)
    assert limpet(*move(old, old))[0] == USAGE
    assert limpet(*move(old, new, "--device", "nobody"))[0] == USAGE
    new.stop()
    capsys.readouterr()
    assert cli.main([*map(str, move(old, new))]) == NO_BROKER
    assert f"limpet broker run {new.settings.folder}" in capsys.readouterr().err
    assert device_accounts(old) == before and not device_accounts(new)
    with Ledger() as ledger:
        assert not ledger.changes()
        # A board that nobody simulates finds no broker that this machine alone can reach.
        ledger._note(ledger.named(name).vault, machine="Raspberry Pi Pico W with RP2040")
    assert cli.main([*map(str, move(old, new))]) == NO_BROKER
    assert "this machine only" in capsys.readouterr().err
    with Ledger() as ledger:
        ledger._note(ledger.named(name).vault, profile="psk")
    assert cli.main([*map(str, move(old, new))]) == REFUSED
    assert f"--replace {name}" in capsys.readouterr().err
    with Ledger() as ledger:
        assert not ledger.changes()

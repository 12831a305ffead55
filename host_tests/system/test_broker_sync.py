"""From the ledger into both kinds of broker: `limpet broker sync`, `check` and `revoke`."""

import json
import threading
import time

import pytest
from limpet_kit import cli, registry
from limpet_kit.broker import client, connect, server
from limpet_kit.errors import OK, REFUSED
from limpet_kit.ledger import Ledger
from rig.broker import KINDS
from rig.peer import WAIT_S, Device, enrol

RELOADED = {"mosquitto": "Reloading config", "embedded": " accounts"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "home"))


@pytest.fixture(params=KINDS)
def broker(request, broker_factory):
    return broker_factory(request.param)


@pytest.fixture
def fleet(broker):
    """Three devices that the ledger knows and the broker does not yet."""
    devices = [Device(broker, f"lamp-{number}") for number in range(3)]
    with Ledger() as ledger:
        for device in devices:
            enrol(ledger, device)
    return devices


def limpet(capsys, *arguments):
    code = cli.main([*map(str, arguments), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out or "null"), said.err


def reloads(broker):
    log = (broker.settings.folder / server.LOG).read_text()
    return log.count(RELOADED[broker.settings.kind])


def test_sync_and_check(broker, fleet, capsys):
    folder = broker.settings.folder
    assert fleet[0].login() == connect.NOT_AUTHORISED
    code, said, err = limpet(capsys, "broker", "check", folder)
    assert (code, said["unsynced"]) == (OK, 3) and "limpet broker sync" in err
    code, said, err = limpet(capsys, "broker", "sync", folder)
    assert code == OK and said.pop("seconds") < 3
    assert said == {"ok": True, "accounts": 3, "changed": 3, "gone": 0, "taken": True}
    assert all(device.login() == connect.ACCEPTED for device in fleet)
    assert limpet(capsys, "broker", "check", folder)[1]["unsynced"] == 0
    # Nothing new: nothing is written, and the broker is left alone.
    before, count = (folder / "passwords").read_bytes(), reloads(broker)
    assert limpet(capsys, "broker", "sync", folder)[1]["changed"] == 0
    assert ((folder / "passwords").read_bytes(), reloads(broker)) == (before, count)
    # A broker that was started anew is asked again, and one that is down gets the files.
    broker.stop()
    code, said, err = limpet(capsys, "broker", "sync", folder)
    assert (code, said["taken"]) == (OK, False) and "limpet broker run" in err


def test_the_wrong_ledger_is_refused(broker, fleet, capsys, tmp_path, monkeypatch):
    folder = broker.settings.folder
    assert limpet(capsys, "broker", "sync", folder)[0] == OK
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "another"))
    code, _, err = limpet(capsys, "broker", "sync", folder)
    assert code == REFUSED and "drop 3 of 3 accounts" in err and "--force" in err
    assert all(device.login() == connect.ACCEPTED for device in fleet)
    code, said, _ = limpet(capsys, "broker", "sync", folder, "--force")
    assert (code, said["gone"]) == (OK, 3)
    assert all(device.login() == connect.NOT_AUTHORISED for device in fleet)


def test_many_who_sync_share_a_reload(broker, fleet):
    """At most one reload a second, and everybody's accounts are in when they are told so."""
    with Ledger() as ledger:
        assert registry.sync(ledger, broker.settings)
    began, failures = time.monotonic(), []

    def add(number):
        try:
            device = Device(broker, f"new-{number}")
            with Ledger() as ledger:
                enrol(ledger, device)
                assert registry.sync(ledger, broker.settings)
            assert device.login() == connect.ACCEPTED
        except BaseException as e:
            failures.append(e)

    before = reloads(broker)
    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert 1 <= reloads(broker) - before <= 1 + (time.monotonic() - began)


def test_revoking_ends_a_live_session_at_once(broker, fleet, capsys, record_property):
    """Also right after another export: who is locked out does not wait for its turn."""
    lamp, other = fleet[:2]
    with Ledger() as ledger:
        registry.sync(ledger, broker.settings)
    took = []
    with other.online(), client.KitClient(broker.settings):
        for _ in range(3):
            with lamp.online():
                began = time.monotonic()
                ended = []
                watch = threading.Thread(
                    target=lambda e=ended: lamp.gone.wait(WAIT_S) and e.append(time.monotonic())
                )
                watch.start()
                code, said, _ = limpet(capsys, "revoke", lamp.name)
                watch.join()
                took.append(ended[0] - began)
                assert (code, said["ok"]) == (OK, True)
            assert lamp.login() == connect.NOT_AUTHORISED
            assert limpet(capsys, "revoke", lamp.name, "--undo")[0] == OK
            assert lamp.login() == connect.ACCEPTED
        assert not other.gone.is_set()
    assert max(took) < 0.5
    record_property(
        "measured",
        f"revoke to live session closed ({broker.settings.kind}): "
        f"{min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms",
    )

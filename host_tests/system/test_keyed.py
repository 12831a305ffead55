"""Devices that prove themselves by a shared key or a certificate, at a real Mosquitto.

Each profile: to online by `limpet up`, refused for what is wrong and for nothing else, and revoked
with its live session closed.
"""

import dataclasses
import json
import time
from types import SimpleNamespace

import pytest
from bench import revoke
from limpet_kit import ca, enrolment, install
from limpet_kit.board import Board
from limpet_kit.broker import keyed, server, settings
from limpet_kit.errors import KitError
from limpet_kit.ledger import Ledger
from limpet_kit.secret import Secret
from rig.device import Device

pytestmark = pytest.mark.mosquitto
PROFILES = ("psk", "x509")
SKETCH = """
def log(line):
    if line.startswith(("OFFLINE", "REFUSED", "UNTRUSTED")):
        ask("failed", line=line)
    elif line == "ONLINE":
        say("up")

c = client(log=log)

async def main():
    c.start()
    while True:
        await asyncio.sleep(60)

asyncio.run(main())
"""
FIRST = "from warp import ask"
REFUSED = {
    "psk": "UNTRUSTED: TLS-PSK: the server does not know this device or has another key for it",
    "x509": "OFFLINE: the server does not take this device's own certificate",
}


@pytest.mark.parametrize("profile", PROFILES)
def test_from_up_to_revoke(profile, broker_factory, home, sim_factory, tool):
    broker = broker_factory("mosquitto", profile=profile)
    folder = ["--broker", broker.settings.folder]
    board = sim_factory()
    done = tool("limpet", "up", f"sim:{board.name}", *folder, "--name", "lamp-1", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["ok"]
    rotated = tool("limpet", "rotate", "lamp-1", *folder, "--json")
    assert json.loads(rotated.stdout.splitlines()[-1])["ok"]
    other = broker_factory("mosquitto", profile=profile)
    folders = broker.settings.folder, other.settings.folder
    moved = tool("limpet", "broker", "move", *folders, "--json")
    assert json.loads(moved.stdout.splitlines()[-1])["applied"] == ["lamp-1"]
    assert not keyed.read(broker.settings.folder)
    broker = other
    done = tool("limpet", "revoke", "lamp-1", "--json")
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["live"] == ["lamp-1"]
    log = (broker.settings.folder / server.LOG).read_text()
    assert "already connected, closing old connection" in log
    assert not keyed.read(broker.settings.folder)
    undone = tool("limpet", "revoke", "lamp-1", "--undo", check=False)
    assert (undone.returncode == 0) == (profile == "x509")  # a key is erased, a serial is not
    if profile == "psk":
        assert b"Enrol it again" in undone.stderr


@pytest.mark.parametrize("profile", PROFILES)
def test_refused_is_told_from_network_trouble(profile, broker_factory, device_factory):
    broker = broker_factory("mosquitto", profile=profile)
    device = device_factory(broker)
    device.run(SKETCH, first=FIRST)
    device.wait("up")
    broker.kill()
    failed = device.wait("failed")["line"]
    assert failed.startswith("OFFLINE") and not failed.startswith(REFUSED[profile])
    if profile == "psk":  # known, but with another key
        other = Secret(bytes(31) + b"\1")
        wanted = {device.account.name: keyed.of_key(other)}
        keyed.write(broker.settings.folder, wanted, [other])
    else:
        keyed.write(broker.settings.folder, {})
    broker.start()
    device.answer()
    _refused(device, profile)
    if profile == "psk":
        server.sync(broker.settings, [], force=True)  # not known at all
        device.answer()
        _refused(device, profile)
    server.sync(broker.settings, [device.account], force=True, fresh=device.credential.fresh)
    device.answer()
    device.wait("up")


def _refused(device, profile):
    """The next failures are refusals, whatever of the last connection comes first.

    An alert is lost at times, when the server closes while we write: then the next try tells."""
    for _ in range(40):  # on a busy machine, many
        line = device.wait("failed")["line"]
        if line.startswith(REFUSED[profile]):
            return
        assert line.startswith(("OFFLINE: no connection", "OFFLINE: the TLS handshake failed"))
        device.answer()
    pytest.fail(device.said())


@pytest.mark.parametrize("profile", PROFILES)
def test_revoking_ends_the_live_session(profile, broker_factory, device_factory, record_property):
    broker = broker_factory("mosquitto", profile=profile)
    device = device_factory(broker)
    device.run(SKETCH, first=FIRST)
    device.wait("up")
    began = time.monotonic()
    assert server.sync(broker.settings, [], force=True, at_once=True)
    device.wait("failed")
    took = (time.monotonic() - began) * 1000
    record_property(
        "measured", f"profile {profile}: revoked and its session closed in {took:.0f} ms"
    )
    assert took < 5000
    device.answer()
    _refused(device, profile)


def test_a_certificate_of_another_ca_is_refused(broker_factory, device_factory, tmp_path):
    broker = broker_factory("mosquitto", profile="x509")
    ca.make_devices(tmp_path)
    place = SimpleNamespace(
        folder=tmp_path, profile="x509", given=False, server=broker.settings.server
    )
    own = ca.anchor_der(broker.settings.folder)
    device = Device(tmp_path / "d", SimpleNamespace(settings=place), "lamp-1", anchor=own)
    device.run(SKETCH, first=FIRST)
    _refused(device, "x509")
    device.kill()


def test_no_key_of_a_device_is_on_the_disk(broker_factory):
    chosen = broker_factory("mosquitto", profile="x509").settings
    key, _, serial = ca.issue(chosen.folder, "a" * 23)
    keyed.write(chosen.folder, {"a" * 23: keyed.of_certificate(serial)})
    secret = key.reveal()[7:39]  # RFC 5915: the number itself
    for file in chosen.folder.iterdir():
        held = file.read_bytes()
        assert secret not in held and secret.hex().encode() not in held, file


def test_older_firmware_is_refused_with_words(home, sim_factory, broker_factory, monkeypatch):
    broker = broker_factory("mosquitto", profile="psk")
    made = sim_factory()
    look = enrolment.look
    older = {"psk": False, "micropython": "1.28.0"}
    monkeypatch.setattr(enrolment, "look", lambda b: dataclasses.replace(look(b), **older))
    with Ledger() as ledger, Board(f"sim:{made.name}") as board:
        install.library(board, lambda done, total: None)
        plan = enrolment.Plan(list, "lamp-1", wired=True)
        with pytest.raises(KitError, match=r"runs MicroPython 1.28.0.*needs 1.29"):
            enrolment.enroll(board, ledger, broker.settings, plan, lambda name, words: None)
        assert not ledger.units(gone=True)


def test_the_embedded_broker_takes_passwords_only(tmp_path):
    with pytest.raises(KitError, match="needs Mosquitto"):
        settings.create(tmp_path / "b", ["localhost"], kind="embedded", profile="psk")


def test_a_line_of_the_file_closes_a_session_and_a_list_does_not(tmp_path, record_property):
    """What docs say of revocation lists, measured: the same as host_tests/bench/revoke.py."""
    found = revoke.measure(tmp_path, wait_s=1.0)
    for line in revoke.table(found):
        record_property("measured", line)
    assert found["password_file"].closed_ms < 5000
    assert found["CRL"].closed_ms is None and found["CRL"].refused
    assert found["CRL and a login in its place"].closed_ms < 5000
    assert all(result.refused for result in found.values())

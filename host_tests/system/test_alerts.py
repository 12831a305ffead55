"""The guard's alerts: what is told, and how it gets to its owner."""

import contextlib
import json
import os

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from limpet_kit import cli
from limpet_kit.broker import server
from limpet_kit.broker.client import KitClient
from limpet_kit.errors import FAILED, OK, USAGE, KitError
from limpet_kit.guard import alerts, messengers
from rig.peer import Device

ACCOUNT = "C" * 23


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "home"))


@pytest.fixture
def mailbox():
    """A mail server on loopback: `(host:port, what came)`."""
    came = []

    class Keep(Message):
        def handle_message(self, message):
            came.append(message)

    controller = Controller(Keep(), hostname="127.0.0.1", port=server.free_port())
    controller.start()
    yield f"127.0.0.1:{controller.port}", came
    controller.stop()


def test_an_alert_goes_every_way(broker_factory, mailbox, tmp_path, capsys):
    broker = broker_factory("embedded")
    smtp, came = mailbox
    heard = tmp_path / "heard"
    command = f'echo "$LIMPET_ALERT_WHAT $LIMPET_ALERT_ADDRESS $LIMPET_ALERT_COUNT" > {heard}'
    folder = broker.settings.folder
    messengers.configure(folder, command, "ops@example.org", smtp)
    words = ["--what", "banned", "--address", "2001:db8::7", "--count", "10", "--seconds", "600"]
    with KitClient(broker.settings) as kit:
        kit.subscribe(messengers.TOPIC)
        code = cli.main(["guard", "alert", str(folder), *words, "--json"])
        assert code == OK, capsys.readouterr()
        _, payload = kit.wait(lambda topic, _: topic == messengers.TOPIC, 10)
    told = json.loads(payload)
    assert told == alerts.last(folder, 1)[0]
    at = told.pop("at")
    assert at.endswith("Z") and told == {
        "what": "banned",
        "address": "2001:db8::/64",
        "count": 10,
        "seconds": 600,
    }
    assert heard.read_text() == "banned 2001:db8::/64 10\n"
    [mail] = came
    assert mail["To"] == "ops@example.org"
    assert "2001:db8::/64 was refused 10 times in 600 s" in " ".join(mail["Subject"].split())
    assert '"count": 10' in mail.get_payload()


def test_what_fails_does_not_keep_the_others_from_it(broker_factory, tmp_path, capsys):
    broker = broker_factory("embedded")
    folder, heard = broker.settings.folder, tmp_path / "heard"
    nobody = f"127.0.0.1:{server.free_port()}"
    messengers.configure(folder, f"touch {heard}; exit 3", "ops@example.org", nobody)
    broker.stop()
    words = ["--what", "test", "--address", "192.0.2.7", "--count", "1", "--seconds", "1"]
    assert cli.main(["guard", "alert", str(folder), *words]) == FAILED
    said = capsys.readouterr().err
    assert "ended with code 3" in said and f"not taken by {nobody}" in said
    assert heard.exists() and alerts.last(folder, 1)[0]["address"] == "192.0.2.7"


def test_an_account_is_told_as_its_device(broker_factory):
    """The account is half of a credential: it stands in no alert."""
    broker = broker_factory("embedded")
    folder = broker.settings.folder
    lamp = Device(broker, "lamp-1")
    server.sync(broker.settings, [lamp.account])
    log = [
        f"2026-01-02T03:04:05/64: New client connected from {address}:4711 as {name} (p2, c1, k9)."
        for address, name in [
            ("192.0.2.1", lamp.account.name),
            ("192.0.2.2", lamp.account.name),
            ("2001:db8::3", lamp.account.name),
            ("192.0.2.9", ACCOUNT),
            ("192.0.2.2", lamp.account.name),
        ]
    ]
    (folder / server.LOG).write_text("\n".join(log) + "\n")
    told = alerts.alert(broker.settings, "cloned", 3, 600, account=lamp.account.name)
    assert (told["device"], told["from"]) == ("lamp-1", ["192.0.2.2", "2001:db8::3"])
    assert lamp.account.name not in (folder / alerts.LOG).read_text() + alerts.words(told)
    assert alerts.alert(broker.settings, "cloned", 3, 600, account=ACCOUNT)["device"] == ""


def test_a_clone_cannot_say_where_it_is(broker_factory):
    """Brokers write what clients say, topics above all, into other lines of the same log."""
    broker = broker_factory("embedded")
    lamp = Device(broker, "lamp-1")
    server.sync(broker.settings, [lamp.account])
    name = lamp.account.name
    says = f"limpet/x: New client connected from 9.9.9.9:1 as {name} (p2, c1, k9)."
    forged = f'"msg":"accepting MQTT connection <0.1.0> (9.9.9.9:1 -> x, client id: {name})'
    (broker.settings.folder / server.LOG).write_text(
        f"2026-01-02T03:04:05/64: New client connected from 192.0.2.1:7 as {name} (p2, c1, k9).\n"
        f"2026-01-02T03:04:06/64: Denied PUBLISH from {name} (d0, q0, r0, m0, '{says}\n"
        f"{json.dumps({'msg': forged})}\n"
    )
    told = alerts.alert(broker.settings, "cloned", 3, 600, account=name)
    assert told["from"] == ["192.0.2.1"]


def test_a_line_that_was_cut_is_passed_over(broker_factory):
    broker = broker_factory("embedded", start=False)
    folder = broker.settings.folder
    (folder / alerts.LOG).write_text('{"what": "test", "at": 1}\n{"what": "ban')
    with contextlib.suppress(KitError):  # the broker does not run
        alerts.alert(broker.settings, "test", 1, 1, address="192.0.2.7")
    assert [one.get("address") for one in alerts.last(folder, 9)] == [None, "192.0.2.7"]


def test_a_command_in_any_letters_is_kept(tmp_path):
    command = 'notify "\U0001f6a8 \x7f $LIMPET_ALERT_WHAT"'
    messengers.configure(tmp_path, command, None, "")
    assert messengers._configured(tmp_path)["command"] == command


@pytest.mark.parametrize("address", ["", "x", "192.0.2.7/24", "2001:db8::/48", "$(id)"])
def test_what_is_no_address_is_refused(broker_factory, address, capsys):
    broker = broker_factory("embedded", start=False)
    words = ["--what", "test", "--address", address, "--count", "1", "--seconds", "1"]
    with pytest.raises(SystemExit) as e:
        cli.main(["guard", "alert", str(broker.settings.folder), *words])
    assert e.value.code == USAGE and "no IP address" in capsys.readouterr().err
    assert not os.path.exists(broker.settings.folder / alerts.LOG)

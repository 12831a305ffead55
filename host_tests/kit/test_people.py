"""Who may log in to the web page: names, passwords, devices, seats, and what a broker is told."""

import io
import json
import time

import pytest
from limpet_kit import cli
from limpet_kit.broker import accounts, export
from limpet_kit.broker.accounts import Account
from limpet_kit.errors import ENROLLED, FAILED, OK, REFUSED, USAGE, KitError
from limpet_kit.ledger import ACTIVE, Ledger, Unit
from limpet_kit.secret import Secret
from limpet_kit.web import people
from limpet_kit.web.people import People

PASSWORD = "correct horse battery"


@pytest.fixture
def ledger(home, tmp_path):
    with People() as opened:
        opened.know_broker("kit-x", tmp_path / "broker", "localhost:8883")
        for name in ("lamp-1", "lamp-2"):
            opened.add(unit(name), accounts.draw_account(), accounts.verifier(Secret(b"x")))
        yield opened


def unit(name):
    vault = name.encode().hex()
    return Unit(vault, name, ACTIVE, "kit-x", "k", "text", 1, 1, "c", "m", "1.29", "0", None, 1, 1)


def user(monkeypatch, capsys, *words, password=PASSWORD, code=OK):
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    assert cli.main(["web", "user", *words]) == code
    said = capsys.readouterr()
    assert password not in said.out + said.err or not password
    return said.out + said.err


def test_add_change_list_remove(ledger, monkeypatch, capsys):
    user(monkeypatch, capsys, "add", "anna", "--devices", "lamp-1")
    user(monkeypatch, capsys, "add", "bob", "--every-device")
    listed = json.loads(user(monkeypatch, capsys, "list", "--json").splitlines()[0])
    assert [(one["name"], one["devices"]) for one in listed] == [
        ("anna", ["lamp-1"]),
        ("bob", None),
    ]
    anna = ledger.person("anna")
    assert people.fits(Secret(PASSWORD.encode()), anna.verifier)
    assert not people.fits(Secret(b"something else"), anna.verifier)
    assert anna.verifier.startswith("$argon2id$") and PASSWORD not in anna.verifier
    user(monkeypatch, capsys, "change", "anna", "--devices", "lamp-2", "lamp-1")
    assert ledger.person("anna").devices == ("lamp-1", "lamp-2")
    user(monkeypatch, capsys, "change", "anna", "--password", password="another password")
    assert people.fits(Secret(b"another password"), ledger.person("anna").verifier)
    assert "nothing" not in user(monkeypatch, capsys, "change", "anna", code=USAGE)
    user(monkeypatch, capsys, "remove", "anna")
    assert [one.name for one in ledger.people()] == ["bob"]


def test_what_is_refused(ledger, monkeypatch, capsys):
    user(monkeypatch, capsys, "add", "anna", "--every-device")
    for words, password, code in (
        (("add", "anna", "--every-device"), PASSWORD, ENROLLED),
        (("add", "lamp-1", "--every-device"), PASSWORD, ENROLLED),
        (("add", "Anna", "--every-device"), PASSWORD, FAILED),
        (("add", "fleet", "--every-device"), PASSWORD, FAILED),
        (("add", "carl", "--devices", "lamp-9"), PASSWORD, USAGE),
        (("add", "carl", "--every-device"), "short", REFUSED),
        (("add", "carl", "--every-device"), "", REFUSED),
        (("add", "carl", "--every-device"), "x" * 1025, REFUSED),
        (("change", "carl", "--every-device"), PASSWORD, USAGE),
        (("remove", "carl"), PASSWORD, USAGE),
    ):
        user(monkeypatch, capsys, *words, password=password, code=code)
    assert [one.name for one in ledger.people()] == ["anna"]


def test_a_unit_cannot_take_a_persons_name(ledger):
    ledger.add_person("anna", Secret(PASSWORD.encode()), None)
    with pytest.raises(KitError, match="name of a person"):
        ledger.add(unit("anna"), accounts.draw_account(), accounts.verifier(Secret(b"x")))


def test_seats_are_exported_with_the_persons_rights_until_they_end(ledger):
    ledger.add_person("anna", Secret(PASSWORD.encode()), ["lamp-1"])
    ledger.add_person("bob", Secret(PASSWORD.encode()), None)
    anna, bob = ledger.people()
    seats = ledger.take_seats(anna, "kit-x", 2, int(time.time()) + 60)
    other = ledger.take_seats(bob, "kit-x", 1, int(time.time()) + 60)
    ledger.take_seats(bob, "kit-x", 1, int(time.time()) - 1)
    exported = {a.name: a for a in ledger.accounts("kit-x")}
    web = {name for name in exported if name.startswith(accounts.WEB_PREFIX)}
    assert web == {seat.account for seat in seats + other} and len(exported) == 5
    found: Account = exported[seats[0].account]
    assert accounts.fits(seats[0].password.reveal(), found.verifier)
    assert found.acl.split("\n") == [
        "read limpet/lamp-1/state",
        "read limpet/lamp-1/up/+",
        "write limpet/lamp-1/cmd/+",
        "write limpet/lamp-1/from/anna/+",
        "read limpet/anna/from/lamp-1/+",
    ]
    assert exported[other[0].account].acl.split("\n")[2] == "write limpet/+/cmd/+"
    with Ledger() as elsewhere:
        assert {a.name for a in elsewhere.accounts("kit-x")} == set(exported)
    ledger.leave_seats(seats[:1])
    assert seats[0].account not in {a.name for a in ledger.accounts("kit-x")}
    assert ledger.change_person("anna", None, ["lamp-2"], False) == [ledger.broker_folder("kit-x")]
    assert seats[1].account not in {a.name for a in ledger.accounts("kit-x")}
    assert ledger.remove_person("bob") and ledger.seats() == set()
    with pytest.raises(KitError, match="changed at this moment"):
        ledger.take_seats(bob, "kit-x", 1, int(time.time()) + 60)


def test_pages_that_end_are_no_lost_accounts(tmp_path):
    """A broker's export may lose any number of web accounts at once."""
    kept = accounts.verifier(Secret(b"x"))
    web = [Account(accounts.draw_web(), kept, "") for _ in range(20)]
    export.write(tmp_path, web)
    export.write(tmp_path, [])


def test_an_import_brings_no_unit_with_the_name_of_a_person(ledger, tmp_path, monkeypatch):
    copy = tmp_path / "copy.db"
    ledger.backup(copy)
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    with People() as other:
        other.add_person("lamp-2", Secret(PASSWORD.encode()), None)
    assert cli.main(["ledger", "import", str(copy)]) == ENROLLED
    with People() as other:
        assert not other.units()
        other.remove_person("lamp-2")
    assert cli.main(["ledger", "import", str(copy)]) == OK

"""The ledger, and what `limpet ledger` and `limpet status` say of it."""

import csv
import dataclasses
import json
import sqlite3
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest
from limpet_kit import cli, plugged
from limpet_kit.broker import accounts
from limpet_kit.errors import ENROLLED, FAILED, OK, REFUSED, USAGE, KitError
from limpet_kit.ledger import ACTIVE, GONE, NEW, PROVED, REGISTERED, Ledger, Login, Unit

VERIFIER = accounts.verifier(accounts.draw_password("text"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def unit(number, **changes):
    values = {
        "vault": f"{number:032x}",
        "name": f"lamp-{number}",
        "state": NEW,
        "broker": "kit-b",
        "kit_key": "00" * 8,
        "profile": "text",
        "source": 1,
        "generation": 0,
        "chip": "d0" * 8,
        "machine": "a board",
        "micropython": "1.29.0",
        "library": "0.1.0",
        "replaces": None,
        "created": 1000 + number,
        "changed": 1000 + number,
    }
    known = {field.name for field in dataclasses.fields(Unit)}
    return Unit(**{k: v for k, v in {**values, **changes}.items() if k in known})


@pytest.fixture
def rows(tmp_path):
    with Ledger() as opened:
        opened.know_broker("kit-b", tmp_path, "localhost:8883")
        yield opened


def add(rows, number, **changes):
    made = unit(number, **changes)
    rows.add(made, f"Account{number}", VERIFIER)
    return made


def test_an_account_is_at_the_broker_from_proved_on(rows, home):
    one = add(rows, 1)
    assert list(rows.accounts("kit-b")) == []
    one = rows.advance(one, PROVED, 3)
    assert [account.name for account in rows.accounts("kit-b")] == ["Account1"]
    assert one.generation == 3 and rows.unit(one.vault) == one
    assert list(rows.accounts("kit-other")) == []
    assert stat.S_IMODE((home / "ledger.db").stat().st_mode) == 0o600


def test_an_older_generation_is_an_alert_and_lowers_nothing(rows):
    one = rows.advance(add(rows, 1), PROVED, 5)
    assert rows.saw(one, 5) == one and rows.saw(one, 6) == one and not one.alert
    older = rows.saw(one, 4)
    assert (older.generation, older.older) == (5, 4)
    assert "generation 4" in older.alert and "generation 5" in older.alert
    change = rows.move(rows.move(rows.draw(one, "servers"), "SENDING"), "SENT")
    rows.move(change, "APPLIED", generation=4)
    assert rows.unit(one.vault).generation == 5
    rows.clear(older)
    assert rows.unit(one.vault) == one


def test_a_unit_is_where_its_account_is(rows, tmp_path):
    rows.know_broker("kit-c", tmp_path, "localhost:8884")
    one = rows.advance(add(rows, 1), PROVED, 1)
    there = Login("There1", VERIFIER, "kit-c", "binary")

    def at(broker):
        return [account.name for account in rows.accounts(broker)]

    change = rows.draw(one, "move", "kit-b kit-c", there)
    assert (at("kit-b"), at("kit-c")) == (["Account1"], ["There1"])
    assert rows.brokers(one.vault) == {"kit-b", "kit-c"} and rows.unit(one.vault) == one
    rows.move(change, "FAILED")
    assert (at("kit-b"), at("kit-c"), rows.ended("kit-c")) == (["Account1"], [], {"There1"})
    rows.forget(rows.ended("kit-c"))
    rows.move(rows.draw(one, "move", "kit-b kit-c", there), "APPLIED", generation=2)
    assert (at("kit-b"), at("kit-c"), rows.ended("kit-b")) == ([], ["There1"], {"Account1"})
    moved = rows.unit(one.vault)
    assert (moved.broker, moved.profile, moved.generation) == ("kit-c", "binary", 2)


def test_accounts_of_an_older_ledger_are_at_their_units_broker(rows, home):
    rows.advance(add(rows, 1), PROVED)
    with sqlite3.connect(home / "ledger.db") as db:
        for index in ("account_ended", "account_vault", "unit_revoked"):
            db.execute(f"DROP INDEX {index}")
        for column in ("broker", "profile"):
            db.execute(f"ALTER TABLE account DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 6")
    db.close()
    with Ledger() as newer:
        assert [account.name for account in newer.accounts("kit-b")] == ["Account1"]
        assert newer.brokers(unit(1).vault) == {"kit-b"}


def test_two_kits_do_not_overrun_each_other(rows):
    one = add(rows, 1)
    with Ledger() as other:
        other.advance(one, PROVED)
        with pytest.raises(KitError, match="Another limpet"):
            rows.advance(one, PROVED)
        other.drop(one)  # it is not NEW any more
        assert other.unit(one.vault)


def test_a_name_is_taken_once(rows):
    one = add(rows, 1)
    with pytest.raises(KitError, match="lamp-1 is taken") as e:
        add(rows, 2, name="lamp-1")
    assert e.value.code == ENROLLED and rows.unit(unit(2).vault) is None
    second = add(rows, 2, name="lamp-1", replaces=one.vault)
    with pytest.raises(KitError, match="taking that unit's place"):
        add(rows, 3, name="lamp-1", replaces=one.vault)
    assert rows.named("lamp-1").vault == one.vault
    rows.retire(one)
    second = rows.settle(second)
    assert rows.named("lamp-1") == second and rows.units() == [second]
    assert [u.state for u in rows.units(gone=True)] == [GONE, NEW]


def test_a_backup_that_fails_leaves_no_file(rows, tmp_path, monkeypatch):
    class Full:
        def backup(self, copy):
            raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch, pytest.raises(sqlite3.OperationalError):
        patch.setattr(rows, "_db", Full())
        rows.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_revoking_a_name_revokes_whatever_may_log_in_as_it(rows, capsys):
    one = rows.advance(rows.advance(rows.advance(add(rows, 1), PROVED, 1), REGISTERED), ACTIVE)
    two = add(rows, 2, name="lamp-1", replaces=one.vault)
    two = rows.advance(rows.advance(two, PROVED, 1), REGISTERED)  # it logged in, nobody looked
    late = rows.advance(rows.advance(add(rows, 3), PROVED, 1), REGISTERED)
    cli.main(["revoke", "lamp-1", "lamp-3"])
    assert {rows.unit(u.vault).state for u in (one, two, late)} == {"REVOKED"}
    assert list(rows.accounts("kit-b")) == []
    said = capsys.readouterr().out
    assert said.count("lamp-1 is revoked") == said.count("lamp-3 is revoked") == 1
    cli.main(["revoke", "lamp-1", "--undo"])
    assert {rows.unit(u.vault).state for u in (one, two)} == {ACTIVE}


def test_a_newer_and_a_broken_ledger_are_told(home):
    with Ledger():
        pass
    db = sqlite3.connect(home / "ledger.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(KitError, match="newer kit"), Ledger():
        pass
    (home / "ledger.db").write_bytes(b"no database" * 100)
    with pytest.raises(KitError, match="cannot be used"), Ledger():
        pass


def test_list_show_drop(rows, capsys):
    assert cli.main(["ledger", "list"]) == OK
    assert "limpet up PORT" in capsys.readouterr().out
    add(rows, 1)
    two = rows.advance(rows.advance(add(rows, 2), PROVED), REGISTERED)
    assert cli.main(["ledger", "list", "--json"]) == OK
    listed = json.loads(capsys.readouterr().out)
    assert [(u["name"], u["state"]) for u in listed] == [("lamp-1", NEW), ("lamp-2", REGISTERED)]
    assert cli.main(["ledger", "show", "lamp-2", "--json"]) == OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["account"] == "Account2" and shown["created"] == "1970-01-01T00:16:42Z"
    assert cli.main(["ledger", "show", "lamp-9"]) == USAGE
    assert cli.main(["ledger", "drop", "lamp-2"]) == REFUSED and rows.unit(two.vault)
    assert cli.main(["ledger", "drop"]) == OK
    assert [u.name for u in rows.units()] == ["lamp-2"]


def test_export_and_backup(rows, tmp_path, capsys):
    add(rows, 1, machine='=HYPERLINK("http://evil")')
    rows.advance(add(rows, 2, chip="-1+1"), PROVED)
    table, copy = tmp_path / "units.csv", tmp_path / "copy.db"
    assert cli.main(["ledger", "export", str(table)]) == OK
    with open(table, newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["name"] for row in read] == ["lamp-1", "lamp-2"]
    assert read[0]["machine"].startswith("'=") and read[1]["chip"] == "'-1+1"
    assert cli.main(["ledger", "backup", str(copy)]) == OK
    assert "kit.key" in capsys.readouterr().out
    with Ledger(copy) as other:
        assert other.units() == rows.units()
    for file in (table, copy):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert cli.main(["ledger", "backup", str(file)]) == USAGE
    assert cli.main(["ledger", "export", str(tmp_path / "no" / "x.csv")]) == USAGE


def test_a_copy_is_taken_back(rows, tmp_path, home, capsys):
    add(rows, 1)
    rows.advance(add(rows, 2), PROVED, 3)
    copy = tmp_path / "copy.db"
    assert cli.main(["ledger", "backup", str(copy)]) == OK
    before = copy.read_bytes()
    rows.drop(rows.named("lamp-1"))
    assert cli.main(["ledger", "import", str(copy)]) == OK
    assert [(u.name, rows.account(u.vault)) for u in rows.units()] == [
        ("lamp-1", "Account1"),
        ("lamp-2", "Account2"),
    ]
    assert cli.main(["ledger", "import", str(copy)]) == OK and copy.read_bytes() == before
    rows.drop(rows.named("lamp-1"))
    rows.add(unit(9, name="lamp-1"), "Account9", VERIFIER)
    assert cli.main(["ledger", "import", str(copy)]) == ENROLLED
    assert rows.unit(unit(1).vault) is None, "all or nothing"
    assert cli.main(["ledger", "import", str(tmp_path / "none")]) == USAGE
    for other in (b"no database" * 100, b""):  # an empty file is a database to SQLite
        copy.write_bytes(other)
        capsys.readouterr()
        assert cli.main(["ledger", "import", str(copy)]) == FAILED
        assert f"{copy} is no ledger" in capsys.readouterr().err


def test_two_kits_at_once_lose_nothing(rows, home):
    """Each is a process of its own, and each row two transactions."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from kit.test_ledger import *\n"
        "first = int(sys.argv[1])\n"
        "with Ledger() as rows:\n"
        "    for number in range(first, first + 40):\n"
        "        rows.advance(add(rows, number), PROVED, number)\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(n), *sys.path]) for n in (100, 200)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert sorted(u.generation for u in rows.units()) == [*range(100, 140), *range(200, 240)]
    db = sqlite3.connect(home / "ledger.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_status_says_what_comes_next(rows, capsys, monkeypatch):
    monkeypatch.setattr(plugged.list_ports, "comports", list)
    assert cli.main(["status", "--json"]) == OK
    said = json.loads(capsys.readouterr().out)
    assert "limpet broker init" in said["next"] and said["boards"] == []
    add(rows, 1)
    rows.advance(rows.advance(rows.advance(add(rows, 2), PROVED), REGISTERED), ACTIVE)
    assert cli.main(["status"]) == OK
    said = capsys.readouterr().out
    assert "cut before it had an account" in said and "lamp-2" in said


def test_status_names_the_definitions_that_fit(monkeypatch, tmp_path):
    device = tmp_path / "ttyACM0"
    device.write_text("")
    port = SimpleNamespace(
        device=str(device),
        vid=0x2E8A,
        pid=0x0005,
        description="Board\x1b[2J in FS mode",
        serial_number="E6:61",
    )
    monkeypatch.setattr(plugged.list_ports, "comports", lambda: [port])
    (found,) = plugged.boards([])
    assert found.usb == "2e8a:0005" and "\x1b" not in found.what and found.unit == ""
    assert found.fits == ("RPI_PICO", "RPI_PICO2_W", "RPI_PICO_W")
    with open(device):
        assert not plugged.boards([])[0].why_not  # we are not another program
    with subprocess.Popen(["sleep", "20"], stdin=open(device)) as other:
        assert plugged.boards([])[0].why_not == f"in use by sleep (process {other.pid})"
        other.kill()

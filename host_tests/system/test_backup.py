"""`limpet broker backup` and `restore`: all of it comes back, and nothing else is touched."""

import fcntl
import io
import json
import os
import pty
import subprocess
import sys
import termios

import pytest
from limpet_kit import bringup, cli, kitkey, registry, sim
from limpet_kit.broker import backup, server, settings
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.errors import FAILED, NO_BROKER, OK, REFUSED, USAGE, KitError
from limpet_kit.ledger import ACTIVE, Ledger
from limpet_kit.secret import Secret
from limpet_kit.watch import Watch
from limpet_kit.wifi import Network
from rig.broker import KINDS

PASSPHRASE = "a horse that is correct"


@pytest.fixture
def limpet(capsys, monkeypatch):
    """`limpet(*arguments, typed=...)`: exit code and all that it said."""

    def run(*arguments, typed=PASSPHRASE):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed + "\n"))
        code = cli.main(["broker", *map(str, arguments)])
        said = capsys.readouterr()
        assert typed not in said.out + said.err or not typed
        assert "Traceback" not in said.err
        return code, said.out + said.err

    return run


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_board_logs_in_after_a_restore(
    kind, sim_factory, broker_factory, limpet, tmp_path, monkeypatch
):
    broker, board = broker_factory(kind), sim_factory()
    plan = Plan(networks=lambda: [Network(b"home", Secret(b""))])
    name = bringup.bring_up(
        f"sim:{board.name}",
        broker.settings,
        plan,
        Console(),
        lambda name, words: None,
        reading_s=0,
    ).unit.name
    file = tmp_path / "all.backup"
    assert limpet("backup", file, broker.settings.folder)[0] == OK  # while it runs
    assert file.stat().st_mode & 0o777 == 0o600
    key, whole = kitkey.load().secret.reveal(), file.read_bytes()
    for secret in (key, broker.settings.kit_password().reveal(), b"PRIVATE KEY", name.encode()):
        assert secret not in whole
    broker.kill()
    board.kill()
    before = tree(broker.settings.folder)
    broker.settings.folder.rename(tmp_path / "lost")

    fresh, folder = tmp_path / "fresh", tmp_path / "elsewhere" / "broker"
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("LIMPET_HOME", str(fresh))
        code, said = limpet("restore", file, folder, "--json")
        assert (code, json.loads(said.splitlines()[0])["folder"]) == (OK, str(folder))
        assert kitkey.load().secret.reveal() == key
        kept = tree(folder)
        assert kept == {name: before[name] for name in kept} and {"ca.key", "passwords"} < set(
            kept
        )
        assert sorted(path.name for path in fresh.iterdir()) == ["kit.key", "ledger.db"]
        assert not [path for path in folder.iterdir() if path.stat().st_mode & 0o077]
        assert [path.name for path in folder.parent.iterdir()] == ["broker"]
        made = settings.load(folder)
        with Ledger() as ledger:
            assert ledger.named(name).state == ACTIVE
            assert ledger.broker_folder(made.kit) == folder
            assert registry.unsynced(ledger, made) == (set(), set())
    restored = server.open_broker(made)
    restored.start()
    try:
        sim.start(board.name)
        with Watch(made, name) as watch:
            assert watch.answers(70) is not None
    finally:
        restored.kill()


@pytest.fixture
def backed_up(home, broker_factory, limpet, tmp_path, monkeypatch):
    """A backup, and an empty LIMPET_HOME to restore it in."""
    broker = broker_factory("embedded", start=False)
    kitkey.load(make=True)
    file = tmp_path / "all.backup"
    assert limpet("backup", file, broker.settings.folder)[0] == OK
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "fresh"))
    return file


def test_a_cluster_comes_back_with_what_its_nodes_know_each_other_by(tmp_path, home):
    """Without the same cookie and key everywhere they would be three brokers."""
    hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    made = settings.create(tmp_path / "broker", hosts[:1], kind="rabbitmq", hosts=hosts)
    with Ledger() as ledger:
        ledger.know_broker(made.kit, made.folder, made.server)
    sealed = tmp_path / "backup"
    sealed.write_bytes(backup.seal(backup.gather(made), Secret(PASSPHRASE.encode())))
    before = tree(made.folder)
    (home / "ledger.db").unlink()
    again = backup.restore(backup.unseal(sealed, Secret(PASSPHRASE.encode())), tmp_path / "again")
    assert tree(again.folder) == before
    assert {".erlang.cookie", "nodes.crt", "node.crt", "node.key"} < set(before)
    assert (again.folder / ".erlang.cookie").stat().st_mode & 0o077 == 0


def test_a_wrong_passphrase_and_damage_are_told_apart(backed_up, limpet, tmp_path):
    fresh = tmp_path / "fresh"
    code, said = limpet("restore", backed_up, typed=PASSPHRASE[:-1])
    assert code == FAILED and "is not the passphrase" in said
    whole = backed_up.read_bytes()
    bad = tmp_path / "bad"
    for place in (14, 31, 60, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:place] + bytes((whole[place] ^ 1,)) + whole[place + 1 :])
        code, said = limpet("restore", bad)
        assert code == FAILED and "is damaged" in said, place
    for length in (14, 60, len(whole) - 1):
        bad.write_bytes(whole[:length])
        code, said = limpet("restore", bad)
        assert code == FAILED and "is damaged" in said, length
    bad.write_bytes(b"something else")
    assert limpet("restore", bad)[0] == USAGE
    assert limpet("restore", tmp_path / "none")[0] == USAGE
    assert not tree(fresh) and said.count("\n") == 1
    assert limpet("restore", backed_up)[0] == OK


@pytest.mark.parametrize("there", ["kit.key", "line.key", "ledger.db", "broker/broker.toml"])
def test_nothing_is_overwritten(there, backed_up, limpet, tmp_path):
    fresh = tmp_path / "fresh"
    (fresh / there).parent.mkdir(parents=True)
    (fresh / there).write_bytes(b"mine")
    code, said = limpet("restore", backed_up)
    assert code == REFUSED and "is there already" in said
    assert tree(fresh) == {there: b"mine"}
    code, said = limpet("backup", backed_up, tmp_path / "none")
    assert code == NO_BROKER


def test_who_comes_in_between_keeps_his_file(backed_up, tmp_path, monkeypatch):
    """The last moment: a key appears after the look, and all that was placed goes again."""
    fresh = tmp_path / "fresh"
    entries = backup.unseal(backed_up, Secret(PASSPHRASE.encode()))
    monkeypatch.setattr(backup, "vacant", lambda folder: (fresh / "ledger.db").write_bytes(b"his"))
    fresh.mkdir()
    with pytest.raises(KitError, match="Nothing was restored"):
        backup.restore(entries, fresh / "broker")
    assert tree(fresh) == {"ledger.db": b"his"}


def test_a_backup_that_is_not_made(home, broker_factory, limpet, tmp_path):
    folder = broker_factory("embedded", start=False).settings.folder
    file = tmp_path / "all.backup"
    assert limpet("backup", file, folder, typed="short")[0] == REFUSED
    assert limpet("backup", file, folder, typed="")[0] == REFUSED
    assert not file.exists()
    file.write_bytes(b"mine")
    assert limpet("backup", file, folder)[0] == USAGE
    assert file.read_bytes() == b"mine"


def test_the_passphrase_is_asked_for_twice_without_echo(home, broker_factory, tmp_path):
    folder = broker_factory("embedded", start=False).settings.folder
    for second, code in (("another that is long", USAGE), (PASSPHRASE, OK)):
        ours, theirs = pty.openpty()
        child = subprocess.Popen(
            [sys.executable, "-m", "limpet_kit", "broker", "backup", tmp_path / "a", folder],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # getpass asks /dev/tty
        )  # fmt: skip
        os.close(theirs)
        said = b""
        for question, answer in ((b"more): ", PASSPHRASE), (b"once more: ", second)):
            while not said.endswith(question):
                said += os.read(ours, 1024)
            os.write(ours, answer.encode() + b"\n")
        try:
            while part := os.read(ours, 1024):
                said += part
        except OSError:  # Linux: the other side has gone
            pass
        assert child.wait(20) == code, said
        assert PASSPHRASE.encode() not in said and second.encode() not in said
        os.close(ours)

"""Enrolment of simulated boards: to the end, cut at each step on both sides, and refused."""

import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from limpet_kit import arrival, cli, enrolment, install, registry, sim, wifi
from limpet_kit.board import Board
from limpet_kit.broker import accounts, export
from limpet_kit.broker.client import KitClient
from limpet_kit.errors import (
    ENROLLED,
    FAILED,
    INTERRUPTED,
    NO_BOARD,
    NO_BROKER,
    NO_NETWORK,
    NOT_ONLINE,
    OK,
    USAGE,
)
from limpet_kit.ledger import ACTIVE, GONE, NEW, REGISTERED, Ledger
from limpet_kit.watch import Watch

CUT = Path(__file__).resolve().parents[1] / "rig" / "cut.py"
KEY = "correct horse battery"
NETWORKS = f"home\n{KEY}\nworkshop\n{KEY}2\n"
KILLED = -9
STEPS = ("hello", "drawn", "sent", "committed", "reset", "proved", "registered", "started")


def ready(made):
    """The simulated board, with library and application on it."""
    with Board(f"sim:{made.name}") as opened:
        install.library(opened, lambda done, total: None)
        install.application(opened)
    return made


@pytest.fixture
def board(sim_factory):
    return ready(sim_factory())


@pytest.fixture
def broker(broker_factory):
    return broker_factory("embedded")


def enroll(board, broker, *options, at="end", who="nobody", networks=NETWORKS, code=OK):
    """One run of `limpet enroll` in a process of its own; what it said."""
    variables = {**os.environ, "LIMPET_WIFI": networks}
    if networks is None:
        del variables["LIMPET_WIFI"]
    done = subprocess.run(
        [sys.executable, CUT, f"sim:{board.name}", broker.settings.folder, at, who, *options],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**variables, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def rows():
    with Ledger() as ledger:
        return ledger.units(gone=True)


def exported(broker):
    """Accounts of devices in the broker's files."""
    names = export.read(broker.settings.folder)
    return {n for n in names if not n.startswith((accounts.KIT_PREFIX, accounts.PROBE_PREFIX))}


def online_as(broker, *names):
    """The ledger holds exactly these units, all ACTIVE, and the broker exactly their accounts."""
    units = [unit for unit in rows() if unit.state != GONE]
    assert sorted((u.name, u.state, u.replaces) for u in units) == [
        (name, ACTIVE, None) for name in sorted(names)
    ]
    with Ledger() as ledger:
        assert exported(broker) == {ledger.account(unit.vault) for unit in units}


def vaults(board):
    with Board(f"sim:{board.name}") as opened:
        return [slot.vault for slot in enrolment.look(opened).slots]


# -- to the end


@pytest.mark.mosquitto
def test_a_board_is_enrolled_and_online(board, broker_factory):
    broker = broker_factory("mosquitto")
    said = enroll(board, broker, "--name", "lamp-1", "--json")
    result = json.loads(said.splitlines()[[x[:1] for x in said.splitlines()].index("{")])
    assert result["ok"] and result["name"] == "lamp-1" and result["state"] == ACTIVE
    online_as(broker, "lamp-1")
    unit = rows()[0]
    assert (unit.profile, unit.generation, unit.broker) == ("binary", 1, broker.settings.kit)
    assert vaults(board) == [unit.vault]
    said = enroll(board, broker, code=ENROLLED)
    assert "is enrolled already: it is lamp-1" in said and "--replace lamp-1" in said
    assert len(rows()) == 1


def test_the_record_holds_what_it_should(board, broker):
    said = enroll(board, broker)
    assert "unit-1 is enrolled and online" in said
    with Board(f"sim:{board.name}") as opened:
        code = (
            "from limpet.vault import Vault\nr=Vault().read()\n"
            "print([bytes(x) for x in r.all(11)], [bytes(r.one(n)) for n in (9, 2, 1)])"
        )
        said = opened.exec(code)
    assert f"b'\\x04home{KEY}', b'\\x08workshop{KEY}2'" in said
    assert f"[b'127.0.0.1:{broker.settings.port}', b'\\x02', b'unit-1']" in said


# -- cut at each step


@pytest.mark.parametrize("who", ["kit", "board"])
@pytest.mark.parametrize("at", STEPS)
def test_a_cut_enrolment_is_finished_by_the_next_run(at, who, board, broker):
    name = sim.find(board.name)
    # Past `reset` and before `started` a board that dies is not needed: the ledger and the
    # broker go on, and only the start misses it.
    code = KILLED if who == "kit" else NO_BOARD
    if who == "board" and at == "started":
        code = NOT_ONLINE
    enroll(board, broker, "--wait", "1", at=at, who=who, code=code)
    cut = {unit.state for unit in rows()}
    assert cut <= {NEW, "PROVED", REGISTERED}
    if at in ("hello", "drawn", "sent", "committed", "reset"):
        assert not exported(broker), "no broker may know an account that was not proved"
    sim.start(name.name)
    enroll(board, broker)
    online_as(broker, "unit-1")
    assert len(rows()) == 1 and vaults(board) == [rows()[0].vault]


# Every step in make test-slow, those that differ from a first enrolment always.
_SAMPLE = {("kit", "committed"), ("kit", "online"), ("board", "registered"), ("board", "started")}


@pytest.mark.parametrize(
    ("who", "at"),
    [
        pytest.param(who, at, marks=() if (who, at) in _SAMPLE else pytest.mark.slow)
        for who in ("kit", "board")
        for at in (*STEPS, "online")
    ],
)
def test_a_cut_replacement_is_finished_by_the_same_command(at, who, board, broker):
    enroll(board, broker, "--name", "lamp-1")
    first = rows()[0]
    code = KILLED if who == "kit" else NO_BOARD
    if who == "board":
        code = {"started": NOT_ONLINE, "online": OK}.get(at, NO_BOARD)
    again = ("--replace", "lamp-1", "--yes", "--wait", "1")
    enroll(board, broker, *again, at=at, who=who, code=code)
    with Ledger() as ledger:
        if ledger.unit(first.vault).state != GONE:
            assert ledger.account(first.vault) in exported(broker), "the old one still works"
    sim.start(board.name)
    if code != OK:
        enroll(board, broker, *again[:3])
        online_as(broker, "lamp-1")
        second = next(unit for unit in rows() if unit.state == ACTIVE)
        assert second.vault != first.vault and second.generation == 2
        assert vaults(board) == [second.vault]
    assert [unit.state for unit in rows() if unit.vault == first.vault] == [GONE]


def test_a_cut_in_the_middle_of_e7_is_finished(board, broker, monkeypatch):
    """The old unit is GONE in the ledger, its account still at the broker."""
    enroll(board, broker, "--name", "lamp-1")
    monkeypatch.setenv("LIMPET_WIFI", NETWORKS)
    plan = enrolment.Plan(wifi.networks, replace="lamp-1")
    kept = registry.sync

    def stop(*arguments):
        raise KeyboardInterrupt

    with Ledger() as ledger, Board(f"sim:{board.name}") as opened:
        unit = enrolment.enroll(opened, ledger, broker.settings, plan, lambda *_: None)
        monkeypatch.setattr(registry, "sync", stop)
        with pytest.raises(KeyboardInterrupt):
            enrolment.activate(opened, ledger, broker.settings, unit, lambda *_: None, 10)
    monkeypatch.setattr(registry, "sync", kept)
    assert len(exported(broker)) == 2
    enroll(board, broker, "--replace", "lamp-1", "--yes")
    online_as(broker, "lamp-1")


def test_units_that_log_in_when_nobody_waits_are_known_to_the_next_command(
    board, broker, sim_factory
):
    """One is new, one takes the place of another, and one is still in its box."""
    spare, second, third = (ready(sim_factory()) for _ in range(3))
    enroll(board, broker, "--name", "lamp-1")
    enroll(third, broker, "--name", "lamp-3", "--no-start")
    enroll(spare, broker, "--replace", "lamp-1", "--yes", "--wait", "0", code=NOT_ONLINE)
    enroll(second, broker, "--name", "lamp-2", "--wait", "0", code=NOT_ONLINE)
    assert len(exported(broker)) == 4
    late = [unit for unit in rows() if unit.state == REGISTERED and unit.name != "lamp-3"]
    with KitClient(broker.settings) as client:
        client.subscribe("limpet/+/kit/ack")
        for unit in late:
            assert client.wait(lambda _, payload, unit=unit: arrival.is_its(unit, payload), 30)
    where = ("--broker", str(broker.settings.folder))
    assert cli.main(["rotate", "lamp-3", *where]) == USAGE
    assert sorted((u.name, u.state) for u in rows() if u.state != GONE) == [
        ("lamp-1", ACTIVE),
        ("lamp-2", ACTIVE),
        ("lamp-3", REGISTERED),
    ]
    assert len(exported(broker)) == 3
    assert cli.main(["rotate", "--all", *where]) == OK


# -- replacing and refusing


@pytest.mark.mosquitto
def test_a_new_board_takes_the_place_of_a_broken_one(board, broker_factory, sim_factory):
    broker = broker_factory("mosquitto")
    enroll(board, broker, "--name", "lamp-1")
    spare = ready(sim_factory())
    said = enroll(spare, broker, "--name", "lamp-1", code=ENROLLED)
    assert "The name lamp-1 is taken" in said and len(rows()) == 1
    said = enroll(spare, broker, "--replace", "lamp-1", code=USAGE)
    assert "--yes" in said
    said = enroll(spare, broker, "--replace", "lamp-9", "--yes", code=USAGE)
    assert "no unit lamp-9" in said and len(rows()) == 1
    enroll(spare, broker, "--replace", "lamp-1", "--yes")
    online_as(broker, "lamp-1")
    # The first one's session was ended, and its last will must not stand over the new state.
    from limpet_kit.broker.client import KitClient

    with KitClient(broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/#")
        state = kit.wait(lambda topic, payload: topic.endswith("/state"), 5)
        assert json.loads(state[1])["state"] == "online"
    # The old board is no unit any more: it may be enrolled as another.
    enroll(board, broker, "--name", "lamp-2")
    online_as(broker, "lamp-1", "lamp-2")


def test_a_unit_may_be_renamed_by_replacing_it(board, broker):
    enroll(board, broker, "--name", "lamp-1")
    enroll(board, broker, "--replace", "lamp-1", "--name", "lamp-2", "--yes")
    online_as(broker, "lamp-2")
    from limpet_kit.broker.client import KitClient

    with KitClient(broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/#")
        assert kit.wait(lambda topic, payload: topic.startswith("limpet/lamp-1/"), 1) is None


def test_ledger_rename(board, broker, sim_factory):
    """Only the board that has the name, only to a free one, and finished where it was cut."""

    def rename(port, old, new, code=OK):
        where = ["--broker", broker.settings.folder]
        done = subprocess.run(
            [sys.executable, "-m", "limpet_kit", "ledger", "rename", old, new, port, *where],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LIMPET_WIFI": NETWORKS},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    port, spare = f"sim:{board.name}", ready(sim_factory())
    enroll(board, broker, "--name", "lamp-1")
    enroll(spare, broker, "--name", "lamp-2")
    assert "is lamp-2, not lamp-1" in rename(f"sim:{spare.name}", "lamp-1", "lamp-3", ENROLLED)
    with Watch(broker.settings, "lamp-2") as watch:  # its program runs again
        assert watch.answers(30) is not None
    assert "lamp-2 is taken" in rename(port, "lamp-1", "lamp-2", ENROLLED)
    assert "already" in rename(port, "lamp-1", "lamp-1", USAGE)
    assert "no unit lamp-9" in rename(port, "lamp-9", "lamp-3", USAGE)
    online_as(broker, "lamp-1", "lamp-2")
    with Ledger() as ledger, ledger._transaction():
        ledger._db.execute("INSERT INTO person VALUES ('anna', '', 0, 0)")
        ledger._db.execute("INSERT INTO person_device VALUES ('anna', 'lamp-1')")
    assert "lamp-1 is lamp-3 now" in rename(port, "lamp-1", "lamp-3")
    with Ledger() as ledger:
        assert ledger._devices("anna") == ["lamp-3"]
    online_as(broker, "lamp-2", "lamp-3")
    cut = ("--replace", "lamp-3", "--name", "lamp-4", "--yes")
    enroll(board, broker, *cut, at="registered", who="kit", code=KILLED)
    assert "lamp-3 is lamp-4 now" in rename(port, "lamp-3", "lamp-4")
    online_as(broker, "lamp-2", "lamp-4")


def test_another_ledgers_board_is_taken_over_only_when_told(board, broker, home, monkeypatch):
    enroll(board, broker, "--name", "lamp-1")
    for file in ("ledger.db", "kit.key"):
        (home / file).unlink()
    said = enroll(board, broker, code=ENROLLED)
    assert "not in this ledger" in said and "--force" in said and not rows()
    (broker.settings.folder / "passwords").unlink()  # that ledger's accounts are not ours
    enroll(board, broker, "--force", "--name", "lamp-7")
    online_as(broker, "lamp-7")


def test_a_mistyped_key_is_mended_by_beginning_anew(board, broker):
    board.configure(networks={"home": KEY})
    said = enroll(board, broker, "--wait", "1", networks="home\nwrong horse battery\n", code=9)
    assert "mistyped" in said and "--force" in said
    assert rows()[0].state == REGISTERED
    said = enroll(board, broker, "--name", "other", code=ENROLLED)
    assert "was cut" in said
    enroll(board, broker, "--force")
    online_as(broker, "unit-1")
    assert len(rows()) == 2


def test_a_missing_network_and_bad_ones_are_told_before_anything_is_written(board, broker):
    said = enroll(board, broker, networks=None, code=NO_NETWORK)
    assert "needs a Wi-Fi network" in said
    said = enroll(board, broker, networks="home\nshort\n", code=NO_NETWORK)
    assert "line 2 of LIMPET_WIFI" in said and "8 to 63" in said and "short" not in said
    shifted = f"my networks\nhome\n{KEY}\nhome-2\n"
    said = enroll(board, broker, networks=shifted, code=NO_NETWORK)
    assert KEY not in said
    said = enroll(board, broker, networks="x" * 33 + "\n" + KEY, code=NO_NETWORK)
    assert "32 bytes" in said
    assert not rows() and vaults(board) == []
    board.configure(cable=True)
    enroll(board, broker, "--no-wifi", networks=None)


def test_a_broker_that_is_missing_or_down(board, broker, tmp_path):
    broker.stop()
    said = enroll(board, broker, code=NO_BROKER)
    assert "limpet broker run" in said
    assert [unit.state for unit in rows()] == [REGISTERED]
    broker.start()
    enroll(board, broker)
    online_as(broker, "unit-1")


def test_a_board_without_library_or_program(sim_factory, broker):
    blank = sim_factory()
    said = enroll(blank, broker, code=FAILED)
    assert f"limpet up sim:{blank.name}" in said and not rows()
    with Board(f"sim:{blank.name}") as opened:
        install.library(opened, lambda done, total: None)
    said = enroll(blank, broker, code=FAILED)
    assert "no program on the board" in said
    assert [unit.state for unit in rows()] == [REGISTERED]
    enroll(blank, broker, "--no-start")  # it is enrolled; only its program is missing


def test_a_board_without_room(board, broker):
    with Board(f"sim:{board.name}") as opened:
        opened.exec(
            "f=open('/fill','wb')\nb=bytes(4096)\n"
            "try:\n while 1:\n  f.write(b)\n  f.flush()\nexcept OSError: pass\nf.close()",
            timeout_s=60,
        )
    said = enroll(board, broker, code=4)
    assert "no room" in said and not exported(broker) and not rows()
    with Board(f"sim:{board.name}") as opened:
        opened.remove("/fill")
    enroll(board, broker)
    online_as(broker, "unit-1")


def test_ctrl_c_leaves_nothing_behind(board, broker, monkeypatch):
    monkeypatch.setenv("LIMPET_WIFI", NETWORKS)
    from limpet_kit import cli

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(enrolment, "_send", interrupt)
    arguments = ["enroll", f"sim:{board.name}", "--broker", str(broker.settings.folder)]
    assert cli.main(arguments) == INTERRUPTED
    monkeypatch.undo()
    assert not exported(broker)


# -- no secret outside


def forms(secret):
    """How a secret might be written down."""
    return {secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")}


@pytest.mark.mosquitto
def test_secrets_are_nowhere_but_on_the_board(board, broker_factory, home, monkeypatch):
    broker = broker_factory("mosquitto")
    drawn = []
    draw = accounts.draw_password
    monkeypatch.setattr(
        accounts, "draw_password", lambda profile: drawn.append(draw(profile)) or drawn[-1]
    )
    wifi_key = secrets.token_hex(16)  # other tests run beside this one, with keys of theirs
    networks = wifi.parse(f"home\n{wifi_key}\n", "test")
    said, arguments = [], []

    def step(name, words):
        said.append(words)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments.append((process / "cmdline").read_bytes())
                arguments.append((process / "environ").read_bytes())
            except OSError:
                pass

    plan = enrolment.Plan(lambda: networks, name="lamp-1")
    with Ledger() as ledger, Board(f"sim:{board.name}") as opened:
        unit = enrolment.enroll(opened, ledger, broker.settings, plan, step)
        enrolment.activate(opened, ledger, broker.settings, unit, step, 10)
    control = enrolment.protocol.control_key(
        enrolment.kitkey.load().secret, bytes.fromhex(unit.vault)
    )
    device = next(p for p in drawn if len(p) == 32)
    flash = board.folder  # it is the board, not the host
    files = [f for top in (home, broker.settings.folder) for f in top.rglob("*") if f.is_file()]
    files = [f for f in files if flash not in f.parents]
    assert any(f.name == "ledger.db" for f in files) and len(files) > 8
    places = [b"\n".join(arguments), "\n".join(said).encode(), *(f.read_bytes() for f in files)]
    for secret in (device.reveal(), wifi_key.encode(), control.reveal()):
        for form in forms(secret):
            assert not any(form in place for place in places)
    # The search finds what is there: the kit key is in its own file, once.
    kit_key = enrolment.kitkey.load().secret.reveal()
    assert sum(kit_key in place for place in places) == 1


def test_two_kits_at_once_keep_both_units(board, broker, sim_factory):
    other = ready(sim_factory())
    variables = {**os.environ, "LIMPET_WIFI": NETWORKS}
    variables["PYTHONPATH"] = os.pathsep.join(map(str, sys.path))
    running = [
        subprocess.Popen(
            [
                sys.executable,
                CUT,
                f"sim:{one.name}",
                broker.settings.folder,
                "end",
                "nobody",
                *("--name", f"lamp-{one.name}"),
            ],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for one in (board, other)
    ]
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == OK, out
    online_as(broker, f"lamp-{board.name}", f"lamp-{other.name}")

"""What `limpet status` says of boards that are there, and of units and their brokers."""

import json
from types import SimpleNamespace

import pytest
from limpet_kit import cli, plugged
from limpet_kit.board import Board
from limpet_kit.errors import NO_BOARD, OK, REFUSED


@pytest.fixture
def no_ports(monkeypatch):
    monkeypatch.setattr(plugged.list_ports, "comports", list)


def status(capsys, *arguments):
    assert cli.main(["status", *arguments, "--json"]) == OK
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_a_unit_its_broker_and_its_port(sim_factory, broker_factory, no_ports, capsys):
    broker, board = broker_factory("embedded"), sim_factory()
    port = f"sim:{board.name}"
    where = ["--broker", str(broker.settings.folder)]
    assert cli.main(["up", port, "--name", "lamp-1", *where]) == OK
    capsys.readouterr()
    said, words = status(capsys, *where)
    (unit,), (found,) = said["units"], said["boards"]
    assert (unit["link"], unit["server"], unit["port"]) == ("online", broker.settings.server, port)
    assert found["unit"] == "lamp-1" and "its number is that of lamp-1" in words
    assert "limpet up" not in " ".join(said["next"])  # nothing is left to be enrolled
    said, words = status(capsys, "--probe", *where)
    assert "MicroPython 1." in words and "enrolled, as lamp-1, ACTIVE" in words
    board.kill()
    broker.kill()
    said, words = status(capsys, *where)
    assert said["units"][0]["link"].startswith("not asked: ")
    assert said["boards"][0]["why_not"] == f"limpet sim start {board.name}"


def test_a_blank_board_is_asked_for_its_chip(blank_board, capsys):
    board = blank_board("ESP32_GENERIC_S3", b"\0")
    said, words = status(capsys, str(board.port))
    assert (said["boot"], said["chip"], said["flash"]) == ("boot ROM", "esp32s3", 4 << 20)
    assert said["fits"] == ["ESP32_GENERIC_S3"] and f"limpet up {board.port}" in words


def test_a_board_without_a_file_system_is_told(sim_factory, broker_factory, capsys):
    """An ESP32 says 'filesystem appears to be corrupted' for ever, and mounts none."""
    broker, board = broker_factory("embedded"), sim_factory()
    with Board(f"sim:{board.name}") as opened:
        opened.put("/boot.py", b"import os\nos.umount('/')\n")
    where = ["--broker", str(broker.settings.folder)]
    assert cli.main(["up", f"sim:{board.name}", *where]) == NO_BOARD
    said = capsys.readouterr().err
    assert "appears to be corrupted" in said and "--erase" in said


def test_a_board_with_another_chip_than_was_named_is_left_alone(
    sim_factory, broker_factory, capsys
):
    broker, board = broker_factory("embedded"), sim_factory()
    where = ["--broker", str(broker.settings.folder)]
    code = cli.main(["up", f"sim:{board.name}", "--board", "ESP32_GENERIC_S3", *where])
    assert code == REFUSED and "which is no ESP32_GENERIC_S3" in capsys.readouterr().err
    with Board(f"sim:{board.name}") as opened:
        assert opened.names("/lib") == []


def test_a_number_alone_never_selects_a_unit_to_replace(
    sim_factory, broker_factory, no_ports, capsys
):
    """Another board with the same number, its flash chip copied: a unit of its own, and shown."""
    broker, board = broker_factory("embedded"), sim_factory()
    where = ["--broker", str(broker.settings.folder)]
    assert cli.main(["up", f"sim:{board.name}", "--name", "lamp-1", *where]) == OK
    board.kill()
    twin = sim_factory()
    twin.kill()
    mine, other = (one.folder / "board.json" for one in (board, twin))
    number = json.loads(mine.read_text())["unique_id"]
    other.write_text(json.dumps({**json.loads(other.read_text()), "unique_id": number}))
    assert cli.main(["up", f"sim:{twin.name}", *where]) == OK
    capsys.readouterr()
    said, _ = status(capsys, *where)
    assert sorted((u["name"], u["state"], u["replaces"]) for u in said["units"]) == [
        ("lamp-1", "ACTIVE", None),
        ("unit-1", "ACTIVE", None),
    ]


def test_what_a_port_says_of_itself_is_bounded_and_printable(monkeypatch, home):
    port = SimpleNamespace(
        device="/dev/null",
        vid=1,
        pid=2,
        description="x\x1b]0;evil\x07" * 50,
        serial_number="\n" * 9,
    )
    monkeypatch.setattr(plugged.list_ports, "comports", lambda: [port])
    (found,) = plugged.boards([])
    assert len(found.what) <= 60 and found.what.isprintable() and not found.unit

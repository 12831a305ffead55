"""From a blank board to a unit online by one command: the real esptool on a mock boot ROM, a UF2
file on a folder that looks like a BOOTSEL drive, then a simulated board. No hardware."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from limpet_kit import blank as blank_module
from limpet_kit import boards, bringup, cli, firmware, flash, line, ports
from limpet_kit.blank import Wish, fill
from limpet_kit.console import Console
from limpet_kit.errors import FAILED, NO_BOARD, NO_SPACE, OK, REFUSED, USAGE, KitError
from limpet_kit.ports import holder
from rig.blank import esp_image, uf2_image
from serial.tools import list_ports

ESP = ("ESP32_GENERIC", "ESP32_GENERIC_S3", "ESP32_GENERIC_C3", "ESP32_GENERIC_C6")
RP2 = ("RPI_PICO_W", "RPI_PICO2_W")
WIFI = "home\ncorrect horse\n"


@pytest.fixture
def broker(broker_factory, monkeypatch):
    monkeypatch.setenv("LIMPET_WIFI", WIFI)
    return broker_factory("embedded")


def image_of(name, **options):
    board = boards.load(name)
    if board.boot.method == "esptool":
        return esp_image(board, **options)
    return uf2_image(board, **options)


@pytest.fixture
def blank(blank_board, tmp_path):
    """`blank(name)` -> (a blank board, the file with the firmware that it waits for)."""

    def make(name, **options):
        ends = ".bin" if name in ESP else ".uf2"
        file = tmp_path / f"{name}-ä-v1.29.0{ends}"
        file.write_bytes(image_of(name, **options))
        return blank_board(name, file.read_bytes()), file

    return make


def command(verb, board, file, *options, broker=None):
    more = ["--broker", str(broker.settings.folder), "--name", "lamp-1"] if broker else []
    return [verb, str(board.port), "--firmware", str(file), "--json", *more, *options]


def run(capsys, *arguments, **options):
    """(exit code, what stdout and stderr got)."""
    code = cli.main(command(*arguments, **options))
    said = capsys.readouterr()
    return code, said.out, said.err


def is_online(code, out, err, board):
    assert code == OK, err
    said = json.loads(out)
    assert said["flashed"] and said["enrolled"] and said["port"] == str(board.port)
    assert "MicroPython 1.29.0 answers" in err and "lamp-1 is online" in err


# -- to the end


# The first and the last chip; those between differ by a number (boards/README.md).
@pytest.mark.parametrize(
    "name", [ESP[0], *(pytest.param(n, marks=pytest.mark.slow) for n in ESP[1:-1]), ESP[-1]]
)
def test_a_blank_esp32_is_online_by_one_command(name, blank, broker, capsys):
    board, file = blank(name)
    code, out, err = run(capsys, "up", board, file, broker=broker)
    is_online(code, out, err, board)
    assert f": {name}" in err and "and read back" in err  # found by its chip


@pytest.mark.parametrize("name", RP2)
def test_a_board_at_bootsel_is_online_by_one_command(name, blank, broker, capsys):
    board, file = blank(name)
    options = ("--board", name, "--drive", str(board.drive))
    code, out, err = run(capsys, "up", board, file, *options, broker=broker)
    is_online(code, out, err, board)


def test_an_rp2_with_micropython_goes_to_its_boot_mode_by_itself(blank, sim_factory, capsys):
    board, file = blank("RPI_PICO_W")
    (board.drive / "INFO_UF2.TXT").unlink()
    old = sim_factory()
    board.port.symlink_to(old.device)
    board.when_off(old)
    options = ("--board", "RPI_PICO_W", "--drive", str(board.drive))
    code, out, err = run(capsys, "flash", board, file, *options)
    assert code == OK, err
    assert json.loads(out)["micropython"] == "1.29.0" and board.became.is_set()


@pytest.mark.parametrize("known", [True, False])
def test_a_line_flashes_what_shows_its_drive(known, blank, broker, monkeypatch, tmp_path):
    """A board held at BOOTSEL has no port: its drive is written to, and its port is next."""
    board, file = blank("RPI_PICO_W")
    if known:
        firmware.pin(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), new=True)

    def drives(kind=None):
        there = (board.drive / "INFO_UF2.TXT").exists()
        return [(board.drive, "RPI-RP2")] if there else []

    monkeypatch.setattr(flash, "drives", drives)
    monkeypatch.setattr(ports, "of_boards", lambda: [str(board.port)] * board.became.is_set())
    work, said = line.Run(tmp_path / "run"), []
    flashing = ["--board", "RPI_PICO_W", "--firmware", str(file), "--locked"]
    options = ["--broker", str(broker.settings.folder), "--prefix", "lamp", *flashing]
    stopped = line.watch(
        work,
        options,
        dict(os.environ),
        2,
        lambda port, record: said.append((port, record and record.ok)),
        count=1,
        flashing=flashing,
    )
    assert not stopped
    drive, port = str(board.drive), str(board.port)
    if known:
        assert list(work.online) == ["lamp-1"] and not work.apart, work.records
        assert said == [(drive, None), (drive, True), (port, None), (port, True)]
    else:
        assert [record.port for record in work.apart] == [drive] and not work.online
        assert "is not in firmware.lock" in work.apart[0].words


# -- refused


def test_firmware_that_is_not_right_for_the_board_is_refused(blank, tmp_path, capsys):
    board, file = blank("ESP32_GENERIC_S3")
    good = file.read_bytes()
    middle = len(good) - 5000
    bad = tmp_path / "bad.bin"
    for content, options, code, words in (
        (good[:middle] + b"?" + good[middle + 1 :], (), FAILED, "damaged"),
        (good[:middle], (), FAILED, "cut off"),
        (image_of("ESP32_GENERIC_C3"), (), REFUSED, "for esp32c3"),
        (image_of("ESP32_GENERIC_C3"), ("--board", "ESP32_GENERIC_C3"), REFUSED, "has an esp32s3"),
        (image_of("ESP32_GENERIC_S3", flash_code=3), (), REFUSED, "8 MiB of flash"),
    ):
        bad.write_bytes(content)
        got, _, err = run(capsys, "flash", board, bad, *options)
        assert (got, words in err) == (code, True), err
    assert board.flash.written == 0


def test_another_program_is_written_over_only_with_leave(blank):
    board, file = blank("ESP32_GENERIC_C3")
    board.flash.data[:5] = b"\xe9SHOP"
    asked = []

    def begin(leave):
        wish = Wish(firmware=str(file), agreed=lambda question: asked.append(question) or leave)
        return fill(str(board.port), wish, Console(), lambda name, words: None)

    with pytest.raises(KitError, match="--yes") as e:
        begin(False)
    assert e.value.code == REFUSED and board.flash.written == 0
    assert begin(True).board.name == "ESP32_GENERIC_C3"
    assert len(asked) == 2 and board.became.is_set()


# -- cut, and again


def start(board, file, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "limpet_kit", *command("flash", board, file, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("victim", ["kit", "esptool"])
@pytest.mark.parametrize(
    "blocks", [pytest.param(0, marks=pytest.mark.slow), 3, pytest.param(7, marks=pytest.mark.slow)]
)
def test_a_write_that_was_killed_goes_on(victim, blocks, blank):
    board, file = blank("ESP32_GENERIC_C6", size=150_000)
    kit = None

    def kill(written):
        nonlocal kit
        if kit and written == blocks:
            esptool = int(holder(os.readlink(board.port)).split()[-1].rstrip(")"))
            os.kill(kit.pid if victim == "kit" else esptool, signal.SIGKILL)
            kit, board.flash.on_block = None, lambda written: None

    board.flash.on_block = kill
    running = kit = start(board, file)
    said = running.communicate(timeout=30)[0].decode()
    assert running.returncode == (-9 if victim == "kit" else FAILED), said
    assert not board.became.is_set()
    until = time.monotonic() + 10  # its esptool outlives a killed kit by a moment
    while holder(os.readlink(board.port)) and time.monotonic() < until:
        time.sleep(0.05)
    # As `up` does it: it would ask before it writes over another program, and this is our own.
    done = fill(str(board.port), Wish(firmware=str(file)), Console(), lambda name, words: None)
    assert done.about.version == "1.29.0" and board.became.is_set()


# -- a cable pulled, a port renamed


def test_a_cable_pulled_in_any_phase_is_told_and_the_same_command_goes_on(
    blank, capsys, monkeypatch
):
    board, file = blank("ESP32_GENERIC_C6", size=60_000)
    board.pull()
    code, _, err = run(capsys, "flash", board, file)
    assert code == NO_BOARD and "There is no port" in err
    board.plug()

    def pull(blocks):
        if blocks == 2:
            board.flash.on_block = lambda blocks: None
            board.pull()

    board.flash.on_block = pull
    code, _, err = run(capsys, "flash", board, file)
    assert code in (NO_BOARD, FAILED) and "run the same command again" in err
    board.plug()

    def esptool_then_pull(*arguments, **options):
        write(*arguments, **options)
        assert board.became.wait(30)
        board.port.unlink()

    write = flash.esptool
    with monkeypatch.context() as patched:
        patched.setattr(flash, "esptool", esptool_then_pull)
        patched.setattr("limpet_kit.blank.PROMPT_S", 0.5)
        code, _, err = run(capsys, "flash", board, file)
    assert code == NO_BOARD and "The firmware is written, but no MicroPython answers" in err


def test_a_board_may_come_back_under_another_name(monkeypatch, tmp_path):
    board = boards.load("RPI_PICO_W")

    def plugged(*names):
        ports = [SimpleNamespace(device=name, vid=0x2E8A, pid=5) for name in names]
        monkeypatch.setattr(list_ports, "comports", lambda: ports)
        return blank_module._candidates(str(tmp_path / "ttyACM0"), {"/dev/ttyACM7"}, board)

    assert plugged("/dev/ttyACM7") == []  # another board: it was there before
    assert plugged("/dev/ttyACM7", "/dev/ttyACM1") == ["/dev/ttyACM1"]
    with pytest.raises(KitError, match="several boards came") as e:
        plugged("/dev/ttyACM1", "/dev/ttyACM2")
    assert e.value.code == NO_BOARD
    with pytest.raises(KitError, match="name one: /dev/ttyACM1, /dev/ttyACM2") as e:
        bringup.find()
    assert e.value.code == USAGE


def test_a_full_drive_is_told(blank, capsys):
    board, file = blank("RPI_PICO")
    (board.drive / "firmware.uf2").symlink_to("/dev/full")
    options = ("--board", "RPI_PICO", "--drive", str(board.drive))
    code, _, err = run(capsys, "flash", board, file, *options)
    assert code == NO_SPACE and "0 of 20480 bytes" in err and "unharmed" in err
    (board.drive / "firmware.uf2").unlink()
    options = ("--board", "RPI_PICO_W", "--drive", str(board.drive))
    assert run(capsys, "flash", board, file, *options)[0] == OK

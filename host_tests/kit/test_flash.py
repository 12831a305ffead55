"""Firmware: fetched and pinned, checked, written by the real esptool to a mock boot ROM, and as
UF2 to a folder that looks like a BOOTSEL drive. No hardware."""

import dataclasses
import hashlib
import http.server
import os
import struct
import threading

import pytest
from limpet_kit import boards, cli, firmware, flash, paths
from limpet_kit.errors import FAILED, NO_BOARD, NO_SPACE, OK, REFUSED, USAGE, KitError
from rig.blank import Wire, esp_image, uf2_image

ESP = ("ESP32_GENERIC", "ESP32_GENERIC_S3", "ESP32_GENERIC_C3", "ESP32_GENERIC_C6")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "home"))


def nothing(done, total):
    pass


def test_a_port_without_a_boot_rom_is_told(tmp_path, capsys):
    board = boards.load("ESP32_GENERIC")
    file = tmp_path / "f.bin"
    file.write_bytes(esp_image(board))
    wire = Wire()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("limpet_kit.flash._ATTEMPTS", "1")
        assert cli.main(["flash", wire.path, "--firmware", str(file)]) == NO_BOARD
    os.close(wire.master)
    said = capsys.readouterr().err
    assert "hold BOOT" in said and "run the same command again" in said
    assert cli.main(["flash", "/dev/not-there", "--board", board.name]) == NO_BOARD
    assert "There is no port" in capsys.readouterr().err
    assert cli.main(["flash", "--board", board.name]) == USAGE
    assert cli.main(["flash", "sim:x"]) == USAGE
    assert cli.main(["flash", "socket://127.0.0.1:9"]) == REFUSED


@pytest.mark.parametrize("name", ESP)
def test_images_that_are_not_for_this_board(name):
    board = boards.load(name)
    good = esp_image(board)
    firmware.check(board, good)
    other = "esp32s3" if board.boot.chip != "esp32s3" else "esp32"
    middle = 0x10000 - board.boot.offset + 4000
    for bad, code, words in (
        (esp_image(board, other), REFUSED, f"for {other}"),
        (good[:-3000], FAILED, "cut off"),
        (good[:100], FAILED, "cut off"),
        (b"", FAILED, "no bootloader"),
        (b"<html>" * 9000, FAILED, "no bootloader"),
        (good[:middle] + b"\0\1\2" + good[middle + 3 :], FAILED, "damaged"),
        (good + bytes(board.flash.size), FAILED, "no room"),
    ):
        with pytest.raises(KitError, match=words) as e:
            firmware.check(board, bad)
        assert e.value.code == code


@pytest.mark.parametrize("name", ["RPI_PICO", "RPI_PICO_W", "RPI_PICO2_W"])
def test_a_uf2_goes_onto_the_drive(name, tmp_path, capsys):
    board = boards.load(name)
    drive, file = tmp_path / "drive ä", tmp_path / "f.uf2"
    drive.mkdir()
    file.write_bytes(uf2_image(board))
    arguments = ["flash", "--board", name, "--firmware", str(file), "--drive", str(drive)]
    arguments.append("--no-wait")
    assert cli.main(arguments) == NO_BOARD
    assert "hold BOOTSEL" in capsys.readouterr().err
    (drive / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\r\nBoard-ID: OTHER\r\n")
    assert cli.main(arguments) == REFUSED
    (drive / "INFO_UF2.TXT").write_text(
        f"UF2 Bootloader v3.0\r\nModel: x\r\nBoard-ID: {board.boot.drive}\r\n"
    )
    assert cli.main(arguments) == OK
    assert (drive / "firmware.uf2").read_bytes() == file.read_bytes()


def test_picotool_is_called_where_no_drive_is_mounted(tmp_path, monkeypatch):
    """Not the real one, which is in no registry: what it is called with, and how it fails."""
    tool = tmp_path / "picotool"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexec sh {tmp_path}/then\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    board, then = boards.load("RPI_PICO_W"), tmp_path / "then"
    then.write_text("exit 0")
    flash.uf2(board, None, tmp_path / "f.uf2")
    assert (tmp_path / "said").read_text() == f"load -v -x {tmp_path}/f.uf2\n"
    then.write_text("echo ERROR: No accessible RP2040 devices; exit 1")
    with pytest.raises(KitError, match="No accessible RP2040 devices To go on: hold BOOTSEL"):
        flash.uf2(board, None, tmp_path / "f.uf2")


def test_uf2_files_that_are_not_for_this_board():
    board = boards.load("RPI_PICO_W")
    good = uf2_image(board)
    firmware.check(board, good)
    far = bytearray(good)
    struct.pack_into("<I", far, 512 + 12, 0x10000000 + board.flash.size)
    for bad, code, words in (
        (uf2_image(board, family=0xE48BFF59), REFUSED, "family"),
        (good[:-512], FAILED, "missing"),
        (good[512:], FAILED, "missing"),
        (good[:-7], FAILED, "cut off"),
        (b"", FAILED, "cut off"),
        (bytes(512), FAILED, "damaged"),
        (bytes(far), FAILED, "does not lie"),
    ):
        with pytest.raises(KitError, match=words) as e:
            firmware.check(board, bad)
        assert e.value.code == code


# -- fetching


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content`, as far as `send` bytes a time, and says `length` when it is set."""

    content, send, length, ranges = b"", None, None, []

    def do_GET(self):
        start = 0
        if given := self.headers.get("Range"):
            start = int(given[6:-1])
            self.ranges.append(start)
        body = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(self.length or len(body)))
        self.end_headers()
        self.wfile.write(body[: self.send])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def served():
    """(the handler's class, a board whose firmware is fetched from it)."""
    kind = type("Once", (Server,), {"ranges": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    board = boards.load("RPI_PICO_W")
    there = dataclasses.replace(board.firmware, base=f"http://127.0.0.1:{server.server_port}/")
    yield kind, dataclasses.replace(board, firmware=there)
    server.shutdown()
    server.server_close()


def test_a_download_is_cached_pinned_and_resumed(served):
    kind, board = served
    kind.content, kind.send = uf2_image(board), 5000
    with pytest.raises(KitError, match="goes on"):
        firmware.obtain(board, None, nothing)
    kind.send = None
    file = firmware.obtain(board, None, nothing)
    assert kind.ranges == [5000] and file.read_bytes() == kind.content
    kind.content = b""
    assert firmware.obtain(board, None, nothing) == file  # not fetched again
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (paths.home() / "firmware.lock").read_text() == f"{digest}  {file.name}\n"


def test_what_is_no_firmware_is_neither_kept_nor_pinned(served):
    """A server's page about an error comes with 200 now and then."""
    kind, board = served
    kind.content, kind.send = b"<html>sorry</html>" * 100, None
    with pytest.raises(KitError, match="no UF2"):
        firmware.obtain(board, None, nothing)
    kind.content = uf2_image(board)
    assert firmware.obtain(board, None, nothing).read_bytes() == kind.content


def test_a_changed_file_is_refused(served, tmp_path):
    kind, board = served
    kind.content = uf2_image(board)
    file = firmware.obtain(board, None, nothing)
    file.unlink()
    kind.content = uf2_image(board, 41)
    with pytest.raises(KitError, match="not the file that was pinned") as e:
        firmware.obtain(board, None, nothing)
    assert e.value.code == REFUSED
    same_name = tmp_path / file.name
    same_name.write_bytes(b"x")
    with pytest.raises(KitError, match="pinned"):
        firmware.obtain(board, str(same_name), nothing)


def test_a_server_that_lies_about_the_length(served):
    kind, board = served
    kind.content = uf2_image(board)
    for length, words in ((len(kind.content) + 7, "instead of"), (1 << 40, "too large")):
        kind.length = length
        with pytest.raises(KitError, match=words):
            firmware.obtain(board, None, nothing)
    assert not list((paths.home() / "firmware").glob("*.uf2"))


def test_a_full_disk_is_told(served, monkeypatch):
    kind, board = served
    kind.content = uf2_image(board)
    firmware.obtain(board, "v0", nothing)  # makes the folder
    part = paths.home() / "firmware" / (board.firmware.pattern.format(version="v1") + ".part")
    part.symlink_to("/dev/full")
    with pytest.raises(KitError, match="no room left") as e:
        firmware.obtain(board, "v1", nothing)
    assert e.value.code == NO_SPACE


def test_what_cannot_be_fetched(served):
    _, board = served
    with pytest.raises(KitError, match="looks like"):
        firmware.obtain(board, "..%2f", nothing)
    with pytest.raises(KitError, match="no firmware file"):
        firmware.obtain(board, "./nowhere.uf2", nothing)
    huge = paths.home() / "huge.uf2"
    with open(huge, "wb") as file:
        file.truncate(firmware.LARGEST + 1)
    with pytest.raises(KitError, match="larger than any"):
        firmware.obtain(board, str(huge), nothing)
    plain = dataclasses.replace(board.firmware, base="http://firmware.example/")
    with pytest.raises(KitError, match="only https") as e:
        firmware.obtain(dataclasses.replace(board, firmware=plain), None, nothing)
    assert e.value.code == REFUSED

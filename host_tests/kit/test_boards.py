"""Board definitions: every one is well-formed, and a broken one is named."""

import dataclasses
import itertools

import pytest
from limpet_kit import boards, paths
from limpet_kit.errors import USAGE, KitError

REAL = [board for board in boards.everyone() if not board.simulated]


def test_the_boards_of_the_house_are_there():
    assert set(boards.names()) >= {
        "ESP32_GENERIC",
        "ESP32_GENERIC_S3",
        "ESP32_GENERIC_C3",
        "ESP32_GENERIC_C6",
        "RPI_PICO",
        "RPI_PICO_W",
        "RPI_PICO2_W",
        "SIM_RP2",
        "SIM_ESP32",
    }


@pytest.mark.parametrize("board", REAL, ids=lambda board: board.name)
def test_a_real_board_makes_sense(board):
    assert board.firmware.page.endswith(f"/{board.name}/")
    assert board.firmware.pattern.startswith(board.name + "-")
    vfs = board.partition("vfs")
    assert vfs.offset + vfs.size == board.flash.size
    ends = sorted((one.offset, one.offset + one.size) for one in board.partitions)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends)), "they overlap"
    assert (
        "not tried on hardware"
        in (paths.data("boards") / board.name / "board.toml").read_text().lower()
    )
    if board.port == "rp2":
        assert {"RP2350": 0xE48BFF59, "RPI-RP2": 0xE48BFF56}[board.boot.drive] == board.boot.family
    else:
        assert board.boot.offset == (0x1000 if board.boot.chip == "esp32" else 0)


def test_every_key_is_explained():
    text = (paths.data("boards") / "README.md").read_text()
    for field in dataclasses.fields(boards.Board):
        if field.name not in ("name", "simulated", "partitions"):
            assert f"`{field.name}`" in text or f"[{field.name}]" in text, field.name


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('port = "rp2"', 'prot = "rp2"', "unknown key prot"),
        ('port = "rp2"', "port = 2", "port must be str"),
        ('port = "rp2"\n', "", "port is missing"),
        ("sector = 4096", "sectors = 4096", "flash.sectors"),
        ("size = 0xD4000", "size = 0xD4001", "whole sectors"),
        ("size = 0xD4000", "size = 0xE4000", "behind the flash"),
        ('["soft"]', '["sofd"]', "sofd"),
        ('["soft"]', '"soft"', "must be a list"),
        ('"2e8a:0005"', '"2E8A:0005"', "USB id"),
        ('method = "bootsel"', 'method = "swd"', "esptool or bootsel"),
        ('drive = "RPI-RP2"\n', "", "boot.drive"),
        ('ladder = "rp2040"', 'ladder = "rp2041"', "no ladder rp2041"),
        ("{version}", "1.2", "{version}"),
        ("[flash]", "[flash", "Expected"),
    ],
)
def test_a_broken_definition_is_named(tmp_path, old, new, words):
    text = (paths.data("boards") / "RPI_PICO_W" / "board.toml").read_text()
    assert old in text
    file = tmp_path / "board.toml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(KitError) as e:
        boards.parse("RPI_PICO_W", file)
    assert words in str(e.value) and "board.toml" in str(e.value)


def test_an_unknown_board_is_told():
    with pytest.raises(KitError, match="there are ESP32_GENERIC, ") as e:
        boards.load("../evil")
    assert e.value.code == USAGE

"""The simulated flash under power cuts, wear and Ctrl-C, looked at from outside."""

import contextlib
import time

import pytest
from limpet_kit import boards, sim
from limpet_kit.board import Board
from limpet_kit.errors import KitError
from littlefs import LittleFS

CUTS = [(percent, garbled) for percent in (0, 30, 90) for garbled in (True, False)]


def attempt(board, code):
    """Run code on a board whose power may fail meanwhile; whether it came to its end."""
    with contextlib.suppress(KitError), Board(f"sim:{board.name}") as opened:
        opened.exec(code, 10)
        return True
    assert board.wait_off(5)
    return False


def mounted(board):
    """The file system in the image, read by another implementation of LittleFS."""
    definition = boards.load(board.board)
    region = definition.partition("vfs")
    size = definition.flash.sector
    fs = LittleFS(block_size=size, block_count=region.size // size, mount=False)
    image = board.image.read_bytes()[region.offset : region.offset + region.size]
    fs.context.buffer = bytearray(image)
    fs.mount()
    return fs


def content(board, path):
    fs = mounted(board)  # littlefs-python's files need it alive
    with fs.open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("kind", ["SIM_RP2", "SIM_ESP32"])
def test_a_file_is_old_or_new_at_every_cut(kind, sim_factory):
    board = sim_factory(kind)
    old, new = b"old" * 700, b"new" * 900
    with Board(f"sim:{board.name}") as opened:
        opened.put("/file", old)
    before = board.operations
    write = f"with open('/file', 'wb') as f: f.write({new!r})"
    assert attempt(board, write)
    count = board.operations - before
    assert count >= 3
    for i in range(0, count, -(-count // 6)):
        percent, garbled = CUTS[i % len(CUTS)]
        attempt(board, f"with open('/file', 'wb') as f: f.write({old!r})")
        board.cut_power(i + 1, percent, garbled)
        ended = attempt(board, write)
        if not ended:  # the operations of a write vary a little with the file system's state
            board.kill()
            assert content(board, "/file") in (old, new)
            sim.start(board.name)
        board.cut_power(0)


def test_the_cut_is_in_the_operation_it_was_set_for(sim_factory):
    board = sim_factory()
    block = 200
    at = boards.load("SIM_RP2").partition("vfs").offset + block * 4096
    for percent, garbled in CUTS:
        with Board(f"sim:{board.name}") as opened:
            opened.exec(f"import rp2\nrp2.Flash().writeblocks({block}, bytes(4096))")
        board.cut_power(2, percent, garbled)  # the erase, then this page
        assert not attempt(board, f"import rp2\nrp2.Flash().writeblocks({block}, bytes(512))")
        sector = board.image.read_bytes()[at : at + 4096]
        page, rest = sector[:256], sector[256:]
        done = 256 * percent // 100
        assert page[:done] == bytes(done) and rest == b"\xff" * len(rest)
        if garbled:
            assert set(page[done:]) - {0x00, 0xFF}
        else:
            assert page[done:] == b"\xff" * (256 - done)
        board = sim.start(board.name)
    board.cut_power(1, 30)
    assert not attempt(board, f"import rp2\nrp2.Flash().ioctl(6, {block + 1})")


def test_erases_are_counted_by_the_sector(sim_factory):
    board = sim_factory()
    at = boards.load("SIM_RP2").partition("vfs").offset // 4096 + 200
    with Board(f"sim:{board.name}") as opened:
        opened.exec(
            "import rp2\nf = rp2.Flash()\nfor _ in range(3): f.writeblocks(200, bytes(8192))"
        )
        opened.exec("f.ioctl(6, 201)")
        opened.exec("f.writeblocks(202, bytes(256), 0)")
    assert board.wear[at - 1 : at + 3] == [0, 3, 4, 0]


def test_ctrl_c_never_stops_a_flash_operation_half_way(sim_factory):
    board = sim_factory()
    code = (
        "import os\nn = 0\ntry:\n while True:\n"
        "  with open('/churn', 'wb') as f: f.write(os.urandom(3000))\n  n += 1\n"
        "except KeyboardInterrupt:\n print('stopped')\n"
    )
    with Board(f"sim:{board.name}") as opened:
        opened.put("/kept", b"kept" * 500)
        opened.put("/main.py", code.encode())
    for _ in range(5):
        with Board(f"sim:{board.name}") as opened:
            opened.soft_reset(run_main=True)
        writes = board.operations + 20
        while board.operations < writes:  # it is in the midst of them; Board begins with Ctrl-C
            time.sleep(0.002)
        with Board(f"sim:{board.name}") as opened:
            assert opened.get("/kept") == b"kept" * 500
    board.kill()
    assert content(board, "kept") == b"kept" * 500

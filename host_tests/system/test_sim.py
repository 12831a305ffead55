"""Simulated boards as mpremote and ampy see them."""

import signal
import time
from pathlib import Path

import pytest
from limpet_kit import sim
from limpet_kit.board import Board

KINDS = ("SIM_RP2", "SIM_ESP32")
ENDLESS = b"import time\nprint('up')\nwhile True:\n    time.sleep(1)\n"


@pytest.mark.parametrize("kind", KINDS)
def test_mpremote(kind, sim_factory, tool, tmp_path):
    board = sim_factory(kind)

    def mpremote(*arguments):
        return tool("mpremote", "connect", board.device, *arguments).stdout

    assert (
        mpremote("exec", "import sys; print(sys.platform)").strip()
        == board.board[4:].lower().encode()
    )
    source = tmp_path / "data.bin"
    source.write_bytes(bytes(range(256)) * 8)
    mpremote("fs", "cp", source, ":data.bin")
    assert b"data.bin" in mpremote("fs", "ls")
    (tmp_path / "text").write_text("a line\n")
    mpremote("fs", "cp", tmp_path / "text", ":text")
    assert mpremote("fs", "cat", ":text") == b"a line\n"
    mpremote("fs", "mkdir", ":folder", "+", "fs", "cp", ":data.bin", ":folder/copy")
    mpremote("fs", "cp", ":folder/copy", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    mpremote("fs", "rm", ":data.bin")
    assert b"data.bin" not in mpremote("fs", "ls", ":/")
    script = tmp_path / "script.py"
    script.write_text("print('run', 6 * 7)\n")
    assert mpremote("run", script).strip() == b"run 42"
    (tmp_path / "mounted.py").write_text("value = 'from the host'\n")
    assert b"from the host" in mpremote(
        "mount", tmp_path, "exec", "import mounted; print(mounted.value)"
    )
    mpremote("exec", "kept = 1")
    mpremote("soft-reset")
    assert b"False" in mpremote("exec", "print('kept' in globals())")
    mpremote("reset")
    assert b"copy" in mpremote("fs", "ls", ":folder")
    assert mpremote("df")


def test_ampy(sim_factory, tool, tmp_path):
    board = sim_factory()

    def ampy(*arguments):
        return tool("ampy", "-p", board.device, *arguments).stdout

    source = tmp_path / "main.py"
    source.write_text("print('hello')\n")
    ampy("put", source, "other.py")
    assert b"other.py" in ampy("ls")
    assert ampy("get", "other.py").replace(b"\r", b"").strip() == b"print('hello')"
    assert ampy("run", source).strip() == b"hello"
    ampy("mkdir", "folder")
    ampy("rm", "other.py")
    assert b"other.py" not in ampy("ls") and b"folder" in ampy("ls")


@pytest.mark.parametrize("kind", KINDS)
def test_an_endless_program_is_stopped(kind, sim_factory, tool):
    board = sim_factory(kind)
    with Board(f"sim:{board.name}") as opened:
        opened.put("/main.py", ENDLESS)
        opened.soft_reset(run_main=True)
    assert tool("mpremote", "connect", board.device, "exec", "print(7)").stdout.strip() == b"7"


def test_several_boards_have_numbers_of_their_own(sim_factory):
    numbers = set()
    for board in [sim_factory(), sim_factory(), sim_factory("SIM_ESP32")]:
        with Board(f"sim:{board.name}") as opened:
            numbers.add(opened.exec("import machine; print(machine.unique_id())"))
    assert len(numbers) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_death_leaves_no_process_and_keeps_the_flash(number, sim_factory):
    board = sim_factory()
    with Board(f"sim:{board.name}") as opened:
        opened.put("/kept", b"x" * 5000)
        child = _child_of(board)
    (board.stop if number == signal.SIGTERM else board.kill)()
    assert not board.running
    end = time.monotonic() + 5
    while _lives(child):
        assert time.monotonic() < end
    again = sim.start(board.name)
    with Board(f"sim:{again.name}") as opened:
        assert opened.get("/kept") == b"x" * 5000


def _lives(pid):
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _child_of(board):
    pid = board._run()["pid"]
    return int(open(f"/proc/{pid}/task/{pid}/children").read().split()[0])


@pytest.mark.parametrize(
    ("kind", "epoch", "year"), [("SIM_RP2", 1970, 2021), ("SIM_ESP32", 2000, 2000)]
)
def test_the_clock_after_a_hard_reset(kind, epoch, year, sim_factory):
    with Board(f"sim:{sim_factory(kind).name}") as opened:
        said = opened.exec(
            "import time; t = time.time(); print(type(t), time.gmtime(0)[0], time.gmtime()[0])"
        )
        assert said.split()[-2:] == [str(epoch), str(year)] and "int" in said


def test_flash_refuses_what_an_rp2_would_do_wrongly(sim_factory):
    with Board(f"sim:{sim_factory().name}") as opened:
        said = opened.exec(
            "import rp2\nf = rp2.Flash()\nfor n, at in ((100, 0), (256, 10)):\n"
            " try:\n  f.writeblocks(200, bytes(n), at)\n  print('written')\n"
            " except OSError as e: print('refused')\n"
            "f.writeblocks(200, bytes(8192))\nb = bytearray(8192)\nf.readblocks(200, b)\n"
            "print(b == bytes(8192))"
        )
        assert said.split() == ["refused", "refused", "True"]


@pytest.mark.parametrize(("kind", "free"), [("SIM_RP2", 227_000), ("SIM_ESP32", 218_000)])
def test_the_heap_has_the_boards_size(kind, free, sim_factory):
    with Board(f"sim:{sim_factory(kind).name}") as opened:
        said = opened.exec("import gc; gc.collect(); print(gc.mem_free())")
    assert 0.98 * free < int(said) < 1.02 * free


def test_a_watchdog_resets_also_what_hangs_and_memory_outlives_it(sim_factory):
    board = sim_factory()
    code = (
        "import machine, time\nm = machine.mem_backup()\n"
        "if machine.reset_cause() == machine.PWRON_RESET:\n"
        "    w = machine.WDT(timeout=200)\n    m[0] = 0\n"
        "    for _ in range(5):\n        time.sleep_ms(100)\n        w.feed()\n"
        "        m[0] += 1\n    time.sleep(60)\n"
        "open('/after', 'w').close()\n"
    )
    state = "import machine; print(machine.reset_cause(), machine.mem_backup()[0])"
    with Board(f"sim:{board.name}") as opened:
        opened.put("/main.py", code.encode())
        opened.exec("import machine; machine.mem_backup()[0] = 7")
    board.kill()
    with Board(f"sim:{sim.start(board.name).name}") as opened:
        assert opened.exec(state).split() == ["1", "0"]  # power-on forgets
        writes = board.operations
        opened.soft_reset(run_main=True)
    _wait_for_a_write(board, writes)
    with Board(f"sim:{board.name}") as opened:
        assert opened.exec(state).split() == ["3", "5"]


def _wait_for_a_write(board, operations):
    """Until the board has written to its flash; to talk to it would stop its program."""
    end = time.monotonic() + 10
    while board.operations == operations:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_sleeping_board_wakes_and_knows_why(sim_factory):
    for kind, cause, year in (("SIM_RP2", "3", "2021"), ("SIM_ESP32", "4", "2026")):
        board = sim_factory(kind)
        with Board(f"sim:{board.name}") as opened:
            opened.put(
                "/main.py",
                b"import machine, time\nif machine.reset_cause() in (1, 5):\n"
                b"    machine.deepsleep(100)\n"
                b"with open('/woke', 'w') as f:\n"
                b"    f.write('%d %d' % (machine.reset_cause(), time.gmtime()[0]))\n",
            )
            opened.exec("import machine; machine.RTC().datetime((2026, 11, 25, 2, 10, 0, 0, 0))")
            writes = board.operations
            opened.soft_reset(run_main=True)
        _wait_for_a_write(board, writes)
        with Board(f"sim:{board.name}") as opened:
            said = opened.get("/woke").decode()
        assert said.split() == [cause, year]


JOIN = """
import network, time
w = network.WLAN(network.STA_IF)
w.active(True)
w.connect('shed', 'right')
def until(number):
    for _ in range(300):
        if w.status() == number: return number
        time.sleep_ms(10)
    return w.status()
"""


def test_the_wlan_says_what_each_port_says(sim_factory):
    for kind, found, late, wrong, missing, lost in (
        ("SIM_RP2", 3, 2, -3, -2, -1),
        ("SIM_ESP32", 1010, 1001, 202, 201, 200),
    ):
        board = sim_factory(kind)
        board.configure(networks={"shed": "right"}, dhcp_ms=300)
        with Board(f"sim:{board.name}") as opened:
            opened.exec(JOIN)
            assert opened.exec("print(w.status(), w.isconnected())").split() == [
                str(late),
                "False",
            ]
            assert int(opened.exec(f"print(until({found}))")) == found
            board.configure(networks={})
            assert int(opened.exec(f"print(until({lost}))")) == lost
            board.configure(networks={"shed": "other"})
            opened.exec("w.disconnect(); w.connect('shed', 'right')")
            assert int(opened.exec(f"print(until({wrong}))")) == wrong
            opened.exec("w.disconnect(); w.connect('barn', 'right')")
            assert int(opened.exec(f"print(until({missing}))")) == missing


def test_a_board_without_a_network_reaches_nothing(sim_factory):
    code = (
        "import socket\ns = socket.socket()\n"
        "try: s.connect(('127.0.0.1', 9))\nexcept OSError as e: print(e.errno)"
    )
    for kind, number in (("SIM_RP2", "113"), ("SIM_ESP32", "118")):
        with Board(f"sim:{sim_factory(kind).name}") as opened:
            assert opened.exec(code).strip() == number

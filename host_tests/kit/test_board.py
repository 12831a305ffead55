"""What the kit does with a board that lies, floods, or is not there."""

import base64
import json
import subprocess
import sys
import time

import pytest
from limpet_kit import board as board_module
from limpet_kit import enrolment, ledger, ports
from limpet_kit.board import Board, Raised, Silent
from limpet_kit.broker import settings
from limpet_kit.errors import FAILED, NO_BOARD, NO_SPACE, REFUSED, KitError
from limpet_kit.secret import Secret
from limpet_kit.wifi import Network
from rig.liar import Liar, function

HELLO = {
    "limpet": "0.1.0",
    "protocol": 1,
    "chip": "d0d1d2d3d4d5d6d7",
    "platform": "rp2",
    "machine": "a board",
    "micropython": [1, 29, 0],
    "free": 400000,
    "sources": [1, 0],
    "slots": [],
    "wifi": True,
    "psk": True,
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "home"))


def line(value):
    return json.dumps(value).encode() + b"\r\n", b""


def refuses(answer, words=None, timeout_s=1.0, kind=KitError):
    """Calling a board that answers so is refused, quickly and without its text."""
    with Liar(lambda code: answer) as liar, Board(liar.device) as board:
        began = time.monotonic()
        with pytest.raises(kind, match=words) as e:
            board.call("limpet.enroll", "hello", timeout_s=timeout_s)
        assert time.monotonic() - began < timeout_s + 2
    said = str(e.value)
    assert said.isprintable() and len(said) < 300 and "SECRET" not in said
    return e.value


# -- answers


def test_a_call_is_one_line_of_json():
    noise = b"I (123) wifi: state\r\n"
    with Liar(lambda code: (noise + line({"a": 1})[0], b"")) as liar, Board(liar.device) as board:
        assert board.call("limpet.enroll", "put", 256, "QUJD") == {"a": 1}
    assert liar.heard == [b"from limpet import enroll;print(enroll.put(256,'QUJD'))"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage SECRET\r\n",
        b"[1]\r\n",
        b"{'a': 1}\r\n",
        b'{"a": 1\r\n',
        b'{"a": 1}\r\n{"a": 2}\r\n',
        b"{" * 3000,
        b'{"a":' + b"[" * 3000,
        b"__import__('os').system('touch SECRET')\r\n",
        bytes(range(256)).replace(b"\x04", b"") * 8,
    ],
)
def test_what_is_no_answer_is_refused(answer):
    refuses((answer, b""), "does not answer as Limpet")


def test_a_line_of_a_megabyte_is_cut_off():
    assert refuses((b'{"a": "' + b"SECRET" * 170_000 + b'"}', b""), kind=Silent).code == NO_BOARD
    refuses((b"", b"SECRET" * 170_000), kind=Silent)


def test_silence_has_an_end():
    refuses(None, "stopped answering", timeout_s=0.5, kind=Silent)


def test_a_traceback_is_named_and_not_quoted():
    evil = b'Traceback (most recent call last):\r\n  File "SECRET"\r\n'
    assert refuses((b"", evil + b"\x1b[2JSECRET: 1\r\n"), "failed with Exception", kind=Raised)
    raised = refuses((b"", evil + b"OSError: [Errno 28] ENOSPC\r\n"), "no room", kind=Raised)
    assert (raised.kind, raised.number, raised.code) == ("OSError", 28, NO_SPACE)
    raised = refuses((b"", evil + b"ImportError: no module SECRET\r\n"), kind=Raised)
    assert (raised.kind, raised.number) == ("ImportError", None)
    assert refuses((b"", evil + b"OSError: -4\r\n"), "OSError -4", kind=Raised).number == -4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("protocol", 2),
        ("protocol", None),
        ("chip", "xyz"),
        ("chip", ""),
        ("chip", "ab" * 33),
        ("chip", ["a"]),
        ("machine", 7),
        ("micropython", "1.29"),
        ("slots", [{"vault": "ab"}]),
        ("slots", [{"vault": "ab" * 16, "generation": -1}]),
        ("slots", [{"vault": "ab" * 16, "generation": 1.5}]),
        ("slots", ["SECRET"]),
        ("slots", {"a": 1}),
        ("sources", 1),
        ("error", "SECRET"),
        ("error", {"a": "SECRET"}),
    ],
)
def test_a_strange_hello_is_refused(key, value):
    with Liar(lambda code: line({**HELLO, key: value})) as liar, Board(liar.device) as board:
        with pytest.raises(KitError) as e:
            enrolment.look(board)
        assert "SECRET" not in str(e.value) and str(e.value).isprintable()


def test_a_name_of_a_board_is_shown_without_its_escapes():
    said = {**HELLO, "machine": "\x1b]0;owned\x07\x9b2J" + "A" * 3000, "limpet": "\r\nok"}
    with Liar(lambda code: line(said)) as liar, Board(liar.device) as board:
        hello = enrolment.look(board)
    assert hello.machine.isprintable() and len(hello.machine) <= 80
    assert hello.library == "??ok"


def test_no_library_on_the_board():
    trace = b"Traceback (most recent call last):\r\nImportError: no module named 'limpet'\r\n"
    with (
        Liar(lambda code: (b"", trace)) as liar,
        Board(liar.device) as board,
        pytest.raises(KitError, match=f"limpet up {liar.device}") as e,
    ):
        enrolment.look(board)
    assert e.value.code == FAILED


# -- enrolling a liar


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_MOSQUITTO", "none")
    return settings.create(tmp_path / "broker", ["broker.example"])


def enroll(answer, chosen):
    """Enrol a liar; what was raised, what it was sent, what was shown."""
    shown = []
    plan = enrolment.Plan(lambda: [Network(b"home", Secret(b"the wifi key"))], name="lamp-1")
    with Liar(answer) as liar, Board(liar.device) as board, ledger.Ledger() as rows:
        with pytest.raises(KitError) as e:
            enrolment.enroll(board, rows, chosen, plan, lambda *words: shown.append(words))
        left = rows.units()
    return e.value, b"\n".join(liar.heard), repr(shown), left


def sent(heard):
    """The record as it went over the wire, put together again."""
    pieces = [part.split(b"'")[1] for part in heard.split(b"\n") if b"enroll.put" in part]
    return b"".join(base64.b64decode(piece) for piece in pieces)


def test_a_board_that_gives_its_secrets_back_does_not_get_them_shown(chosen):
    kept = {}

    def answer(code):
        called = function(code)
        if called == "put":
            kept["all"] = kept.get("all", "") + code.decode()
        if called == "hello":
            return line(HELLO)
        if called == "commit":
            return line({"error": kept["all"][-300:], "words": kept["all"][-2000:]})
        return line({"ok": True})

    error, heard, shown, left = enroll(answer, chosen)
    record = sent(heard)
    assert b"the wifi key" in record and len(record) > 400, "it was sent to the board"
    for said in (str(error), repr(error), shown):
        assert "wifi key" not in said and not any(
            heard.decode()[i : i + 16] in said for i in range(0, len(heard) - 16, 16)
        )
    assert not left, "what a board declines is no unit"


def test_a_board_that_proves_nothing_gets_no_account(chosen, monkeypatch):
    monkeypatch.setattr(Board, "hard_reset", lambda self: None)
    vault = []

    def answer(code):
        called = function(code)
        if called == "hello":
            return line(HELLO)
        if called == "put" and b"put(0," in code:
            vault.append(base64.b64decode(code.split(b"'")[1])[:16].hex())
        if called == "proof":
            zero = "00" * 32
            return line({"vault": vault[0], "generation": 1, "h": zero, "p": zero})
        return line({"ok": True})

    error, _, _, left = enroll(answer, chosen)
    assert "does not hold what it was given" in str(error) and not left
    assert "lamp" not in (chosen.folder / "acl").read_text()


def test_a_board_that_falls_silent_leaves_a_row_that_the_next_run_removes(chosen, monkeypatch):
    monkeypatch.setattr(board_module, "EXEC_S", 0.5)
    monkeypatch.setattr(Board.call, "__kwdefaults__", {"timeout_s": 0.5})

    def answer(code):
        return {"hello": line(HELLO), "begin": line({"ok": True})}.get(function(code))

    error, _, _, left = enroll(answer, chosen)
    assert "stopped answering" in str(error) and error.code == NO_BOARD
    assert [unit.state for unit in left] == ["NEW"]
    error, _, _, again = enroll(answer, chosen)
    assert len(again) == 1 and again[0].vault != left[0].vault


def test_ids_on_a_board_that_are_no_unit_of_ours_are_not_ours(chosen):
    """It claims a record: only --force goes on, whatever chip it says it is."""
    slots = [{"slot": 0, "vault": "ab" * 16, "generation": 3, "source": 1}]
    error, heard, _, left = enroll(lambda code: line({**HELLO, "slots": slots}), chosen)
    assert "--force" in str(error) and not left and b"put" not in heard


# -- ports


def test_network_ports_are_refused():
    for port in ("socket://192.0.2.1:23", "rfc2217://host:1", "RFC2217://h:1", "loop://"):
        with pytest.raises(KitError, match="by cable only") as e:
            Board(port)
        assert e.value.code == REFUSED


def test_a_missing_port_is_told():
    for port in ("/dev/ttyACM99", "ttyACM99"):
        with pytest.raises(KitError, match="There is no port") as e, Board(port):
            pass
        assert e.value.code == NO_BOARD
    with pytest.raises(KitError, match="limpet sim start nobody"):
        Board("sim:nobody")


def test_what_is_no_port_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(KitError, match="not a serial port") as e, Board(str(tmp_path / "file")):
        pass
    assert e.value.code == NO_BOARD


def test_a_busy_port_names_who_has_it():
    with Liar(lambda code: (b"", b"")) as liar:
        code = (
            "import serial,sys\ns=serial.Serial(sys.argv[1],exclusive=True)\n"
            "print(1,flush=True)\ninput()"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", code, liar.device],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        )
        with other:
            other.stdout.readline()
            with pytest.raises(KitError, match=f"process {other.pid}") as e, Board(liar.device):
                pass
            other.stdin.close()
        assert e.value.code == NO_BOARD and "in use" in str(e.value)


def test_the_words_for_a_forbidden_port(monkeypatch):
    def forbid(*_):
        raise PermissionError(13, "Permission denied")

    with Liar(lambda code: (b"", b"")) as liar:
        monkeypatch.setattr(ports.os, "open", forbid)
        for group, words in (("dialout", "usermod -aG dialout"), ("root", "rules.d/70-limpet")):
            monkeypatch.setattr(ports, "_group", lambda device, group=group: group)
            error = ports.why_not(liar.device, liar.device)
            assert words in str(error) and error.code == NO_BOARD


def test_no_micropython_behind_the_port():
    with Liar(lambda code: None, banner=b"login: ") as liar:
        began = time.monotonic()
        with pytest.raises(KitError, match="No MicroPython answers") as e, Board(liar.device):
            pass
    assert e.value.code == NO_BOARD and time.monotonic() - began < 12


def test_a_port_that_floods_has_an_end():
    with Liar(lambda code: None, banner=b"noise\x1b[2J" * 100_000) as liar:
        began = time.monotonic()
        with pytest.raises(KitError, match="No MicroPython answers"), Board(liar.device):
            pass
    assert time.monotonic() - began < 15

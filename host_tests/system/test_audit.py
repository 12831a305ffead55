"""A simulated board's flash after real work, read by the thief."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from limpet_kit import paths, protocol
from limpet_kit.audit import layout, vaults
from limpet_kit.board import Board
from limpet_kit.ledger import Ledger
from limpet_kit.secret import Secret
from limpet_kit.seriallog import SerialLog
from rig.images import Files


@pytest.fixture
def audit(tool):
    """`audit(port, *options)` -> (exit code, the JSON object)."""

    def run(port, *options):
        done = tool("limpet", "audit", port, "--json", *options, check=False)
        return done.returncode, json.loads(done.stdout)

    return run


@pytest.fixture
def boot_loader():
    """The port of a blank ESP32-S3 in its boot loader (a mock that the real esptool talks to)."""
    program = Path(sys.executable).with_name("esp32-mock-bootloader")
    process = subprocess.Popen(
        [program, "run", "--chip", "esp32s3", "--pty", "--timeout", "110"],
        stdout=subprocess.PIPE,
        text=True,
    )
    yield re.search(r"/dev/\S+", process.stdout.readline()).group()
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_an_esp32_is_read_by_esptool_and_its_fuses_by_espefuse(boot_loader, tool, audit, tmp_path):
    files = Files(64, 32)
    files.write("/secrets.py", b"PASSWORD = 'over the serial port'\n")
    (tmp_path / "files").write_bytes(files.image)
    tool("esptool", "--port", boot_loader, "write-flash", "0x200000", tmp_path / "files")
    code, report = audit(boot_loader, "--chip", "esp32s3")
    assert code == 11 and report["image"]["size"] == 4 << 20
    (found,) = report["findings"]
    assert found["place"] == "vfs:/secrets.py" and found["offset"] > 0x200000
    ways = {way["name"]: way for way in report["ways"]}
    assert ways["download"]["by"] == "DIS_DOWNLOAD_MODE 0, ENABLE_SECURITY_DOWNLOAD 0"


def kinds(report, exposure):
    return [f["kind"] for f in report["findings"] if f["exposure"] == exposure]


def opened_records(image):
    """The fields of every record in the image that a key in the same image opens: tag, value."""
    parts = layout.read(image)
    streams = [s for files in parts.file_systems for s in files.streams()]
    keys = [Secret(s.read(image)) for s in streams if s.size == vaults.KEY_SIZE]
    boxes = [image[r.offset : r.offset + r.length] for r in vaults.find(image, ())]
    for box in boxes:
        for key in keys:
            fields = protocol.decrypt_unproven(box, key)
            if fields:
                yield from protocol.decode(fields)


def test_the_program_of_an_audited_board_runs_again(sim_factory, audit):
    port = f"sim:{sim_factory().name}"
    with Board(port) as opened:
        opened.put(
            "/main.py", b"import time\nwhile True:\n    print('alive')\n    time.sleep(1)\n"
        )
        opened.soft_reset(run_main=True)
        device = opened.device
    code, report = audit(port)
    assert code == 0 and report["enrolled"] is False
    assert any("started again" in note for note in report["notes"])
    assert any("nothing is enrolled" in note for note in report["notes"])
    with SerialLog(str(device)) as log:
        assert log.wait("alive", 5)


def test_a_board_that_limpet_brought_up_shows_nothing_in_clear(
    sim_factory, broker_factory, tool, audit
):
    """Brought up, rotated five times over the link, wiped: no value of it ever lay in clear."""
    board = sim_factory("SIM_RP2")
    port, key = f"sim:{board.name}", "a key of this test only"
    board.configure(networks={"home": key})
    wifi, known = board.folder / "wifi", board.folder / "known.txt"
    wifi.write_text(f"home\n{key}\n")
    wifi.chmod(0o600)
    broker = ("--broker", broker_factory().settings.folder)
    tool("limpet", "up", port, *broker, "--wifi", wifi, "--name", "lamp", "--json")
    values, passwords = {key.encode()}, set()
    for number in range(6):
        if number:
            tool("limpet", "rotate", "lamp", *broker, "--json")
        fields = list(opened_records(board.image.read_bytes()))
        passwords |= {value for tag, value in fields if tag == protocol.PASSWORD}
        values |= {value for tag, value in fields if tag == protocol.CONTROL}
    assert len(passwords) == 6
    known.write_text("".join(f"v{n} hex {v.hex()}\n" for n, v in enumerate(values | passwords)))
    code, report = audit(port, "--canary", known)
    assert code == 0 and report["level"] == 1 and report["enrolled"], report["findings"]
    assert kinds(report, "clear") == []
    assert "limpet record" in kinds(report, "soft")  # its claim does not exclude that: it is said
    states = {way["name"]: way["state"] for way in report["ways"]}
    assert states["repl"] == states["debug"] == states["clip"] == "open"

    assert audit(port, "--unit", "lamp")[0] == 0
    with Ledger() as ledger:
        assert ledger.named("lamp").audit == "level 1, fine"
    copy = (paths.home() / "ledger.db").read_bytes()  # lets nobody log in
    for secret in passwords | values:
        assert not any(form in copy for form in (secret, secret.hex().encode(), b64encode(secret)))

    tool("limpet", "wipe", "lamp", *broker, "--yes", "--json")
    code, report = audit(port, "--canary", known)
    assert code == 0 and kinds(report, "clear") == []
    assert report["enrolled"] is False, report["findings"]

    old = sorted(passwords)[0]
    with Board(port) as opened:
        opened.put("/leak", b"x" * 50 + old)
    code, report = audit(port, "--unit", "lamp")
    leaks = [f for f in report["findings"] if f["kind"] == "canary"]
    assert code == 11 and {f["words"] for f in leaks} == {"lamp:password"}
    assert ("vfs:/leak", len(old)) in {(f["place"], f["length"]) for f in leaks}, leaks
    with Board(port) as opened:
        opened.put("/secrets.py", f"WIFI_PASSWORD = '{key}'\n".encode())
    code, report = audit(port, "--canary", known)
    assert code == 11 and report["level"] == 0
    live = {f["kind"] for f in report["findings"] if f["place"] == "vfs:/secrets.py"}
    assert live == {"canary", "password"}
    with Board(port) as opened:
        opened.remove("/secrets.py")
        opened.remove("/leak")
    code, report = audit(port, "--canary", known)
    clear = {f["state"] for f in report["findings"] if f["exposure"] == "clear"}
    assert code == 11 and clear and clear <= {"deleted", "superseded"}

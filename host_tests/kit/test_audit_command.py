"""`limpet audit` as a user calls it: levels by real (virtual) fuses, exit codes, reports."""

import json
import random
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from limpet_kit import ca
from limpet_kit.audit import ladder, layout, openness, scan
from limpet_kit.cli import main
from limpet_kit.errors import KitError
from rig.images import Files, esp32_image, nvs_erase, nvs_partition, pico_image

SECRET = b"PASSWORD = 'hunter2hunter2'\n"


def espefuse(chip, store, *arguments):
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("espefuse"), "--chip", chip, "--virt"),
            *("--path-efuse-file", store, "--do-not-confirm", *arguments),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def audit(tmp_path, capsys):
    """`audit(image bytes, *options)` -> (exit code, the JSON object)."""

    def run(image, *options):
        file = tmp_path / "flash.bin"
        file.write_bytes(image)
        code = main(["audit", "--image", str(file), "--json", *map(str, options)])
        out, err = capsys.readouterr()
        assert "hunter2" not in out + err
        return code, json.loads(out)

    return run


def pico(*files):
    made = Files(212, 256)
    for path, data in files:
        made.write(path, data)
    return pico_image(made.image)


def test_a_plain_secret_is_level_0_and_no_success(audit, tmp_path):
    code, report = audit(pico(("/secrets.py", SECRET)), "--html", tmp_path / "r.html")
    assert code == 11 and report["ok"] is False and report["level"] == 0
    (found,) = report["findings"]
    assert found["place"] == "vfs:/secrets.py" and found["exposure"] == "clear"
    assert report["next"]["level"] == 1 and report["next"]["steps"]
    page = (tmp_path / "r.html").read_text()
    assert "hunter2" not in page and "vfs:/secrets.py" in page
    picture = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    marks = [e for e in picture.iter() if e.get("fill") == "#c62828"]
    assert len(marks) == 1
    assert float(marks[0].get("x")) == pytest.approx(found["offset"] / (2 << 20) * 1000, abs=0.01)


def test_a_clean_pico_is_level_1_and_never_more(audit):
    code, report = audit(pico(("/main.py", b"import limpet\n")))
    assert (code, report["level"], report["next"], report["chip"]) == (0, 1, None, "rp2040")
    assert audit(pico(), "--level", 2)[0] == 11


def test_webrepl_keeps_a_board_at_level_0(audit):
    code, report = audit(pico(("/boot.py", b"import webrepl\nwebrepl.start()\n")))
    assert code == 11 and report["findings"] == [] and report["next"]["open"] == ["webrepl"]
    code, report = audit(pico(("/webrepl_cfg.py", b"PASS = 'hunter2h'\n")))
    assert code == 11 and report["findings"][0]["place"] == "vfs:/webrepl_cfg.py"


@pytest.mark.parametrize(
    ("state", "files"),
    [
        ("open", {"/boot.py": b"import net\n", "/net.py": b"import webrepl\nwebrepl.start()\n"}),
        ("open", {"/boot.py": b"if ok: webrepl.start()\n"}),
        ("open", {"/boot.py": b"import network, webrepl; webrepl.start()\n"}),
        ("open", {"/lib/webrepl_cfg.py": b"PASS = input()\n"}),
        ("unknown", {"/boot.py": b"from webrepl import start\nstart()\n"}),
        ("unknown", {"/boot.py": b"import webrepl as w\nw.start()\n"}),
        ("closed", {"/boot.py": b"#import webrepl\n#webrepl.start()\n"}),
    ],
)
def test_however_webrepl_is_started_it_is_not_called_closed(audit, state, files):
    _, report = audit(pico(*files.items()))
    (way,) = (way for way in report["ways"] if way["name"] == "webrepl")
    assert way["state"] == state and (report["level"] == 0) == (state != "closed")


def test_harmless_things_do_not_push_a_key_out_of_the_list(audit, tmp_path):
    ca.make(tmp_path / "ca", ["localhost"])
    certificate = ca.anchor_der(tmp_path / "ca") + bytes(16)
    key = (tmp_path / "ca" / "ca.key").read_bytes()
    code, report = audit(pico()[:4096] + certificate * (scan.MOST + 1) + key)
    assert code == 11 and report["level"] == 0
    assert any(one["kind"] == "private key" for one in report["findings"])
    told = tmp_path / "told"
    told.write_text("wifi text a key of ours\n")
    told.chmod(0o600)
    many = b"".join(b"PASSWORD = 'hunter2%05d'\n" % number for number in range(10 * scan.MOST + 9))
    _, report = audit(pico()[:4096] + many + b"a key of ours", "--canary", told)
    assert any(one["kind"] == "canary" for one in report["findings"])


@pytest.mark.parametrize("chip", ["esp32s3", "esp32c3"])
def test_levels_rise_with_the_fuses_of_an_s3_and_a_c3(audit, tmp_path, chip):
    clear = esp32_image(Files(512, 32).image)
    encrypted = random.Random(1).randbytes(len(clear))
    plain = tmp_path / "plain.bin"
    plain.write_bytes(clear)
    store, fuses = tmp_path / "efuse.bin", tmp_path / "fuses.json"
    key = tmp_path / "key.bin"
    key.write_bytes(bytes(range(32)))

    def level(image, *options):
        fuses.write_text(espefuse(chip, store, "summary", "--format", "json"))
        code, report = audit(image, "--chip", chip, "--fuses", fuses, "--level", 3, *options)
        assert code == (0 if report["level"] >= 3 else 11)
        return report["level"], {way["name"]: way["state"] for way in report["ways"]}

    assert level(clear)[0] == 1
    espefuse(chip, store, "burn-key", "BLOCK_KEY0", key, "HMAC_UP")
    usb = ("DIS_USB_JTAG", "1")
    espefuse(chip, store, "burn-efuse", "DIS_PAD_JTAG", "1", *usb, "SOFT_DIS_JTAG", "7")
    number, ways = level(clear)
    assert number == 1 and ways["key"] == ways["debug"] == "closed" and ways["download"] == "open"
    espefuse(chip, store, "burn-efuse", "ENABLE_SECURITY_DOWNLOAD", "1")
    assert level(clear)[0] == 2
    espefuse(chip, store, "burn-key", "BLOCK_KEY1", key, "XTS_AES_128_KEY")
    manual = ("DIS_DOWNLOAD_MANUAL_ENCRYPT", "1")
    espefuse(chip, store, "burn-efuse", "SPI_BOOT_CRYPT_CNT", "7", *manual)
    number, ways = level(clear)
    assert (
        number == 2 and ways["clip"] == "closed" and ways["files"] == "open"
    )  # MicroPython's trap
    number, ways = level(encrypted)
    assert ways["webrepl"] == "unknown" and number == 0  # what was not seen is not claimed
    number, ways = level(encrypted, "--plain", plain)
    assert number == 3 and ways["webrepl"] == ways["application"] == "closed"
    espefuse(chip, store, "burn-efuse", "SECURE_BOOT_EN", "1")
    number, ways = level(encrypted, "--plain", plain)
    assert number == 3 and ways["code"] == "closed" and ways["repl"] == "unknown"
    parts, values = layout.read(encrypted), openness.Fuses.parse(fuses.read_text())
    for prompt, reached in ((True, 3), (False, 4)):
        ways = openness.judge(parts, chip, values, "", prompt, layout.read(clear))
        assert ladder.judge(ladder.load(chip), ways, []).level.number == reached


def test_a_classic_esp32_has_no_key_and_two_fuses(audit, tmp_path):
    store, fuses = tmp_path / "efuse.bin", tmp_path / "fuses.json"
    espefuse("esp32", store, "burn-efuse", "JTAG_DISABLE", "1")
    espefuse("esp32", store, "burn-efuse", "UART_DOWNLOAD_DIS", "1")
    fuses.write_text(espefuse("esp32", store, "summary", "--format", "json"))
    code, report = audit(esp32_image(Files(512, 32).image), "--fuses", fuses, "--level", 2)
    assert (code, report["level"], report["chip"]) == (0, 2, "esp32")
    assert {w["name"]: w["state"] for w in report["ways"]}["key"] == "open"


def test_a_fat_file_system_is_no_encrypted_one(audit):
    image = bytearray(esp32_image(b"", program=b"\xe9" * 40))
    image[0x200000:0x20000B] = b"\xeb\xfe\x90MSDOS5.0"
    image[0x300000 : 0x300000 + len(SECRET)] = SECRET
    code, report = audit(bytes(image))
    states = {way["name"]: way["state"] for way in report["ways"]}
    assert code == 11 and len(report["findings"]) == 1
    assert (states["files"], states["webrepl"]) == ("open", "unknown")


def test_canaries_are_found_and_not_shown(audit, tmp_path):
    known = tmp_path / "known.txt"
    known.write_text("# what the unit was given\nwifi text hunter2hunter2\n")
    code, report = audit(pico(("/x", b"aHVudGVyMmh1bnRlcjI=")), "--canary", known)
    (found,) = report["findings"]
    assert code == 11 and (found["kind"], found["words"]) == ("canary", "wifi")
    assert found["form"] == "base64"


def test_erased_nvs_is_said_to_be_erased(audit, tmp_path):
    nvs = nvs_erase(nvs_partition(tmp_path, {"a": {"password": "hunter2hunter2"}}), "password")
    code, report = audit(esp32_image(Files(512, 32).image, nvs))
    assert code == 11 and [f["state"] for f in report["findings"]] == ["erased"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["PORT", "--image", "x"],
        ["--image", "/there/is/no/such/file"],
        ["--image", __file__, "--fuses", __file__],
        ["--image", __file__, "--canary", "/there/is/no/such/file"],
        ["--image", __file__, "--canary", __file__],
    ],
)
def test_bad_input_is_one_sentence_and_code_2(options, capsys):
    assert main(["audit", *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("limpet audit: ") and err.count("\n") == 1


def test_a_file_that_is_no_image(tmp_path, capsys):
    (tmp_path / "x").write_bytes(b"1234")
    assert main(["audit", "--image", str(tmp_path / "x")]) == 2
    assert "no flash image" in capsys.readouterr().err


def test_every_ladder_can_be_read_and_rises():
    assert {"esp32", "esp32s3", "esp32c3", "rp2040", "rp2350", "unknown"} == set(ladder.names())
    for name in ladder.names():
        levels = ladder.load(name).levels
        assert all(level.claim for level in levels) and len(levels) >= 2
        assert levels[0].needs == levels[0].excludes == ()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"A": 1}', '{"A": {"raw_value": "x"}}', "{}" * 9]
)
def test_a_summary_that_is_none(text):
    with pytest.raises(KitError, match="fuse summary"):
        openness.Fuses.parse(text)


def test_get_security_info_where_fuses_cannot_be_read():
    text = "Flags: 0x00000005 (0b101)\nSecure Boot: Enabled\nFlash Encryption: Disabled\n"
    states = {way.name: way.state for way in openness._security(text)}
    assert states["code"] == states["download"] == "closed"
    assert states["clip"] == states["debug"] == "open" and states["key"] == "unknown"
    assert {way.state for way in openness._security("nonsense")} == {"unknown"}

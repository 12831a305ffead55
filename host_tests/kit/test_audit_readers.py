"""The readers of flash formats: equal to the libraries that wrote them, calm about rubbish."""

import random
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limpet_kit.audit import detect, littlefs, mpy, nvs
from limpet_kit.audit.scan import scan
from rig.images import Files, esp32_image, nvs_partition

FOLDERS = ["", "/a", "/a/b", "/c"]
SIZES = [0, 5, 60, 400, 1300, 4088, 4096, 5000, 9000, 33000]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["write"] * 6 + ["remove", "rename"]),
        st.sampled_from(FOLDERS),
        st.integers(0, 7),
        st.sampled_from(SIZES),
    ),
    max_size=40,
)


def play(actions, progsize):
    """(image, live files, every content that was ever written) after these actions."""
    files, live, ever, draw = Files(400, progsize), {}, [], random.Random(1)
    for what, folder, number, size in actions:
        path = f"{folder}/f{number}"
        if what == "write":
            data = draw.randbytes(size)
            files.write(path, data)
            live[path] = data
            ever.append(data)
        elif path in live:
            data = live.pop(path)
            if what == "remove":
                files.remove(path)
            else:
                files.fs.rename(path, f"{folder}/moved{number}")
                live[f"{folder}/moved{number}"] = data
    return files.image, live, ever


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ACTIONS, st.sampled_from([32, 256]))
def test_live_files_are_those_of_littlefs_and_old_ones_are_not_missed(actions, progsize):
    image, live, ever = play(actions, progsize)
    (superblock,) = littlefs.find(image)
    streams = list(littlefs.FileSystem(image, superblock).streams())
    found = {s.name: s.read(image) for s in streams if s.state == "live" and s.name}
    assert found == live
    contents = [s.read(image) for s in streams]
    for data in ever:  # whatever is still there in one piece lies inside something that is read
        if len(data) >= 5 and data in image:
            assert any(data in one for one in contents)


@pytest.mark.parametrize("folder", ["/lib", ""])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_superblock_that_a_power_cut_has_left_alone(lost, folder):
    """It stands in blocks 0 and 1, and littlefs mounts with either of them."""
    files = Files(64, 256)
    files.write("/boot.py", b"x = 1\n")
    files.write(folder + "/wifi.env", b"# settings\n" * 900 + b"wifi_password=hunter2hunter2\n")
    image = bytearray(bytes(8 * 4096) + files.image)
    begin = (8 + lost) * 4096
    image[begin : begin + 4096] = b"\xff" * 4096
    (superblock,) = littlefs.find(bytes(image))
    assert superblock.offset == 8 * 4096
    if not lost:  # block 1 is the newer one here
        (found,) = scan(bytes(image)).findings
        assert found.place == f"vfs:{folder}/wifi.env"


@pytest.mark.parametrize("progsize", [32, 256])
def test_deleted_files_in_blocks_are_put_together(progsize):
    files = Files(400, progsize)
    data = random.Random(5).randbytes(60_000)
    files.write("/big", data)
    files.remove("/big")
    image = files.image
    streams = littlefs.FileSystem(image, littlefs.find(image)[0]).streams()
    (big,) = [s for s in streams if s.name.endswith("/big")]
    assert big.state == "deleted" and big.read(image) == data
    assert len(big.extents) == 15


def hostile():
    """An image with everything in it, to be damaged."""
    files = Files(64, 32)
    for number in range(30):
        files.write(f"/d{number % 3}/f{number % 7}", random.Random(number).randbytes(number * 100))
    return bytearray(esp32_image(files.image, program=b"\xe9" * 9000, size=0x240000))


def test_damaged_images_end_in_time_and_without_an_error(tmp_path):
    clean = hostile()
    values = nvs_partition(tmp_path, {"a": {"password": "x" * 40, "blob": bytes(range(200))}})
    clean[0x9000:0xF000] = values
    draw = random.Random(9)
    begun = time.process_time()
    for _ in range(40):
        image = bytearray(clean[: 0x200000 + 64 * 4096])
        for _ in range(200):
            area, size = draw.choice([(0x8000, 0xC00), (0x9000, 0x6000), (0x200000, 64 * 4096)])
            image[area + draw.randrange(size)] ^= 1 << draw.randrange(8)
        part = bytes(image[0x200000:])
        for superblock in littlefs.find(part):
            for stream in littlefs.FileSystem(part, superblock).streams():
                stream.read(part)
        for stream in nvs.Partition(bytes(image), 0x9000, 0x6000).streams():
            stream.read(bytes(image))
    scan(bytes(image))
    assert time.process_time() - begun < 60


def test_a_chain_and_a_folder_that_bite_their_own_tail():
    files = Files(64, 32)
    files.write("/big", random.Random(1).randbytes(30_000))
    image = bytearray(files.image)
    version = littlefs.FileSystem(bytes(image), littlefs.find(image)[0]).live["/big"]
    at = version.at * 4096
    image[at : at + 4] = version.at.to_bytes(4, "little")
    list(littlefs.FileSystem(bytes(image), littlefs.find(image)[0]).streams())


@pytest.mark.parametrize(
    "piece",
    [
        bytes.fromhex("30820fff020100") * 3,
        b"-----BEGIN EC PRIVATE KEY-----\n" + b"MHcC" * 20,
        b'password="' + b"x" * 300,
        b"M\x06\x00\x1f\xff\xff\xff\xff",
        b"eyJ" * 9,
        b"://a:b@",
        b"littlefs",
        b"LMPT\x01\x01\0\0\0\0\0\1\0\1\2\0" + b"\xa5" * 600,
    ],
)
def test_two_mebibytes_of_bait_are_bounded(piece):
    begun = time.process_time()
    contents = scan((piece * ((2 << 20) // len(piece) + 1))[: 2 << 20])
    assert time.process_time() - begun < 20
    assert len(contents.findings) <= 1000


@given(st.binary(max_size=600))
def test_detectors_take_any_bytes(data):
    detect.scan(data)
    list(detect.plain_assignments(data))
    list(mpy.passwords(b"M\x06" + data))
    scan(data)


@given(st.integers(60, 200))
def test_a_pem_key_cut_by_other_data_is_a_part(keep):
    from cryptography.hazmat.primitives import serialization as ser

    key = ec.derive_private_key(keep, ec.SECP256R1()).private_bytes(
        ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()
    )
    found = detect.scan(b"\0" * 50 + key[:keep] + b"\xff" * 200)
    body = keep - len(b"-----BEGIN PRIVATE KEY-----\n")
    assert bool(found) == (body >= 64), (body, found)
    assert not found or found[0].at == 50

"""What rotations leave of old secrets in the flash: nothing, once the scrub is done."""

import json

import pytest
from limpet_kit import bringup, cli, sim
from limpet_kit.audit import layout
from limpet_kit.board import Board
from limpet_kit.broker import accounts
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.errors import OK
from limpet_kit.secret import Secret
from limpet_kit.watch import Watch
from limpet_kit.wifi import Network
from rig.micropython import ROOT
from rig.remains import fragments_in, secrets_in

PROGRAM = ROOT / "host_tests" / "device" / "remnants.py"
REGION = 0x1F0000  # of an ESP32 whose factory partition was made smaller
BOARDS = (("SIM_RP2", False), ("SIM_ESP32", False), ("SIM_ESP32", True))
HEAD = 32  # bytes of a box that are no secret, and that the next box begins with as well
WIFI = b"a key of this test only"
SCRUB = """
from limpet import slots, vault
v = vault.Vault()
v.records()
while slots.scrub(v):
    pass
print(v.scrub_due)
"""


@pytest.mark.parametrize("store", ("rp2", "esp32", "raw"))
def test_twenty_rotations_leave_nothing_after_the_scrub(micropython, store, tmp_path):
    done = micropython(PROGRAM, store, 20, tmp_path, heap="32m")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    secrets, boxes, (password, key, box) = (
        [bytes.fromhex(value) for value in values[name]] for name in ("secrets", "boxes", "live")
    )
    assert (len(secrets), len(boxes)) == (40, 20)
    boxes = [value[HEAD:] for value in boxes]
    before = (tmp_path / "before.bin").read_bytes()
    after = (tmp_path / "after.bin").read_bytes()
    assert secrets_in(after, secrets) == []
    assert fragments_in(after, secrets + boxes) == []
    assert secrets_in(after, [password, WIFI]) == []  # the live one lies sealed
    # The search finds what is there: the live key and box, and what lay there before.
    assert secrets_in(after, [key]) and fragments_in(after, [box])
    assert fragments_in(before, secrets + boxes) or store == "raw"


def raw_region(board):
    """Give an ESP32 a `limpet` partition, as a row of the table does under stock firmware."""
    board.kill()
    file = board.folder / "board.json"
    values = json.loads(file.read_text())
    for row in values["partitions"]:
        if row["label"] == "factory":
            row["size"] = REGION - row["offset"]
    values["partitions"].append(
        {"label": "limpet", "type": 1, "subtype": 0x40, "offset": REGION, "size": 7 * 4096}
    )
    file.write_text(json.dumps(values))
    sim.start(board.name)


def keys_and_boxes(board, raw):
    """The store secrets, and the boxes without their heads, that are on a board now."""
    image = board.image.read_bytes()
    if not raw:
        found = layout.read(image)
        items = [found.file(f"/.limpet/{kind}{n}") for kind in ("key", "box") for n in (0, 1)]
        return _secret(item for item in items if item)
    heads = [REGION + 4096 * sector for sector in range(4)]
    sizes = [int.from_bytes(image[at : at + 2], "big") for at in heads]
    found = zip(heads, sizes, strict=True)
    return _secret(image[at + 8 : at + 8 + n] for at, n in found if n < 4096)


def _secret(items):
    return [bytes(item) if len(item) == 32 else bytes(item)[HEAD:] for item in items]


def rotate_and_scrub(board, raw, count, broker, monkeypatch):
    """(secrets, keys and boxes) that `count` rotations over the link have replaced, all those
    that were ever drawn, and the image after the scrub."""
    drawn = []
    draw = accounts.draw_password

    def drawing(profile):
        drawn.append(draw(profile))
        return drawn[-1]

    monkeypatch.setattr(accounts, "draw_password", drawing)
    if raw:
        raw_region(board)
    unit = bringup.bring_up(
        f"sim:{board.name}",
        broker.settings,
        Plan(networks=lambda: [Network(b"home", Secret(WIFI))]),
        Console(),
        lambda *_: None,
        reading_s=0,
    ).unit
    old = []
    for _ in range(count):
        old += keys_and_boxes(board, raw)
        assert cli.main(["rotate", unit.name, "--broker", str(broker.settings.folder)]) == OK
    with Board(f"sim:{board.name}") as opened:
        assert opened.exec(SCRUB, timeout_s=120).strip() == "False"
        opened.soft_reset(run_main=True)
    with Watch(broker.settings, unit.name) as watch:
        assert watch.answers(60) is not None
    assert len(drawn) > count and len(set(old)) == 2 * count
    return [password.reveal() for password in drawn], old


def check(sim_factory, broker_factory, monkeypatch, kind, raw, count):
    board = sim_factory(kind)
    passwords, old = rotate_and_scrub(board, raw, count, broker_factory("mosquitto"), monkeypatch)
    image = board.image.read_bytes()
    keys = [value for value in old if len(value) == 32]
    # Of a network's key, and of the password in use, nothing lies in clear either.
    assert secrets_in(image, [*passwords, *keys, WIFI]) == []
    assert fragments_in(image, passwords + old) == []
    live = keys_and_boxes(board, raw)
    assert len(live) == 2 and len(fragments_in(image, live)) >= sum(map(len, live)) - 30
    assert not set(live) & set(old)


@pytest.mark.mosquitto
@pytest.mark.parametrize(("kind", "raw"), BOARDS)
def test_rotations_over_the_link_leave_nothing(
    sim_factory, broker_factory, monkeypatch, kind, raw
):
    check(sim_factory, broker_factory, monkeypatch, kind, raw, 2)


@pytest.mark.slow
@pytest.mark.mosquitto
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "raw"), BOARDS)
def test_twenty_rotations_over_the_link_leave_nothing(
    sim_factory, broker_factory, monkeypatch, kind, raw
):
    check(sim_factory, broker_factory, monkeypatch, kind, raw, 20)

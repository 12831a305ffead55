"""The power fails in every flash operation of the vault's flows and of the outbox.

On the real VfsLfs2 of MicroPython, over a NOR model with each port's program size, and on a raw
region. The exhaustive run is in `make test-slow`, in parts that run beside each other.
"""

import json

import pytest
from conftest import MEASURED
from rig.micropython import ROOT

PROGRAM = ROOT / "host_tests" / "device" / "cuts.py"
STORES = ("rp2", "esp32", "raw")
FLOWS = (
    *("enrol", "enrol over", "change", "confirm", "drop", "anchor add", "anchor retire"),
    *("journal", "wipe", "outbox"),
)
SCRUB = {"rp2": 150, "esp32": 450, "raw": 1}  # of some thousand operations, one in so many
PARTS = 8  # of the exhaustive scrub


def run(micropython, store, every, first, *flows):
    flows = [flow for flow in flows if store != "raw" or flow != "outbox"]  # it lies in files
    done = micropython(PROGRAM, store, every, first, *flows, heap="32m", timeout=3_000)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["faults"] == []
    assert all(found["points"].values()), "a flow without a cut point was not tested"
    return found["points"]


def tell(record_property, store, points):
    words = ", ".join(f"{flow} {count}" for flow, count in sorted(points.items()))
    record_property(MEASURED, f"{store}: {sum(points.values())} cut points: {words}")


@pytest.mark.parametrize("store", STORES)
def test_a_sample_of_cuts_loses_nothing(micropython, store, record_property):
    points = run(micropython, store, 4, 1, *FLOWS)
    points |= run(micropython, store, SCRUB[store], 0, "scrub")
    tell(record_property, store, points)


@pytest.mark.slow
@pytest.mark.timeout(3_100)
@pytest.mark.parametrize("store", STORES)
def test_no_cut_loses_anything(micropython, store, record_property):
    tell(record_property, store, run(micropython, store, 1, 0, *FLOWS))


@pytest.mark.slow
@pytest.mark.timeout(3_100)
@pytest.mark.parametrize(
    ("store", "part"), [("raw", 0), *((s, p) for s in STORES[:2] for p in range(PARTS))]
)
def test_no_cut_of_the_scrub_loses_anything(micropython, store, part, record_property):
    every = 1 if store == "raw" else PARTS
    tell(record_property, store, run(micropython, store, every, part, "scrub"))

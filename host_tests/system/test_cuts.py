"""The power fails in every flash operation of the vault's flows; and what rotations leave behind.

On the real VfsLfs2 of MicroPython, over a NOR model with each port's program size, and on a raw
region. The exhaustive run is in `make test-slow`.
"""

import json

import pytest
from rig.micropython import ROOT

PROGRAM = ROOT / "host_tests" / "device" / "cuts.py"
STORES = ("rp2", "esp32", "raw")
FLOWS = ("enrol", "enrol over", "change", "confirm", "drop", "journal", "wipe")
SCRUB = {"rp2": 150, "esp32": 150, "raw": 1}  # of some thousand operations, one in so many


def run(micropython, *arguments):
    done = micropython(PROGRAM, *arguments, heap="32m", timeout=1_500)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def check(found, capsys, store):
    with capsys.disabled():
        print(f"\n{store}: {sum(found['points'].values())} cut points {found['points']}")
    assert all(found["points"].values()), "a flow without a cut point was not tested"
    assert found["faults"] == []


@pytest.mark.parametrize("store", STORES)
def test_a_sample_of_cuts_loses_nothing(micropython, store, capsys):
    check(run(micropython, store, 4, *FLOWS), capsys, store)
    check(run(micropython, store, SCRUB[store], "scrub"), capsys, store)


@pytest.mark.slow
@pytest.mark.timeout(1_600)
@pytest.mark.parametrize("store", STORES)
def test_no_cut_loses_anything(micropython, store, capsys):
    check(run(micropython, store, 1, *FLOWS), capsys, store)
    check(run(micropython, store, max(1, SCRUB[store] // 20), "scrub"), capsys, store)


@pytest.mark.parametrize("store", STORES)
def test_twenty_rotations_leave_nothing_after_the_scrub(micropython, store):
    before, after = run(micropython, store, "remnants")
    assert after == 0
    assert before > 0 or store == "raw", "there was nothing to scrub: this shows nothing"

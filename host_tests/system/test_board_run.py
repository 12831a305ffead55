"""The shared vectors and the unit tests around them on a board, through mpremote."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest
from rig.micropython import ROOT

PROGRAM = ROOT / "host_tests" / "board.py"


def board_run(board, *options):
    return subprocess.run(
        [sys.executable, PROGRAM, f"sim:{board.name}", *map(str, options)],
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_the_vectors_pass_through_mpremote(sim_factory, tmp_path):
    done = board_run(sim_factory(), "test_seal", "test_record", "--junit", tmp_path / "junit.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" 0 skipped, 0 failed")
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    ran = {suite.get("name"): int(suite.get("tests")) for suite in suites}
    assert ran["test_record"] > 5 and sum(ran.values()) > 15


def test_a_board_run_without_a_board_says_so(home):
    done = subprocess.run(
        [sys.executable, PROGRAM, "/dev/nothing"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3 and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("SIM_RP2", "SIM_ESP32"))
def test_all_unit_tests_pass_on_a_board(sim_factory, kind):
    done = board_run(sim_factory(kind))
    assert done.returncode == 0, done.stdout + done.stderr

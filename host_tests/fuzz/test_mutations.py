"""The mutation fuzzer on both interpreters: 100,000 inputs, 10 million in `make test-slow`."""

import json
import subprocess
import sys

import pytest
from fuzz import mutate
from limpet import packets
from rig.micropython import ROOT

QUICK = 50_000  # for each interpreter
SLOW, PARTS = 10_000_000, 40
SCRIPT = ROOT / "host_tests" / "fuzz" / "mutate.py"


def fuzz(interpreter, micropython, count, seed):
    if interpreter == "micropython":
        done = micropython(SCRIPT, count, seed, timeout=300)
    else:
        command = [sys.executable, str(SCRIPT), str(count), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["inputs"] == count and said["faults"] == 0
    return count


@pytest.mark.parametrize("interpreter", ["cpython", "micropython"])
def test_damaged_packets(interpreter, micropython, record_property):
    record_property("fuzz inputs", fuzz(interpreter, micropython, QUICK, 1))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_ten_million_damaged_packets(part, micropython, record_property):
    interpreter = ("cpython", "micropython")[part % 2]
    each = SLOW // PARTS
    record_property("fuzz inputs", fuzz(interpreter, micropython, each, QUICK + 1 + part * each))


class Careless(packets.In):
    """Does not look whether the topic ends within the packet."""

    def publish(self):
        buf, p = self.buf, self.at
        self.topic_end = self.payload = p + 2 + (buf[p] << 8 | buf[p + 1])
        self.pid = 0


class Greedy(packets.In):
    """Takes what it has for the whole packet."""

    def next(self):
        if self.have - self.end < 2:
            return False
        self.op, self.at = self.buf[self.end], self.end + 2
        self.end = self.have
        return True


@pytest.mark.parametrize("broken", [Careless, Greedy])
def test_the_fuzzer_finds_a_broken_parser(broken, monkeypatch):
    monkeypatch.setattr(mutate, "In", broken)
    assert mutate.run(2_000, 1)


def test_both_interpreters_see_the_same_inputs(micropython):
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import mutate\n"
        "print([bytes(mutate.damaged(mutate.Random(i))).hex() for i in range(50)])"
    )
    ours = [bytes(mutate.damaged(mutate.Random(i))).hex() for i in range(50)]
    assert micropython("-c", code).stdout.strip() == str(ours)

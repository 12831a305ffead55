"""Hostile DER: a sample in every run, the full count in `make test-slow`."""

import json
import subprocess
import sys

import pytest
from rig.micropython import LIB, ROOT

UNIT = ROOT / "host_tests" / "unit"
START = (
    "import resource, sys; sys.path[:0] = sys.argv[3:]; from rig import fuzz_x509, shims;"
    "shims.install(); fuzz_x509.main(int(sys.argv[1]), int(sys.argv[2]));"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)
GROWTH_KB = 4096  # what CPython itself may take for its arenas
HEAP = "128k"  # of 64-bit objects, with the certificates and the library in it


def on_cpython(count, seed):
    """The result, with `peak` in KB."""
    folders = [str(ROOT / "host_tests"), str(LIB), str(UNIT)]
    done = subprocess.run(
        [sys.executable, "-c", START, str(count), str(seed), *folders],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result, peak = done.stdout.splitlines()[-2:]
    return {**json.loads(result), "peak": int(peak)}


def on_micropython(micropython, count, seed):
    done = micropython(
        "-c",
        f"import sys; sys.path.insert(0, {str(UNIT)!r}); import fuzz_x509; "
        f"fuzz_x509.main({count}, {seed})",
        heap=HEAP,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def told(result, record_property, where):
    record_property(
        "measured",
        f"{result['count']:,} damaged certificates on {where}: {result['malformed']:,} not read, "
        f"{result['refused']:,} read and refused, no other exception",
    )
    assert result["read"] > result["count"] // 20, "too few get past the first element"
    assert result["malformed"] > result["count"] // 20


def test_a_sample_on_cpython(record_property):
    told(on_cpython(40_000, 1), record_property, "CPython")


def test_a_sample_on_micropython(micropython, record_property):
    told(on_micropython(micropython, 10_000, 1), record_property, "MicroPython")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_million_on_cpython(record_property):
    few, many = on_cpython(10_000, 1), on_cpython(5_000_000, 2)
    told(many, record_property, "CPython")
    assert many["peak"] - few["peak"] < GROWTH_KB


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_on_micropython(micropython, record_property):
    told(on_micropython(micropython, 100_000, 2), record_property, "MicroPython")

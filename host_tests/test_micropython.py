"""The library's unit tests once more, each file on the real MicroPython binary."""

import json
from pathlib import Path

import pytest
from rig.micropython import ROOT

UNIT = sorted((ROOT / "host_tests" / "unit").glob("test_*.py"))


@pytest.mark.parametrize("file", UNIT, ids=lambda file: file.stem)
def test_on_micropython(file: Path, micropython, record_property):
    done = micropython(ROOT / "host_tests" / "rig" / "micropython_unittest.py", file)
    lines = done.stdout.strip().splitlines()
    assert done.returncode == 0 and lines, done.stdout + done.stderr
    result = json.loads(lines[-1])
    record_property("ran on MicroPython", result["ran"] - result["skipped"])
    assert not result["failed"], "\n".join(f"{name}\n{text}" for name, text in result["failed"])
    assert result["ran"] > 0

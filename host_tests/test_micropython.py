"""The library's unit tests once more, each file on the real MicroPython binary: on the desktop's
modules, and on each port's."""

import json
from pathlib import Path

import pytest
from rig.micropython import PORTS, ROOT

UNIT = sorted((ROOT / "host_tests" / "unit").glob("test_*.py"))


@pytest.mark.parametrize("port", [None, *PORTS])
@pytest.mark.parametrize("file", UNIT, ids=lambda file: file.stem)
def test_on_micropython(file: Path, port, micropython, record_property):
    runner = ROOT / "host_tests" / "rig" / "micropython_unittest.py"
    done = micropython(runner, file, port=port)
    lines = done.stdout.strip().splitlines()
    assert done.returncode == 0 and lines, done.stdout + done.stderr
    result = json.loads(lines[-1])
    if not port:
        record_property("ran on MicroPython", result["ran"] - result["skipped"])
    assert not result["failed"], "\n".join(f"{name}\n{text}" for name, text in result["failed"])
    assert result["ran"] > 0

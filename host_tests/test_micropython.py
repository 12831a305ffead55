"""The library's unit tests once more, each file on the real MicroPython binary: on the desktop's
modules, and on each port's."""

import json
from pathlib import Path

import pytest
from rig.micropython import OWN_PORT, PORTS, ROOT

UNIT = sorted((ROOT / "host_tests" / "unit").glob("test_*.py"))
CASES = [
    pytest.param(file, port, id=f"{file.stem}-{port or 'desktop'}")
    for file in UNIT
    for port in (None, *PORTS)
    if not port or file.stem not in OWN_PORT
]


@pytest.mark.parametrize(("file", "port"), CASES)
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

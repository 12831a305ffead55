"""The real MicroPython binary, for tests that run device code on it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from limpet_kit import micropython as micropython_program

__all__ = ["LIB", "ROOT", "micropython"]

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "lib"


def environment(folder: Path) -> dict[str, str]:
    """Its environment: our library and, from a copy in `folder`, the unittest module."""
    for entry in sys.path:
        if entry.endswith("site-packages") and (Path(entry) / "unittest.py").exists():
            shutil.copy(Path(entry) / "unittest.py", folder / "unittest.py")
    path = os.pathsep.join([str(folder), str(ROOT / "host_tests" / "rig"), str(LIB), ".frozen"])
    return {**os.environ, "MICROPYPATH": path}


@pytest.fixture(scope="session")
def micropython(tmp_path_factory):
    """`micropython(arguments, heap="8m", timeout=60)` -> CompletedProcess (text)."""
    program = micropython_program.find()
    if program is None:
        pytest.skip("the MicroPython binary is NOT INSTALLED: device code was not run on it")
    variables = environment(tmp_path_factory.mktemp("micropython"))

    def run(*arguments, heap="8m", timeout=60, **options):
        return subprocess.run(
            [program, "-X", f"heapsize={heap}", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=variables,
            **options,
        )

    return run

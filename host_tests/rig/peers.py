"""Other people's MicroPython libraries, for tests beside them; from the Python package index."""

import os
import subprocess
import sys

import pytest

__all__ = ["fetch", "umqtt"]

VERSIONS = ("micropython-umqtt.simple==1.3.4", "micropython-umqtt.robust==1.0")


def fetch(requirement, folder):
    """The unpacked source of a package that pip can download but not build: its root folder.

    These have no setup.py, so pip refuses them after unpacking; the unpacked source is enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-clean", "--no-deps"]
    done = subprocess.run(
        [*command, "--no-build-isolation", "--dest", folder / "done", requirement],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )
    name = requirement.partition("==")[0].replace(".", "-")
    found = list(folder.glob(f"pip-download-*/{name}_*/"))
    if not found:
        pytest.fail(f"{requirement} cannot be had:\n{done.stderr}")
    return found[0]


@pytest.fixture(scope="session")
def umqtt(tmp_path_factory):
    """A folder for MICROPYPATH with umqtt.simple and umqtt.robust."""
    top = tmp_path_factory.mktemp("peers")
    package = top / "lib" / "umqtt"
    package.mkdir(parents=True)
    for requirement in VERSIONS:
        source = fetch(requirement, top / requirement)
        for file in (source / "umqtt").iterdir():
            if file.exists():  # robust's archive links to a simple.py that is not in it
                (package / file.name).write_bytes(file.read_bytes())
    return package.parent

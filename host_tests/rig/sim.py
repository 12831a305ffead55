"""Simulated boards for tests: in the test's own LIMPET_HOME, off when the test ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from limpet_kit import install, micropython, sim
from limpet_kit.board import Board

__all__ = ["home", "sim_factory", "tool"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A LIMPET_HOME of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("LIMPET_HOME", str(folder))
    monkeypatch.delenv("LIMPET_WIFI", raising=False)
    return folder


@pytest.fixture
def sim_factory(home):
    """`sim_factory(board="SIM_RP2", library=False)` -> SimBoard, running."""
    if micropython.find() is None:
        pytest.skip("the MicroPython binary is NOT INSTALLED: no simulated board was tested")
    made = []

    def factory(board="SIM_RP2", library=False):
        started = sim.start(f"board-{len(made)}", board)
        made.append(started)
        if library:
            with Board(f"sim:{started.name}") as opened:
                install.library(opened, lambda done, total: None)
        return started

    yield factory
    for board in made:
        board.kill()


@pytest.fixture
def tool():
    """`tool("mpremote", ...)`: run a program of this environment; its CompletedProcess (bytes)."""

    def run(name, *arguments, timeout=60, check=True, env=None, **options):
        program = Path(sys.executable).with_name(name)
        done = subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            timeout=timeout,
            env={**(env or os.environ), "NO_COLOR": "1"},
            **options,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run

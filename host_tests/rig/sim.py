"""Simulated boards and programs for tests; the plug-in of the kit makes the boards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["home", "interruptible", "sim_factory", "tool"]


def interruptible():
    """For a child that is to be ended as by Ctrl-C: a run in the background ignores that, and
    so would the child."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def home(limpet_home, monkeypatch):
    """A LIMPET_HOME of the test's own, in a world without a Wi-Fi of ours."""
    monkeypatch.delenv("LIMPET_WIFI", raising=False)
    return limpet_home


@pytest.fixture
def sim_factory(home, sim_factory):
    """The plug-in's, in that home."""
    return sim_factory


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

"""The commands of README and tutorial, in order, on simulated boards, by somebody who reads them.

A block runs as it stands, but for the broker's port: each test has one of its own. The comment
above a block says when it is run otherwise (`rig.documents`):

needs hardware          not run; how many commands that are is printed at the end of the tests
not run: REASON         not run
another terminal        runs while the page goes on; `, instead` ends the one before
until: WORDS            runs until it prints these words
first case only         the attack of one case; test_attack.py runs them all
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from limpet_kit.broker.server import free_port
from rig.broker import require
from rig.documents import blocks
from rig.micropython import ROOT

CODE = re.compile(r"# exit code (\d+)$")
UNTIL_S = 40


class Reader:
    """Somebody at a shell in an empty folder, with `limpet` and `python` on the path."""

    def __init__(self, folder):
        self.folder = folder
        self.port = str(free_port())
        programs = Path(sys.executable).parent
        self.environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        self.terminal = None
        self.ran = self.for_hardware = 0
        (folder / "firmware").symlink_to(ROOT / "firmware")

    def read(self, page):
        """Run a whole page."""
        for block in blocks(page):
            if block.file:
                (self.folder / block.file).write_text(block.text)
            if block.mark == "needs hardware":
                self.for_hardware += len(block.commands)
            elif not block.mark.startswith("not run: "):
                for command in block.commands:
                    self.run(command, block.mark)

    def run(self, command, mark=""):
        """One command line, with what the mark of its block asks for."""
        expected = CODE.search(command)
        command = self.on_our_port(command)
        if mark == "first case only" and command.startswith("limpet attack "):
            command = command.partition("#")[0] + " --only other-ca"
        if mark.startswith("another terminal"):
            if mark.endswith(", instead"):
                self.leave()
            self.terminal = self.begin(command, subprocess.DEVNULL)
            self.wait_for_broker(command.removeprefix("limpet broker run"))
        elif mark.startswith("until: "):
            self.watch(command, mark.removeprefix("until: "))
        else:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=90,
            )
            wanted = int(expected[1]) if expected else 0
            assert done.returncode == wanted, f"{command}\n{done.stdout}{done.stderr}"
        self.ran += 1

    def on_our_port(self, command):
        """The command for this test's broker, so that tests can run side by side."""
        if command.startswith("limpet broker init"):
            words, _, remark = command.partition("#")
            return f"{words} --port {self.port} #{remark}"
        if command.startswith("limpet doctor localhost"):
            return command.replace("localhost", f"localhost:{self.port}")
        return command

    def begin(self, command, out):
        """Start a command that does not end by itself, in a process group of its own."""
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def watch(self, command, words):
        """Run it until it prints `words`."""
        running = self.begin(command, subprocess.PIPE)
        guard = _end_later(running)
        try:
            seen = []
            for line in running.stdout:
                seen.append(line)
                if words in line:
                    return
            pytest.fail(f"{command} did not say {words!r} but {''.join(seen)}")
        finally:
            guard.cancel()
            _end(running)

    def wait_for_broker(self, folder):
        """Return once the broker of the other terminal answers."""
        end = time.monotonic() + 20
        check = ["bash", "-c", f"limpet broker check {folder}"]
        while subprocess.run(
            check, cwd=self.folder, env=self.environment, capture_output=True
        ).returncode:
            assert time.monotonic() < end, "the broker in the other terminal does not answer"

    def leave(self):
        """Ctrl-C in the other terminal."""
        if self.terminal:
            _end(self.terminal)
            self.terminal = None


def _end(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()


def _end_later(process):
    timer = threading.Timer(UNTIL_S, lambda: os.killpg(process.pid, signal.SIGKILL))
    timer.start()
    return timer


@pytest.fixture
def reader(home, tmp_path):
    require("mosquitto")
    folder = tmp_path / "reader"
    folder.mkdir()
    reader = Reader(folder)
    reader.run("limpet broker init --loopback")  # what `limpet up sim` makes, on our port
    reader.ran = 0
    yield reader
    reader.leave()
    for command in ("limpet broker stop", "limpet sim stop"):
        subprocess.run(["bash", "-c", command], env=reader.environment, capture_output=True)


@pytest.mark.parametrize("page", ["README.md", "firmware/TUTORIAL.md"])
def test_a_page_does_what_it_says(reader, page, record_property):
    reader.read(page)
    assert reader.ran > 10 and reader.for_hardware
    record_property(
        "measured",
        f"{page}: {reader.ran} command lines run; {reader.for_hardware} need hardware, not tried",
    )

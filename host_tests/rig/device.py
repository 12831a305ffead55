"""Devices for system tests: sketches on the real MicroPython binary, enrolled at a real broker."""

import json
import os
import queue
import secrets
import subprocess
import textwrap
import threading
import time

import pytest
from limpet_kit import ca, credentials, micropython, protocol
from limpet_kit.broker import accounts, server
from limpet_kit.broker.files import write_private
from limpet_kit.secret import Secret
from rig import micropython as binary

__all__ = ["device_factory", "device_port"]

WAIT_S = 40
DEVICE = binary.ROOT / "host_tests" / "device"


class Device:
    """One enrolled device: its folder, its account, and the sketch that it runs.

    `port`: the board whose modules it runs on, None for the desktop's; that of the test when not
    told (`device_port`). `around` are its settings (boards/README.md), also while it runs:
    `configure`.
    """

    port = os.environ.get("LIMPET_PORT")

    def __init__(self, folder, broker, name, servers=None, anchor=None, port=None, **around):
        self.folder = folder
        self.broker = broker
        self.name = name
        self.program = micropython.find()
        if self.program is None:
            pytest.skip("the MicroPython binary is NOT INSTALLED: device code was not run on it")
        folder.mkdir()
        self.port = port = port or self.port
        before = []
        if port:
            before = binary.as_port(folder / "port", port, **around)
        self.command = [self.program, *before]
        library = binary.compiled_library() if port else binary.LIB
        environment = binary.environment(folder, library)
        environment["MICROPYPATH"] = os.pathsep.join([str(DEVICE), environment["MICROPYPATH"]])
        self.environment = environment
        profile = broker.settings.profile
        self.credential = credentials.draw(broker.settings)
        self.password = Secret(dict(self.credential.fields).get(protocol.PASSWORD, b""))
        self.account = accounts.Account(
            self.credential.account, self.credential.verifier, accounts.device_acl(name)
        )
        self.vault_id, self.control_key = secrets.token_bytes(16), secrets.token_bytes(32)
        self.process = None
        self.lines = queue.Queue()
        self.seen = []
        fields = [
            (1, name.encode()),
            (2, bytes([protocol.PROFILES[profile]])),
            *self.credential.fields,
            (7, self.control_key),
        ]
        if profile != "psk":
            fields += [(8, anchor or ca.anchor_der(broker.settings.folder))]
        fields += [(9, s.encode()) for s in servers or [broker.settings.server]]
        packed = b"".join(bytes([t]) + len(v).to_bytes(2, "big") + v for t, v in fields)
        parts = self.vault_id, secrets.token_bytes(32), packed
        self.execute(DEVICE / "sketch.py", folder, said=" ".join(p.hex() for p in parts) + "\n")

    def execute(self, script, *arguments, said=""):
        """Run a script to its end, as this device; its CompletedProcess (text)."""
        done = subprocess.run(
            [*self.command, script, *map(str, arguments)],
            input=said,
            capture_output=True,
            text=True,
            env=self.environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def run(self, sketch, heap="400k", first=""):
        """Start a sketch (source text); `client()` and `say()` of device/sketch.py are there.

        `first` is a line that comes before every import.
        """
        file = self.folder / "main.py"
        head = first + "\nimport asyncio, sys\nfrom sketch import client, say, vault\n"
        file.write_text(head + textwrap.dedent(sketch))
        self.process = subprocess.Popen(
            [self.program, "-X", f"heapsize={heap}", *self.command[1:], file, self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )
        self.lines = queue.Queue()
        threading.Thread(
            target=self._read, args=(self.process.stdout, self.lines), daemon=True
        ).start()

    def configure(self, **around):
        """Change what the port's world is like, within 100 ms; what is not named is as new."""
        settings = self.folder / "port" / "settings.json"
        write_private(settings, json.dumps(around).encode())

    def _read(self, output, lines):
        for line in output:
            lines.put(line.rstrip())
        lines.put(None)

    def wait(self, event, timeout=WAIT_S, **values):
        """The next line of this event and these values, text by its beginning; what comes before
        is skipped."""
        return self.wait_any(event, timeout=timeout, **values)

    def wait_any(self, *events, timeout=WAIT_S, **values):
        """As `wait`, for the first of several events."""
        until = time.monotonic() + timeout
        while True:
            try:
                line = self.lines.get(timeout=max(0, until - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                pytest.fail(f"no {events} {values} came; the device said:\n" + self.said())
            self.seen.append(line)
            if line.startswith("{"):
                found = json.loads(line)
                if found["event"] in events and all(
                    _fits(found[name], value) for name, value in values.items()
                ):
                    return found

    def answer(self, text=""):
        """Answer what the sketch asked with `ask` (device/warp.py)."""
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def said(self):
        """All that has been read from it."""
        return "\n".join(self.seen[-40:])

    def end(self, timeout=WAIT_S):
        """Wait for the end of the sketch; its exit code."""
        code = self.process.wait(timeout)
        while (line := self.lines.get(timeout=timeout)) is not None:
            self.seen.append(line)
        return code

    def kill(self):
        """Cut its power."""
        if self.process:
            self.process.kill()
            self.process.wait()


def _fits(found, wanted):
    return found.startswith(wanted) if isinstance(wanted, str) else found == wanted


@pytest.fixture(autouse=True)
def device_port(request, monkeypatch):
    """The port on whose modules every Device of this test runs; marked `on_ports`."""
    if port := getattr(request, "param", None):
        monkeypatch.setattr(Device, "port", port)
    return Device.port


@pytest.fixture
def device_factory(tmp_path):
    """`device_factory(broker, *names, servers=None)` -> enrolled Devices, one or a list."""
    made = []

    def factory(broker, *names, **options):
        names = names or ("lamp-1",)
        new = [Device(tmp_path / name, broker, name, **options) for name in names]
        made.extend(new)
        accounts_ = [d.account for d in made if d.broker is broker]
        fresh = [key for d in made for key in d.credential.fresh]
        assert server.sync(broker.settings, accounts_, force=True, fresh=fresh)
        return new[0] if len(new) == 1 else new

    yield factory
    for device in made:
        device.kill()

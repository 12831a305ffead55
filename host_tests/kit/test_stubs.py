"""The type stubs say what the library is, and help a sketch as its user's checker reads them."""

import os
import subprocess
import sys

import pytest
from limpet_kit import install
from rig.micropython import LIB, ROOT

STUBS = ROOT / "stubs" / "limpet-stubs"
# The library on CPython: rig/shims.py, and the names of old modules that umqtt goes by.
STUBTEST = """
import sys, types
sys.path[:0] = sys.argv.pop(1).split(":")
from rig.shims import install
install()
sys.modules["network"] = types.ModuleType("network")
for name in ("time", "socket", "struct", "binascii"):
    sys.modules["u" + name] = __import__(name)
from mypy import stubtest
sys.exit(stubtest.main())
"""
SKETCH = """
import limpet
from limpet.errors import LimpetError
from limpet.outbox import Outbox
from limpet.umqtt import MQTTClient

client = limpet.Client(log=print)
outbox = Outbox(client, limit=9)

@client.on("led")
async def led(payload: bytes) -> None:
    await client.publish("led", payload, qos=1)

async def main() -> None:
    async with client, outbox:
        await client.online()
        outbox.put("a", b"1")
        async for state, reason in client.events():
            print(state.lower(), reason, client.next_try + 1)
"""


@pytest.fixture
def stubs(tmp_path):
    """A folder for MYPYPATH: a checker takes `limpet-stubs` only where packages are installed."""
    (tmp_path / "types").mkdir()
    (tmp_path / "types" / "limpet").symlink_to(STUBS)
    return tmp_path / "types"


def python(stubs, *arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=stubs,
        env={**os.environ, "MYPYPATH": str(stubs)},
    )


def stubtest(stubs, umqtt):
    paths = ":".join(map(str, (ROOT / "host_tests", LIB, umqtt)))
    return python(stubs, "-c", STUBTEST, paths, "limpet", "--ignore-missing-stub")


def test_they_say_what_the_library_is(stubs, umqtt):
    done = stubtest(stubs, umqtt)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stub_that_is_wrong_is_found(stubs, umqtt):
    (stubs / "limpet").unlink()
    (stubs / "limpet").mkdir()
    for file in STUBS.glob("*.pyi"):
        text = file.read_text().replace("qos: int = 0", "qos: int = 1")
        (stubs / "limpet" / file.name).write_text(text)
    done = stubtest(stubs, umqtt)
    assert done.returncode == 1 and "limpet.client.Client.publish" in done.stdout


def test_a_sketch_is_checked_with_them(stubs):
    (stubs / "sketch.py").write_text(SKETCH)
    done = python(stubs, "-m", "mypy", "--strict", "sketch.py")
    assert done.returncode == 0, done.stdout
    (stubs / "sketch.py").write_text(SKETCH.replace("qos=1", "quality=1"))
    done = python(stubs, "-m", "mypy", "--strict", "sketch.py")
    assert done.returncode == 1 and '"quality"' in done.stdout


def test_they_never_land_on_a_board():
    assert not any(name.endswith(".pyi") for name in install.compiled())

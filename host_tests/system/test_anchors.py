"""A device gets online in every state that a power cut in an anchor rotation can leave.

Which states these are is found by cutting every flash operation (device/cuts.py): before the
change, with it pending beside the confirmed record, and with it alone. Here the client logs in
from each, at a server below the old anchor or the new one, as the rotation's order allows.
"""

from types import SimpleNamespace

import pytest
from limpet_kit import protocol
from limpet_kit.attack.behaviours import serve
from limpet_kit.attack.certificates import issue
from limpet_kit.attack.server import Server
from limpet_kit.broker import accounts
from limpet_kit.secret import Secret
from rig.device import Device

OLD, NEW = (issue(ca=True, common_name=name) for name in ("Old CA", "New CA"))
FIRST = "import warp"
SKETCH = """
c = client()

async def main():
    c.start()
    await c.online()
    say("up")
    await c.close()

asyncio.run(main())
"""
TAKE = """
import sys
from limpet import changes
from sketch import vault
box = bytes.fromhex(sys.stdin.readline())
assert changes.take(vault(), box)[1] == changes.RESTART
assert len(vault().records()) == 2
"""


@pytest.fixture
def server():
    with Server(issue(["localhost"], OLD), behaviours=[serve]) as made:
        yield made


@pytest.fixture
def device(tmp_path, server):
    place = SimpleNamespace(
        settings=SimpleNamespace(
            profile="binary", given=False, server="", verifier=accounts.verifier
        )
    )
    servers = [f"localhost:{server.port}"]
    made = Device(tmp_path / "lamp-1", place, "lamp-1", servers=servers, anchor=OLD.der)
    yield made
    made.kill()


def test_online_from_every_state(device, server, tmp_path):
    script = tmp_path / "take.py"
    script.write_text(TAKE)

    def online():
        """Start the device; it gets online, and says goodbye."""
        device.run(SKETCH, first=FIRST)
        device.wait("up")
        assert device.end() == 0

    def take(sequence, *anchors):
        """Have it write this change as pending: what a cut after the last operation leaves."""
        fields = protocol.encode([(protocol.ANCHOR, anchor.der) for anchor in anchors])
        key, vault = Secret(device.control_key), device.vault_id
        box = protocol.control_box(key, vault, protocol.CHANGE, sequence, fields)
        device.execute(script, device.folder, said=box.hex() + "\n")

    online()
    take(1, OLD, NEW)
    online()  # pending is tried, and kept
    online()
    server.show(issue(["localhost"], NEW))
    online()
    server.show(issue(["localhost"], OLD))
    take(2, NEW)
    online()  # pending trusts this server no more: back to the confirmed one at once
    server.show(issue(["localhost"], NEW))
    online()
    online()  # by the new anchor alone
    server.show(issue(["localhost"], OLD))
    device.run(SKETCH, first=FIRST)  # the control: the old one is gone
    device.wait("log", line="UNTRUSTED")

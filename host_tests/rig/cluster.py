"""Three RabbitMQ nodes, each in a network namespace of its own, on a bridge of this machine.

Needs root, RabbitMQ, iproute2 and nftables. Nodes are killed, cut off from each other while their
clients still reach them, and brought back.
"""

import dataclasses
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from limpet_kit.broker import client, connect, rabbitmq, server, settings, state
from limpet_kit.errors import KitError

__all__ = ["cluster", "cluster_session"]

NODES = 3
UP_S = 180  # a busy machine; 30 s for three on two free cores
_STEADY_S = 10  # after a cut a node may leave once more, when it has already come back
_PREFIX = "limpet-n"
_CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"  # Debian's in PATH becomes another user


def why_not():
    """None when a cluster can be started here, otherwise why not."""
    if rabbitmq.find() is None:
        return "RabbitMQ is NOT INSTALLED (apt install rabbitmq-server)"
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"{program} is NOT INSTALLED (apt install nftables iproute2)"
    done = _try("ip", "link", "add", f"lp{os.getpid()}t", "type", "bridge")
    if done.returncode:
        return f"a network CANNOT BE MADE here: {done.stderr.strip()}"
    _try("ip", "link", "del", f"lp{os.getpid()}t")
    return None


class Cluster:
    """The broker; `nodes` are its processes, by number from 0."""

    def __init__(self, folder):
        self.folder = folder
        self._bridge = f"lp{os.getpid()}b"
        self._spaces = [f"{_PREFIX}{os.getpid()}-{k}" for k in range(NODES)]
        self._net = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self.hosts = [f"{self._net}.{k + 1}" for k in range(NODES)]
        self.settings = settings.create(
            folder / "broker", [self.hosts[0]], 8883, settings.RABBITMQ, hosts=self.hosts
        )
        self._running = [None] * NODES
        self._disturbed = False  # since the nodes were last seen to be together

    def __enter__(self):
        run("ip", "link", "add", self._bridge, "type", "bridge")
        run("ip", "address", "add", f"{self._net}.254/24", "dev", self._bridge)
        run("ip", "link", "set", self._bridge, "up")
        for k, space in enumerate(self._spaces):
            run("ip", "netns", "add", space)
            cable = f"lp{os.getpid()}{k}"
            end = ["peer", "name", "eth0", "netns", space]
            run("ip", "link", "add", "name", cable, "type", "veth", *end)
            run("ip", "link", "set", cable, "master", self._bridge, "up")
            run("ip", "-n", space, "address", "add", f"{self.hosts[k]}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                run("ip", "-n", space, "link", "set", link, "up")
        return self

    def __exit__(self, *_):
        for space in self._spaces:
            for pid in _try("ip", "netns", "pids", space).stdout.split():
                _try("kill", "-9", pid)
            _try("ip", "netns", "del", space)
        for process in filter(None, self._running):
            process.kill()
            process.wait()
        _try("ip", "link", "del", self._bridge)

    def at(self, node):
        """The settings with which the kit speaks to this node alone."""
        return dataclasses.replace(self.settings, node=node).alone

    def start(self, *nodes):
        """Start these nodes as a user does, at once, and wait until each takes logins."""
        for k in nodes:
            with (self.folder / f"node-{k}.log").open("ab") as log:
                self._running[k] = subprocess.Popen(
                    [
                        *self.inside(k, sys.executable, "-m", "limpet_kit", "broker", "run"),
                        *(self.settings.folder, "--node", self.hosts[k]),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        end = time.monotonic() + UP_S
        for k in nodes:
            while not self.lets_in(k):
                assert self._running[k].poll() is None, self.log(k)
                assert time.monotonic() < end, self.log(k)
                time.sleep(0.2)

    def lets_in(self, node):
        """Whether this node takes the kit's login."""
        alone = self.at(node)
        try:
            account = alone.kit_accounts[-1]
            return client.login(alone, account, alone.kit_password(), 3) == connect.ACCEPTED
        except KitError:
            return False

    def kill(self, node):
        """kill -9: of the node, and of the program that started it."""
        self._disturbed = True
        self._running[node].kill()
        self._running[node].wait()
        server.open_broker(dataclasses.replace(self.settings, node=node)).kill()

    def cut(self, node):
        """No other node reaches this one any more; clients still do."""
        self._disturbed = True
        others = ", ".join(host for host in self.hosts if host != self.hosts[node])
        rules = (
            "table inet cut {\n"
            f"chain in {{ type filter hook input priority 0; ip saddr {{ {others} }} drop; }}\n"
            f"chain out {{ type filter hook output priority 0; ip daddr {{ {others} }} drop; }}\n"
            "}\n"
        )
        self._nft(node, "-f", "-", said=rules)

    def mend(self, node):
        """The end of a `cut`."""
        self._nft(node, "delete", "table", "inet", "cut")

    def make_whole(self):
        """Undo each `cut` and `kill`, and wait until the nodes see each other."""
        for k in range(NODES):
            if "inet cut" in self._nft(k, "list", "tables"):
                self.mend(k)
        running = [one is not None and one.poll() is None for one in self._running]
        self.start(*(k for k in range(NODES) if not running[k]))
        end, whole = time.monotonic() + UP_S, None
        while whole is None or (self._disturbed and time.monotonic() < whole + _STEADY_S):
            found = state.nodes(self.settings)
            together = set(found.values()) == {state.RUNNING}
            whole = (whole or time.monotonic()) if together else None
            assert time.monotonic() < end, (found, self.log(0))
            time.sleep(0.2)
        self._disturbed = False

    def inside(self, node, *words):
        """A command that runs where this node does."""
        return ["ip", "netns", "exec", self._spaces[node], *map(str, words)]

    def tell(self, node, *words):
        """`rabbitmqctl`, at this node."""
        folder = self.settings.folder
        tls = f"-proto_dist inet_tls -ssl_dist_optfile {folder}/node-{node + 1}/tls.config"
        where = ["--longnames", "--node", rabbitmq.name(self.settings, node)]
        run("env", f"HOME={folder}", f"RABBITMQ_CTL_ERL_ARGS={tls}",
            *self.inside(node, _CONTROL, *where, *words))  # fmt: skip

    def outside(self, number):
        """An address from which clients can come, from 1 on."""
        address = f"{self._net}.{100 + number}"
        _try("ip", "address", "add", f"{address}/24", "dev", self._bridge)
        return address

    @property
    def kit_address(self):
        """From where the kit comes."""
        return f"{self._net}.254"

    def _nft(self, node, *words, said=""):
        done = subprocess.run(
            self.inside(node, "nft", *words),
            input=said,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self, node):
        return (self.folder / f"node-{node}.log").read_text(errors="replace")[-3000:]


class OneAtATime:
    """The broker as one that can be killed and started: one node after the other."""

    def __init__(self, cluster):
        self.settings = cluster.settings
        self._cluster = cluster
        self._next = 0

    def kill(self):
        self._cluster.kill(self._next)

    def start(self):
        self._cluster.start(self._next)
        self._next = (self._next + 1) % len(self.settings.hosts)


def run(*words):
    done = _try(*words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)


def _try(*words):
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="session")
def cluster_session():
    """A `Cluster` of three nodes; skipped, loudly, where it cannot be."""
    why = why_not()
    if why:
        words = f"the cluster was NOT TESTED: {why}"
        if os.environ.get("LIMPET_REQUIRE_ALL") == "1":
            pytest.fail(words)
        pytest.skip(words)
    folder = Path(tempfile.mkdtemp(prefix="limpet-cluster"))
    try:
        with Cluster(folder) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(cluster_session):
    """The same cluster for all tests; whole at the start of each, however the last one ended."""
    cluster_session.make_whole()
    return cluster_session

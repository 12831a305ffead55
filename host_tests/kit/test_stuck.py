"""When a node is taken for one that hangs: real sockets, a clock of its own."""

import contextlib
import dataclasses
import socket
from types import SimpleNamespace

import pytest
from limpet_kit.broker.server import free_port
from limpet_kit.broker.stuck import STUCK_S, Stuck

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


@dataclasses.dataclass
class Clock:
    s: float = 1000.0

    def __call__(self):
        return self.s


@pytest.fixture
def node():
    """The first of three nodes, nothing of which runs; and its clock."""
    port = free_port(count=2)
    clock = Clock()
    chosen = SimpleNamespace(bound=HOSTS[0], hosts=HOSTS, node=0, port=port, node_port=port + 1)
    return SimpleNamespace(stuck=Stuck(chosen, clock), clock=clock, settings=chosen)


@contextlib.contextmanager
def listening(host, port):
    with socket.create_server((host, port)):
        yield


def looks(node, seconds):
    """Whether a look, one every 2 s for so long, said that it hangs."""
    found = False
    for _ in range(int(seconds / 2)):
        node.clock.s += 2
        found = node.stuck.look() or found
    return found


def test_cut_off_it_waits_for_ever(node):
    assert not looks(node, 10 * STUCK_S)


def test_what_listens_does_not_hang(node):
    chosen = node.settings
    with listening(HOSTS[1], chosen.node_port), listening(HOSTS[0], chosen.port):
        assert not looks(node, 10 * STUCK_S)


def test_it_hangs_when_it_reached_most_nodes_all_the_time(node):
    chosen = node.settings
    with listening(HOSTS[1], chosen.node_port):
        assert not looks(node, STUCK_S)
        with listening(HOSTS[0], chosen.port):  # it has come back, and leaves again
            assert not looks(node, 4)
        assert not looks(node, STUCK_S)
    assert not looks(node, 4)  # cut off once more
    with listening(HOSTS[2], chosen.node_port):
        assert not looks(node, STUCK_S)
        assert looks(node, 4)

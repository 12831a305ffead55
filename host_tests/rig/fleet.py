"""Many boards at one broker: enrolled, killed with what is around them, asked who is there."""

import contextlib
import random
import secrets
import subprocess
import sys
import time

from limpet_kit import bringup, sim
from limpet_kit.broker.client import KitClient
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.secret import Secret
from limpet_kit.wifi import Network

ONLINE_S = 90.0  # for the last one: the broker was killed, and waits are spread


def enrol(sim_factory, settings, count):
    """New boards that are online at a broker."""
    plan = Plan(networks=lambda: [Network(b"home", Secret(b"a key of home"))])
    boards = []
    for _ in range(count):
        boards.append(sim_factory())
        port = f"sim:{boards[-1].name}"
        bringup.bring_up(port, settings, plan, Console(), lambda *_: None, reading_s=0)
    return boards


def command(*arguments):
    """A command line of the kit in a process of its own."""
    return [sys.executable, "-m", "limpet_kit", *map(str, arguments)]


@contextlib.contextmanager
def interrupted(arguments):
    """The kit at work in a process that is killed at the end."""
    quiet = subprocess.DEVNULL
    kit = subprocess.Popen(command(*arguments), stdout=quiet, stderr=quiet)
    try:
        yield kit
    finally:
        kit.kill()
        kit.wait()


def kill(boards, within_s):
    """Cut the power of these, one after the other at random moments of each `within_s`."""
    for board in boards:
        time.sleep(random.random() * within_s)
        board.kill()


def start(boards):
    """Power for those that have none."""
    for board in boards:
        sim.start(board.name, board.board)


def silent(settings, names):
    """The devices that do not answer a ping within the time."""
    nonce = secrets.token_hex(8).encode()
    missing = set(names)

    def collect(topic, payload):
        if payload == nonce and "/up/" in topic:
            missing.discard(topic.split("/")[1])
        return not missing

    with KitClient(settings) as kit:
        kit.subscribe("limpet/+/up/ping")
        end = time.monotonic() + ONLINE_S
        while missing and time.monotonic() < end:
            for name in sorted(missing):
                kit.publish(f"limpet/{name}/cmd/ping", nonce)
            kit.wait(collect, 2)
    return missing

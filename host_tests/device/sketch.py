"""What the sketches of the system tests share; runs on MicroPython.

A sketch gets its folder as first argument, where its vault is, and answers in lines of JSON.
"""

import json
import sys
import time

from limpet.client import Client
from limpet.store import FileStore
from limpet.vault import Vault

FOLDER = sys.argv[1]


def vault():
    """This device's vault."""
    return Vault(FileStore(FOLDER), b"chip-001")


def client(**options):
    """A client on this device's vault; its log goes to the test."""
    options.setdefault("log", lambda line: say("log", line=line))
    return Client(vault(), **options)


class Fed:
    """A watchdog that only notes when it was fed last (`at`), and the longest pause, in ms."""

    def __init__(self):
        self.at = time.ticks_ms()
        self.longest = 0

    def feed(self):
        now = time.ticks_ms()
        self.longest = max(self.longest, time.ticks_diff(now, self.at))
        self.at = now


def say(event, **values):
    """Tell the test."""
    values["event"] = event
    print(json.dumps(values))


def enrol():
    """Take a record from standard input: vault id, store secret and fields in hex."""
    vault_id, secret, fields = [bytes.fromhex(part) for part in sys.stdin.readline().split()]
    vault().write(1, vault_id, secret, fields)


if __name__ == "__main__":
    enrol()

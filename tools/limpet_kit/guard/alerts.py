"""Who was banned or spared: into the broker's folder, to a topic, and to a command of the owner's.

The topic `limpet/kit/alert` is the kit's alone (`accounts.kit_acl`): no device reads or writes it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from .. import toml
from ..broker import mosquitto
from ..broker.client import KitClient
from ..broker.files import write_private
from ..broker.settings import Settings, broken
from ..errors import USAGE, KitError

TOPIC = "limpet/kit/alert"
LOG = "guard.log"  # one JSON object a line
_COMMAND_S = 30


def configure(folder: Path, command: str | None) -> None:
    """Keep the command that alerts are handed to; from now on the folder counts as guarded."""
    text = "# Written by `limpet guard install`.\n"
    text += f"command = {json.dumps(command)}\n" if command else ""
    write_private(folder / mosquitto.GUARD, text.encode())


def alert(settings: Settings, what: str, address: str, count: int, seconds: int) -> dict[str, Any]:
    """Tell that `address` was refused `count` times in `seconds`; `what` is banned, spared, test.

    The file first: it is there whatever happens to the others. Raises `KitError` at the end when
    topic or command failed.
    """
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise KitError(f"{address!r} is no address.", USAGE) from None
    told = {
        "what": what,
        "address": address,
        "count": count,
        "seconds": seconds,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    line = json.dumps(told) + "\n"
    with open(settings.folder / LOG, "a", encoding="ascii") as file:
        file.write(line)
    failed = []
    try:
        with KitClient(settings) as client:
            client.publish(TOPIC, line.strip().encode())
    except KitError as e:
        failed.append(str(e))
    command = _command(settings.folder)
    if command:
        environment = {f"LIMPET_ALERT_{key.upper()}": str(value) for key, value in told.items()}
        try:
            done = subprocess.run(
                command,
                shell=True,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                timeout=_COMMAND_S,
            )
            if done.returncode:
                failed.append(f"The alert's command ended with code {done.returncode}.")
        except subprocess.TimeoutExpired:
            failed.append(f"The alert's command did not end within {_COMMAND_S} s.")
    if failed:
        raise KitError(" ".join(failed))
    return told


def last(folder: Path, count: int) -> list[dict[str, Any]]:
    """The latest alerts, the oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / LOG).read_text("ascii").splitlines()[-count:]:
            found.append(json.loads(line))
    return found


def _command(folder: Path) -> str | None:
    path = folder / mosquitto.GUARD
    try:
        command = toml.loads(path.read_text("utf-8")).get("command")
    except FileNotFoundError:
        return None
    except toml.Malformed as e:
        raise broken(path, str(e)) from None
    return str(command) if command else None

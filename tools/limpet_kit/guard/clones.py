"""Which device an account is, and from where it logged in: what an alert on a clone has to say.

Two that log in with one credential throw each other out, over and over. The broker names the
account only, which is half a credential, so the alert names the device.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ..broker import accounts, export

_LARGEST = 4 << 20  # bytes of the log, from its end
_MOST = 8  # addresses that are told


def of(folder: Path, log: Path, account: str, logins: int) -> tuple[str, list[str]]:
    """The device's name (empty when the broker does not know the account any more), and the
    addresses of its latest `logins`, the last one first."""
    device = accounts.device_of(export.read_acl(folder, [account]).get(account, ""))
    return device, _addresses(log, account, logins)


def _addresses(log: Path, account: str, logins: int) -> list[str]:
    name = re.escape(account.encode())
    pattern = re.compile(
        # Mosquitto, and RabbitMQ in JSON, where what a client says cannot hold a bare quote. From
        # the beginning: both write what clients say into other lines.
        rb"(?m)^[0-9T:/-]+: New client connected from (\S+):\d+ as %s \([^\n]*\)\.$" % name
        + rb'|"msg":"accepting MQTT connection <[0-9.]+> '
        + rb"\((\S+):\d+ -> \S+, client id: %s\)" % name
    )
    found: dict[str, None] = {}
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LARGEST))
        told = [
            (match[1] or match[2]).decode("ascii", "replace")
            for match in pattern.finditer(file.read())
        ]
        found = dict.fromkeys(reversed(told[-logins:]))
    return list(found)[:_MOST]

"""What the guard has to tell: who, how often, from where. Kept in the broker's folder, and sent.

fail2ban starts `limpet guard alert`, which ends here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import time
from pathlib import Path
from typing import Any

from ..broker import state
from ..broker.settings import Settings
from ..errors import USAGE, KitError
from . import clones, messengers

# A ban for good, a known site that would have been banned, an address that never logs in shut out
# for a day, an account that two use, and a try of `limpet guard test`.
KINDS = ("banned", "spared", "shut", "cloned", "test")
LOG = "guard.log"  # one JSON object a line


def alert(
    settings: Settings,
    what: str,
    count: int,
    seconds: int,
    address: str = "",
    account: str = "",
) -> dict[str, Any]:
    """Tell that this happened `count` times in `seconds`; `what` is one of KINDS.

    Who it is: an `address` (of IPv6 its /64), or the device of an `account`, told with the
    addresses from which it last logged in. The file first: it is there whatever happens to the
    messengers. Raises `KitError` at the end when one of them failed.
    """
    told: dict[str, Any] = {"what": what}
    if account:
        log = state.log_of(settings)
        told["device"], told["from"] = clones.of(settings.folder, log, account, count)
    else:
        try:
            told["address"] = str(network(address))
        except ValueError:
            raise KitError(f"{address!r} is no address.", USAGE) from None
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told.update(count=count, seconds=seconds, at=at)
    with open(settings.folder / LOG, "a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        torn = file.read(1) not in (b"", b"\n")  # by a full disk
        file.write(b"\n" * torn + json.dumps(told).encode() + b"\n")
    messengers.send(settings, told, words(told))
    return told


def network(
    text: str,
) -> ipaddress.IPv4Address | ipaddress.IPv6Network:
    """What the guard counts for this address: itself, and of IPv6 the /64 that it lies in.

    Raises ValueError for what is no address and no such network.
    """
    address = ipaddress.ip_address(text.removesuffix("/64") if ":" in text else text)
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return ipaddress.IPv6Network((address, 64), strict=False)


def words(told: dict[str, Any]) -> str:
    """An alert as one line for a person."""
    often = f"{told['count']} times in {told['seconds']} s"
    if told["what"] == "cloned":
        places = ", ".join(told["from"]) or "unknown addresses"
        return f"cloned: {told['device']} was taken over {often}, from {places}"
    did = {"shut": "connected without ever logging in", "test": "a test"}.get(
        told["what"], "was refused"
    )
    return f"{told['what']}: {told['address']} {did} {often}"


def last(folder: Path, count: int) -> list[dict[str, Any]]:
    """The latest alerts, the oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / LOG).read_text("ascii", "replace").splitlines():
            with contextlib.suppress(ValueError):  # written in part, on a full disk
                found.append(json.loads(line))
    return [one for one in found if isinstance(one, dict)][-count:]

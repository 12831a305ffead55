"""`limpet broker renew`: another certificate for the server, by the same CA."""

from __future__ import annotations

import argparse
import contextlib
import ssl
import time

from .. import ca
from ..broker import client, server
from ..broker.settings import RABBITMQ, Settings
from ..console import Console
from ..errors import OK

HELP = "make the server's certificate anew, by the same CA: no device has to be told"
EXAMPLE = "limpet broker renew ~/broker"
_SERVED_S = 10.0  # for a running broker to serve it
_CACHED_S = 150.0  # RabbitMQ keeps what it has read for two minutes


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object last")


def run(chosen: Settings, console: Console) -> int:
    """Do it; returns the exit code."""
    ca.renew(chosen.folder, list(chosen.names))
    left = ca.days_left(chosen.folder)
    console.line(f"{chosen.folder / 'server.crt'} is valid for {left:.0f} days")
    broker, served = server.open_broker(chosen), None
    if broker.running():
        with console.progress("the broker takes it"):
            served = _is_served(chosen, broker)
    if served:
        console.line("the broker serves it; nobody was disconnected")
    elif served is False:
        console.warn(
            "The broker still serves the old one. It takes the new one when it is started again: "
            f"limpet broker stop {chosen.folder}, then limpet broker run {chosen.folder}"
        )
    if len(chosen.hosts) > 1:
        console.warn("Copy server.crt into the broker's folder on each of the other machines.")
    console.result({"ok": True, "days_left": round(left, 1), "served": served})
    return OK


def _is_served(chosen: Settings, broker: server.Broker) -> bool:
    """Have the broker read it; whether it serves it now."""
    wanted = ssl.PEM_cert_to_DER_cert((chosen.folder / "server.crt").read_text("ascii"))
    end = time.monotonic() + (_CACHED_S if chosen.kind == RABBITMQ else _SERVED_S)
    broker.reload()
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if _shown(chosen) == wanted:
                return True
        time.sleep(0.2)
    return False


def _shown(chosen: Settings) -> bytes | None:
    """The certificate that it serves, in DER."""
    with client.dial(chosen, 5.0) as raw, client.context(chosen).wrap_socket(raw) as link:
        return link.getpeercert(binary_form=True)

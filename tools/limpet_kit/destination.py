"""Where a device is to log in: the servers and the anchor of a broker, as fields of its record."""

from __future__ import annotations

from . import ca, protocol
from .broker.settings import LOOPBACK, Settings
from .errors import NO_BROKER, REFUSED, KitError


def fields(settings: Settings, vault: bytes, simulated: bool) -> protocol.Fields:
    """The anchor and the servers of this broker, for the device with this vault id.

    Raises `KitError` (REFUSED, NO_BROKER) where a real board must not be sent, or cannot go.
    """
    anchor = ca.anchor_der(settings.folder)
    if ca.is_demo(anchor) and not simulated:
        raise KitError(
            "This broker is a demo's: its CA lives for a day and no real board may trust it. Make "
            "a broker of your own: limpet broker init",
            REFUSED,
        )
    if settings.names[0] in LOOPBACK and not simulated:
        raise KitError(
            "This broker can be reached from this machine only, so no real board would find it. "
            "Make one with an address that boards can dial: limpet broker init DIR --host NAME",
            NO_BROKER,
        )
    anchors = [] if settings.profile == "psk" else [anchor]  # a shared key proves the server too
    return [
        *((protocol.ANCHOR, der) for der in anchors),
        *((protocol.SERVER, s.encode()) for s in servers(settings, vault, simulated)),
    ]


def servers(settings: Settings, vault: bytes, simulated: bool) -> list[str]:
    """What a device dials, in its order: as many of the broker's servers as a record holds.

    Each device begins with another one, so that a fleet is spread over all of them.
    """
    found = settings.servers
    # A simulated board needs no name service for a broker on its own machine.
    here = len(settings.hosts) < 2 and not settings.given
    if simulated and (here or settings.names[0] in LOOPBACK):
        found = tuple(f"{LOOPBACK[1]}:{server.rpartition(':')[2]}" for server in found)
    found = tuple(dict.fromkeys(found))
    first = int.from_bytes(vault[:4], "big") % len(found)
    return [*found[first:], *found[:first]][: protocol.REPEATS]

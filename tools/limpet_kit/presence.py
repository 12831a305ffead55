"""Who is online, as the brokers have it: the retained state of every device."""

from __future__ import annotations

import json

from .broker import settings
from .broker.client import KitClient
from .console import printable
from .errors import KitError
from .ledger import Ledger, Unit

_STATE_MAX = 512  # bytes; what a device says of itself is short
_SOON_DAYS = 60
_ASK_S = 5.0


def of(ledger: Ledger, units: list[Unit]) -> dict[str, tuple[str, str]]:
    """Vault id of each unit to (its broker's server, what is known of its link in words).

    A broker that cannot be asked makes it `not asked` with the reason: no error.
    """
    found = {}
    for broker in {unit.broker for unit in units}:
        folder = ledger.broker_folder(broker)
        states, server, why = {}, str(folder), ""
        try:
            chosen = settings.load(folder)
            server = chosen.server
            states = _states(chosen)
        except KitError as e:
            why = f"not asked: {str(e).rstrip('.')}"
        for unit in units:
            if unit.broker == broker:
                words = why or in_words(states.get(unit.name))
                found[unit.vault] = (server, words)
    return found


def _states(chosen: settings.Settings) -> dict[str, bytes]:
    """Device to the state that the broker has retained for it."""
    with KitClient(chosen, _ASK_S) as client:
        found = client.retained("limpet/+/state", _ASK_S)
    return {topic.split("/")[1]: payload for topic, payload in found.items()}


def in_words(payload: bytes | None) -> str:
    """What a state means; it is what a device claims."""
    if payload is None:
        return "never seen online"
    try:
        said = json.loads(payload) if len(payload) <= _STATE_MAX else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.get("state") not in ("online", "offline"):
        return "in an unknown state"
    words = str(said["state"])
    if words == "offline" and isinstance(said.get("cause"), str):
        words += f" ({printable(said['cause'], 40)})"
    if isinstance(said.get("distrusted"), str):
        words += f"; was UNTRUSTED before: {printable(said['distrusted'], 40)}"
    if said.get("time") == "refused":
        words += "; does not believe the kit's time"
    for field, whose in (("anchor_days", "anchor"), ("server_days", "server's certificate")):
        days = said.get(field)
        if type(days) is int and days <= _SOON_DAYS:
            words += f"; by its clock its {whose} ends in {days} days"
    return words

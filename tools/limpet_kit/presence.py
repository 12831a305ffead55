"""Who is online, as the brokers have it: the retained state of every device."""

from __future__ import annotations

import json

from .broker import settings, state
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
            for name, online in by_session(ledger, chosen, units).items():
                if in_words(states.get(name)).startswith("online") != online:
                    states[name] = as_state(online)
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


def by_session(ledger: Ledger, chosen: settings.Settings, units: list[Unit]) -> dict[str, bool]:
    """Whether units of a broker with several machines are logged in, by name; empty for others.

    Each of RabbitMQ's nodes retains what a device said there, so a device that moved from one to
    the other has said two things. Who is logged in the nodes know together.
    """
    if not chosen.hosts:
        return {}
    there = state.connected(chosen)
    return {
        unit.name: bool(ledger.logins(unit.vault, chosen.kit) & there)
        for unit in units
        if unit.broker == chosen.kit
    }


def as_state(online: bool) -> bytes:
    """What a device says of itself, as little as can be known of it elsewhere."""
    return json.dumps({"state": "online" if online else "offline"}).encode()


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

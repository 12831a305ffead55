"""A unit is seen online for the first time: the ledger learns it, what it replaces goes. E6, E7.

The proof is its acknowledgement with a tag that only it can make (PROTOCOLS.md 5). The broker
retains it, so it is also there for those who come later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from . import changes, kitkey, protocol, registry
from .broker.client import KitClient
from .broker.settings import Settings, load
from .errors import NOT_ONLINE, KitError
from .ledger import ACTIVE, REGISTERED, Ledger, Unit

ONLINE_S = 60.0
ONLINE, REPLACED = "online", "replaced"  # names of steps
_RETAINED_S = 2.0  # for what the broker retains, or a last will, to arrive

Step = Callable[[str, str], None]  # a step is done: its name, and one line for a person


def wait(
    client: KitClient,
    ledger: Ledger,
    settings: Settings,
    unit: Unit,
    step: Step,
    wait_s: float = ONLINE_S,
    unless: Callable[[], bool] | None = None,
) -> Unit:
    """Wait for the unit's tagged acknowledgement, then finish what it was the last step of.

    `client` is subscribed to `limpet/<name>/kit/ack`; an acknowledgement that was retained while
    nobody looked will do. Raises `KitError` (NOT_ONLINE) after `wait_s` seconds or as soon as
    `unless()` holds.
    """
    if unit.state == REGISTERED and not client.wait(
        lambda _, payload: is_its(unit, payload), wait_s, unless
    ):
        raise KitError(
            f"{unit.name} is written, but did not log in within {wait_s:.0f} s. See what it "
            "says with: mpremote connect PORT, then Ctrl-D. Was a Wi-Fi key mistyped, or is "
            "its network cable out? Begin anew with --force.",
            NOT_ONLINE,
        )
    return _finish(client, ledger, settings, unit, step)


def late(ledger: Ledger, settings: Settings, step: Step) -> None:
    """The same for all units of a broker that logged in when nobody waited any more.

    Asks the broker only when the ledger has units that were not seen online yet; one that has
    not logged in stays as it is. Raises `KitError` (NO_BROKER) when it cannot be asked.
    """
    units = [u for u in ledger.units() if u.broker == settings.kit and _is_awaited(u)]
    if not units:
        return
    with KitClient(settings) as client:
        said = client.retained("limpet/+/kit/ack", _RETAINED_S)
        for unit in units:
            ack = said.get(f"limpet/{unit.name}/kit/ack", b"")
            try:
                seen = unit.state == ACTIVE or is_its(unit, ack)
            except KitError:  # enrolled with a kit key that is not here
                seen = False
            if seen:
                _finish(client, ledger, settings, unit, step)


def _is_awaited(unit: Unit) -> bool:
    return unit.state == REGISTERED or (unit.state == ACTIVE and unit.replaces is not None)


def is_its(unit: Unit, payload: bytes) -> bool:
    """Whether this acknowledges the unit's first record."""
    ack = protocol.read_ack(kitkey.control_key(unit), bytes.fromhex(unit.vault), payload)
    return ack is not None and ack.generation == unit.generation


def _finish(client: KitClient, ledger: Ledger, settings: Settings, unit: Unit, step: Step) -> Unit:
    if unit.state == REGISTERED:
        try:
            unit = ledger.advance(unit, ACTIVE)
        except KitError:
            now = ledger.unit(unit.vault)
            if now is None or now.state != ACTIVE:
                raise
            unit = now  # another limpet has seen it as well
        step(ONLINE, f"{unit.name} is online")
    if unit.replaces:
        unit = _take_place(client, ledger, settings, unit)
        step(REPLACED, "the account of the unit it replaces is gone")
    return unit


def _take_place(client: KitClient, ledger: Ledger, settings: Settings, unit: Unit) -> Unit:
    """E7: the replaced unit's account out of the broker, what it left there cleared."""
    assert unit.replaces is not None, "only a unit that replaces another comes here"
    old = ledger.unit(unit.replaces)
    state = f"limpet/{unit.name}/state"
    client.subscribe(state)
    current = client.wait(lambda topic, payload: topic == state and bool(payload), _RETAINED_S)
    elsewhere = changes.brokers_of(ledger, old) - {settings.kit} if old else set()
    if old:
        ledger.retire(old)
        if old.name != unit.name:
            ledger.pass_on(old.name, unit.name)
    registry.sync(ledger, settings)
    for broker in elsewhere:
        with contextlib.suppress(KitError):  # then the next sync there does it
            registry.sync(ledger, load(ledger.broker_folder(broker)))
    if old and old.name != unit.name:
        client.clear(old.name, _RETAINED_S)
    elif current:
        # The old session's end publishes its last will: over the state of the new one.
        will = client.wait(lambda topic, payload: topic == state, _RETAINED_S)
        if will and will[1] != current[1]:
            client.publish(state, current[1], retain=True)
    return ledger.settle(unit)

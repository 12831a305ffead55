"""The kit is killed at each step of a rotation or a move; the same command again finishes it."""

import pytest
from limpet_kit import bringup, cli, registry
from limpet_kit.broker import accounts, export
from limpet_kit.broker.client import KitClient
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.errors import OK
from limpet_kit.ledger import ABANDONED, APPLIED, SENDING, SENT, VOID, Ledger
from limpet_kit.secret import Secret
from limpet_kit.wifi import Network

pytestmark = pytest.mark.mosquitto


class Killed(BaseException):
    """Nothing in the kit catches it: as `kill -9` would, it leaves what was written."""


def cut(patch, owner, name, fits=lambda *arguments: True, after=False):
    """Have the first call of `owner.name` whose arguments fit end the kit, before or after it."""
    real = getattr(owner, name)

    def call(*arguments, **options):
        if not fits(*arguments):
            return real(*arguments, **options)
        if after:
            real(*arguments, **options)
        raise Killed

    patch.setattr(owner, name, call)


def to(state):
    return lambda ledger, change, new, *_: new == state


def a_box(client, topic, payload, *_):
    return topic.endswith("/kit/set") and len(payload) > 32


def clearing(client, topic, payload, *_):
    return topic.endswith("/kit/set") and not payload


def device_accounts(broker):
    return {name for name in export.read(broker.settings.folder) if accounts.is_devices(name)}


# where: what ends the kit, and what becomes of the change that was cut
CUTS = {
    "drawn": (registry, "sync", lambda *_: True, False, VOID),
    "accounts at the broker": (registry, "sync", lambda *_: True, True, VOID),
    "about to send": (Ledger, "move", to(SENDING), False, VOID),
    "sending": (KitClient, "publish", a_box, False, ABANDONED),
    "published": (Ledger, "move", to(SENT), False, APPLIED),
    "sent": (Ledger, "move", to(SENT), True, APPLIED),
    "answered": (Ledger, "move", to(APPLIED), False, APPLIED),
    "applied": (Ledger, "move", to(APPLIED), True, APPLIED),
    "account out": (KitClient, "publish", clearing, False, APPLIED),
    "box cleared": (Ledger, "settle_change", lambda *_: True, False, APPLIED),
}
# What else there is to cut where two brokers have part in it.
MOVING = {
    "published at the new broker alone": (KitClient, "publish", a_box, True, ABANDONED),
    "applied": CUTS["applied"],
    "account out": CUTS["account out"],
    "box cleared at one": (KitClient, "publish", clearing, True, APPLIED),
    "old broker cleared": (KitClient, "clear", lambda *_: True, True, APPLIED),
}


@pytest.mark.parametrize("cuts", [CUTS, MOVING], ids=["rotate", "move"])
def test_a_killed_kit_goes_on_with_the_same_command(
    cuts, sim_factory, broker_factory, monkeypatch
):
    broker = broker_factory("mosquitto")
    other = broker_factory("embedded") if cuts is MOVING else None
    board = sim_factory()
    plan = Plan(networks=lambda: [Network(b"home", Secret(b"a key of home"))])
    unit = bringup.bring_up(
        f"sim:{board.name}", broker.settings, plan, Console(), lambda *_: None, reading_s=0
    ).unit
    command = ["rotate", unit.name, "--broker", str(broker.settings.folder)]
    for name, (owner, method, fits, after, fate) in cuts.items():
        if other:
            command = ["broker", "move", *(str(b.settings.folder) for b in (broker, other))]
            broker, other = other, broker
        with Ledger() as ledger:
            before = len(ledger.changes(unit.vault))
        with monkeypatch.context() as patch:
            cut(patch, owner, method, fits, after)
            with pytest.raises(Killed):
                cli.main(command)
        assert cli.main(command) == OK, name
        with Ledger() as ledger:
            listed = ledger.changes(unit.vault)
            account = ledger.account(unit.vault)
        assert listed[before].state == fate, name
        assert listed[-1].state == APPLIED, name
        assert device_accounts(broker) == {account}, name
        if other:
            assert not device_accounts(other), name
            with KitClient(other.settings) as kit:
                assert not kit.retained(f"limpet/{unit.name}/#", 5), name

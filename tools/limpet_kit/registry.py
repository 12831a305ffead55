"""From the ledger into a broker: which accounts it is to know."""

from __future__ import annotations

from collections.abc import Iterable

from .broker import accounts, server
from .broker.export import Export
from .broker.settings import Settings
from .console import Console
from .ledger import Ledger
from .secret import Secret


def sync(
    ledger: Ledger,
    settings: Settings,
    force: bool = False,
    at_once: bool = False,
    fresh: Iterable[Secret] = (),
) -> bool:
    """Make the ledger's accounts of this broker the broker's accounts.

    True when a running broker was seen to have taken them, False when none runs and the files
    wait for its start. At a given broker nothing is done but saying which accounts have ended:
    its owner has to remove them. Raises `KitError` as `broker.server.sync` does, and takes its
    options.
    """
    ledger.know_broker(settings.kit, settings.folder, settings.server)
    ended = ledger.ended(settings.kit)
    if settings.given:
        ledger.forget(ended)
        for name in sorted(ended - ledger.ended(settings.kit)):
            Console().warn(f"Remove its account at your broker: {name}")
        return True
    wanted = ledger.accounts(settings.kit, settings.homeassistant)
    taken = server.sync(settings, wanted, force, gone=ended, at_once=at_once, fresh=fresh)
    ledger.forget(ended)
    return taken


def unsynced(ledger: Ledger, settings: Settings) -> tuple[set[str], set[str]]:
    """Accounts that the broker's files lack or have otherwise, and those that it should not know.

    Empty and empty when ledger and broker are in step, and for a given broker.
    """
    if settings.given:
        return set(), set()
    export = Export(settings.folder, ledger.accounts(settings.kit, settings.homeassistant))
    extra = {name for name in export.leaving if accounts.is_devices(name)}
    return {account.name for account in export.changed}, extra

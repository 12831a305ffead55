"""From the ledger into a broker: which accounts it is to know."""

from __future__ import annotations

from .broker import server
from .broker.settings import Settings
from .ledger import Ledger


def sync(ledger: Ledger, settings: Settings) -> bool:
    """Make the ledger's accounts of this broker the broker's accounts.

    True when a running broker was seen to have taken them, False when none runs and the files
    wait for its start. Raises `KitError` as `broker.server.sync` does.
    """
    ledger.know_broker(settings.kit, settings.folder, settings.server)
    ended = ledger.ended(settings.kit)
    taken = server.sync(settings, ledger.accounts(settings.kit), gone=ended)
    ledger.forget(ended)
    return taken

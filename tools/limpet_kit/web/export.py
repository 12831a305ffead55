"""Brings the seats that pages take and leave to the broker, several with one reload."""

from __future__ import annotations

import asyncio

from .. import registry
from ..broker.settings import Settings
from ..ledger import Ledger


class Export:
    """Whoever asks while an export runs shares the next one with all who ask meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[bool] | None = None

    async def sync(self) -> bool:
        """Return when the broker has what the ledger held at this call.

        False when the broker does not run; `KitError` when it does not take it.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> bool:
        async with self._one_at_a_time:
            self._next = None  # whoever comes from now on may have come too late for this one
            return await asyncio.to_thread(self._sync)

    def _sync(self) -> bool:
        with Ledger() as ledger:
            return registry.sync(ledger, self._settings)

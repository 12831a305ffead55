"""Following a client's changes of state; loaded when a sketch asks for them."""

import asyncio


class Events:
    """An asynchronous iterator over the changes from now on: (state, reason)."""

    def __init__(self, status):
        self._status = status
        self._seen = status.count
        if status.changes is None:
            status.changes = []
            status.changed = asyncio.Event()

    def __aiter__(self):
        return self

    async def __anext__(self):
        status = self._status
        while self._seen == status.count:
            status.changed.clear()
            await status.changed.wait()
        self._seen = max(self._seen, status.count - len(status.changes)) + 1
        state, reason = status.changes[self._seen - status.count - 1]
        return state, str(reason)

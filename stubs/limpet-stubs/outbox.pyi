from collections.abc import Callable
from types import TracebackType
from typing import Self

from .client import Client

class Outbox:
    dropped: int
    def __init__(
        self,
        client: Client,
        folder: str = "/outbox",
        limit: int = 64,
        drop: bool = True,
        log: Callable[[str], object] | None = None,
    ) -> None: ...
    def __len__(self) -> int: ...
    def put(self, topic: str, payload: bytes | str, retain: bool = False) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

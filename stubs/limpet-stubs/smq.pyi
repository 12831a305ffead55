from collections.abc import Callable
from typing import Any, TypeVar

from .client import Life

_Handler = TypeVar("_Handler", bound=Callable[..., Any])

class Client(Life):
    def __init__(
        self,
        path: str,
        store: Any = None,
        wifi: Any = None,
        log: Callable[[str], object] | None = None,
        keepalive: int = 60,
        receive: int = 2048,
        feed: Callable[[], object] | None = None,
        random: Callable[[], int] = ...,
        time_servers: tuple[str, ...] = ...,
    ) -> None: ...
    @property
    def etid(self) -> int: ...
    def on(self, topic: str, sub: str | None = None) -> Callable[[_Handler], _Handler]: ...
    def observe(self, what: str | int, handler: Callable[[int], Any]) -> None: ...
    def forget(self, handler: Callable[..., Any]) -> None: ...
    async def publish(
        self, to: str | int, payload: bytes | str, sub: str | None = None
    ) -> Any: ...

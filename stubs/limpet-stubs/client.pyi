from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from .flight import Message
from .status import Counters

_Payload = bytes | bytearray | memoryview | str
_Handler = TypeVar("_Handler", bound=Callable[..., Any])

def random_bits() -> int: ...

class Life:
    counters: Counters
    def __init__(self, keeper: Any, status: Any) -> None: ...
    def start(self) -> None: ...
    async def close(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    async def online(self) -> None: ...
    def try_now(self) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def next_try(self) -> int: ...
    def events(self) -> AsyncIterator[tuple[str, str]]: ...

class Client(Life):
    def __init__(
        self,
        store: Any = None,
        wifi: Any = None,
        log: Callable[[str], object] | None = None,
        keepalive: int = 60,
        clean: bool = True,
        window: int = 8,
        queue: int = 8,
        full: str = "wait",
        receive: int = 2048,
        send: int = 512,
        feed: Callable[[], object] | None = None,
        random: Callable[[], int] = ...,
        time_servers: tuple[str, ...] = ...,
    ) -> None: ...
    def on(self, topic: str, retained: bool = False) -> Callable[[_Handler], _Handler]: ...
    def publish(
        self, topic: str, payload: _Payload, qos: int = 0, retain: bool = False
    ) -> Awaitable[Any]: ...
    def publish_nowait(
        self, topic: str, payload: _Payload, qos: int = 1, retain: bool = False
    ) -> Message: ...
    def send(self, device: str, name: str, payload: _Payload, qos: int = 0) -> Awaitable[Any]: ...
    async def report(
        self, topic: str, payload: _Payload, retain: bool = False, slept_s: int = 0
    ) -> None: ...

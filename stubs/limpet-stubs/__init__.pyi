from collections.abc import Callable
from typing import Any

from . import client

__version__: str

def Client(
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
) -> client.Client: ...

from collections.abc import Callable, Generator
from typing import Any

class Wifi:
    def __init__(
        self,
        log: Callable[[str], object],
        country: str | None = None,
        address: tuple[str, str, str, str] | None = None,
        save: bool = False,
    ) -> None: ...
    def up(self, record: Any) -> Generator[Any, Any]: ...

"""A value that cannot be printed by accident."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Bytes that show as `<secret>` wherever something is shown; `reveal()` is the only way in.

    It stops a secret from reaching a log, a traceback or a JSON dump by accident. It does not
    protect the memory of this process.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

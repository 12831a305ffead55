"""One device as the kit hears it through the broker: its state, its readings, its answers."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from types import TracebackType

from .broker.client import KitClient
from .broker.settings import Settings

PING_S = 0.5  # between two pings to a device that does not answer yet


class Watch:
    """Listens to `limpet/<device>/#`; use it as a context manager.

    On entry whatever the broker had retained has been read: what comes afterwards is live.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self._kit = KitClient(settings)
        self._root = f"limpet/{device}/"

    def __enter__(self) -> Watch:
        self._kit.__enter__()
        try:
            self._kit.subscribe(self._root + "#")
            marker = secrets.token_bytes(8)  # comes back behind the retained messages
            self._kit.publish(self._root + "kit/marker", marker)
            self._kit.wait(lambda topic, payload: payload == marker, 5)
            while self._kit.wait(lambda topic, payload: True, 0):
                pass
        except BaseException:
            self._kit.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kit.__exit__(kind, error, trace)

    def online(self, timeout_s: float, unless: Callable[[], bool] | None = None) -> bool:
        """Wait until the device says that it is online; no longer once `unless()` holds."""

        def says_so(topic: str, payload: bytes) -> bool:
            return topic == self._root + "state" and _state(payload) == "online"

        return self._kit.wait(says_so, timeout_s, unless) is not None

    def answers(self, timeout_s: float) -> float | None:
        """Ping until the device answers; the round trip in seconds, None when it does not."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            nonce = secrets.token_hex(8).encode()
            began = time.monotonic()
            self.command("ping", nonce)
            if self.message("ping", PING_S, nonce):
                return time.monotonic() - began
        return None

    def command(self, name: str, payload: bytes) -> None:
        """Send a command; returns when the broker has it."""
        self._kit.publish(f"{self._root}cmd/{name}", payload)

    def message(self, name: str, timeout_s: float, payload: bytes | None = None) -> bytes | None:
        """The next payload (or just this one) under `up/<name>`, None when none comes in time."""
        wanted = f"{self._root}up/{name}"
        found = self._kit.wait(
            lambda topic, got: topic == wanted and payload in (None, got), timeout_s
        )
        return found[1] if found else None

    def anything(
        self, timeout_s: float, unless: Callable[[], bool] | None = None
    ) -> tuple[str, bytes] | None:
        """The next message of any kind: (topic below the device's branch, payload)."""
        found = self._kit.wait(lambda topic, payload: "/kit/" not in topic, timeout_s, unless)
        return (found[0].removeprefix(self._root), found[1]) if found else None


def _state(payload: bytes) -> str:
    try:
        value = json.loads(payload)
        return str(value["state"]) if isinstance(value, dict) else ""
    except (ValueError, KeyError):
        return ""

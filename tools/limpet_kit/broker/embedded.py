"""The embedded broker, for a machine without Mosquitto: amqtt behind our gate, a child process.

It runs from the very same password and ACL files. What it lacks: retained messages and what
waits for a sleeping client are lost when it ends; MQTT 3.1.1 only; for a handful of boards.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Settings


def prepare(settings: Settings) -> list[str]:
    """The command line that runs this broker in the foreground."""
    return [sys.executable, "-m", "limpet_kit.broker.embedded_main", str(settings.folder)]

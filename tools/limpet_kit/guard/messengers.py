"""How an alert gets to its owner: a topic, a command, a mail. What each is to do: guard.toml.

The topic `limpet/kit/alert` is the kit's alone (`accounts.kit_acl`): no device reads or writes it.
"""

from __future__ import annotations

import json
import os
import smtplib
import subprocess
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from .. import toml
from ..broker import mosquitto
from ..broker.client import KitClient
from ..broker.files import write_private
from ..broker.settings import Settings, broken, parse_server
from ..errors import KitError

TOPIC = "limpet/kit/alert"
SMTP = "localhost:25"
_COMMAND_S = 30
_MAIL_S = 20

Told = dict[str, Any]


def configure(folder: Path, command: str | None, mail: str | None, smtp: str) -> None:
    """Keep where alerts go; from now on the folder counts as guarded."""
    kept = {"command": command, "mail": mail, "smtp": smtp if mail else None}
    text = "# Written by `limpet guard install`.\n"
    text += "".join(f"{key} = {toml.string(value)}\n" for key, value in kept.items() if value)
    write_private(folder / mosquitto.GUARD, text.encode())


def send(settings: Settings, told: Told, words: str) -> None:
    """Send an alert every way; `KitError` in the end with what failed."""
    kept = _configured(settings.folder)
    ways: list[Callable[[], None]] = [lambda: _publish(settings, told)]
    if "command" in kept:
        ways.append(lambda: _run(kept["command"], told))
    if "mail" in kept:
        ways.append(lambda: _mail(kept["mail"], kept.get("smtp", SMTP), settings, told, words))
    failed = []
    for way in ways:
        try:
            way()
        except KitError as e:
            failed.append(str(e))
    if failed:
        raise KitError(" ".join(failed))


def _publish(settings: Settings, told: Told) -> None:
    with KitClient(settings) as client:
        client.publish(TOPIC, json.dumps(told).encode())


def _run(command: str, told: Told) -> None:
    shown = {key: " ".join(v) if isinstance(v, list) else str(v) for key, v in told.items()}
    environment = {f"LIMPET_ALERT_{key.upper()}": value for key, value in shown.items()}
    try:
        done = subprocess.run(
            command,
            shell=True,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            timeout=_COMMAND_S,
        )
    except subprocess.TimeoutExpired:
        raise KitError(f"The alert's command did not end within {_COMMAND_S} s.") from None
    if done.returncode:
        raise KitError(f"The alert's command ended with code {done.returncode}.")


def _mail(to: str, smtp: str, settings: Settings, told: Told, words: str) -> None:
    mail = EmailMessage()
    mail["Subject"] = f"Limpet guard at {settings.names[0]}: {words}"[:200]
    mail["From"] = mail["To"] = to
    mail.set_content(words + "\n\n" + json.dumps(told, indent=2) + "\n")
    host, port = parse_server(smtp)
    try:
        with smtplib.SMTP(host, port, timeout=_MAIL_S) as server:
            server.send_message(mail)
    except (OSError, smtplib.SMTPException) as e:
        raise KitError(f"The alert's mail was not taken by {smtp}: {e}.") from None


def _configured(folder: Path) -> dict[str, str]:
    path = folder / mosquitto.GUARD
    try:
        return {key: str(value) for key, value in toml.loads(path.read_text("utf-8")).items()}
    except FileNotFoundError:
        return {}
    except toml.Malformed as e:
        raise broken(path, str(e)) from None

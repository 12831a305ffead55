"""Accounts and what they may do, told to RabbitMQ over its HTTP API, by any node for all of them.

The files of the folder stay the record; `applied` holds a copy of them as the nodes were told
last, so that only what changed is told again. A password never travels: a user is made with a
ready hash (rabbit_password_hashing_sha256).

What Mosquitto's ACL lines say is said here in three places, each a regular expression (PCRE):
permissions on the names of queues and exchanges, so that nobody reads another one's queue; and
topic permissions on routing keys, in which `/` is `.` and `+` is `*`. A subscription is checked
when it is made: its filter has to lie within a line, and the connection ends when it does not.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NO_BROKER, KitError
from . import accounts, export
from .accounts import Account

if TYPE_CHECKING:
    from .settings import Settings

APPLIED = "applied"
_CLUSTER = "cluster"
_EXCHANGE = "amq.topic"  # that of MQTT
_AT_ONCE = 5_000  # accounts a request
_TIMEOUT_S = 120.0  # for one of them
_CONNECT_S = 3.0


class NoNode(KitError):
    """No node answers."""


def definitions(listed: Iterable[Account]) -> dict[str, list[dict[str, Any]]]:
    """Accounts as RabbitMQ imports them: users and their permissions."""
    users, permissions, topics = [], [], []
    for account in listed:
        users.append(_user(account.name, account.verifier))
        own = rf"mqtt-subscription-{re.escape(account.name)}qos[01]"
        permissions.append(
            {
                "user": account.name,
                "vhost": "/",
                "configure": f"^{own}$",
                "write": rf"^({own}|amq\.topic)$",
                "read": rf"^({own}|amq\.topic)$",
            }
        )
        topics.append(
            {
                "user": account.name,
                "vhost": "/",
                "exchange": _EXCHANGE,
                "write": _allowed(account.acl, ("write", "readwrite")),
                "read": _allowed(account.acl, ("read", "readwrite")),
            }
        )
    return {"users": users, "permissions": permissions, "topic_permissions": topics}


def administrator(settings: Settings) -> dict[str, Any]:
    """The kit's account for this API, which may not speak MQTT; its password is the kit's."""
    kept = settings.verifier(settings.kit_password())
    return {**_user(settings.administrator, kept), "tags": "administrator"}


def apply(settings: Settings, started: bool = False) -> None:
    """Make the accounts of the folder's files those of the nodes; who leaves or has another
    password is out, live sessions too. Raises `NoNode` (NO_BROKER) when no node answers.

    A node that has just `started` may run from a copy of the folder that is older than what the
    nodes know: they are told what changed while none of them ran, and nobody else has to leave.
    """
    with Api(settings) as api:
        cluster = str(api.get("global-parameters/internal_cluster_id")["value"])
        told = settings.folder / APPLIED
        if _is_told(told, cluster):
            # Another hash alone would leave the sessions of the old password open (measured).
            leaving, after = export.changed(told, settings.folder)
        else:
            after = export.read(settings.folder)
            leaving = set() if started else _there(api) - {settings.administrator} - set(after)
        for some in _pieces(sorted(leaving)):
            _remove(api, some)
        for some in _pieces(list(after.values())):
            api.send("POST", "definitions", definitions(some))
    _keep(settings, cluster)


class Api:
    """One connection to the API of the first node that answers; use it as a context manager."""

    def __init__(self, settings: Settings, timeout_s: float = _TIMEOUT_S) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._link: http.client.HTTPSConnection

    def __enter__(self) -> Api:
        from .client import context  # which knows the settings, and they us

        why = ""
        for host in self._settings.kit_addresses:
            try:
                with socket.create_connection((host, self._settings.api_port), _CONNECT_S):
                    pass
                self._link = http.client.HTTPSConnection(
                    host,
                    self._settings.api_port,
                    timeout=self._timeout_s,
                    context=context(self._settings),
                )
                self._link.connect()
                return self
            except (OSError, ssl.SSLError) as e:
                why = f"{host}: {e.strerror or e}"
        raise NoNode(
            f"No node of the broker of {self._settings.folder} answers ({why}). Start one: limpet "
            f"broker run {self._settings.folder}",
            NO_BROKER,
        )

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def get(self, path: str) -> Any:
        """What the API has at `path`."""
        return self.send("GET", path)

    def send(self, method: str, path: str, body: object = None) -> Any:
        """One request; the answer's JSON. Raises `KitError` (NO_BROKER) when it is refused."""
        password = self._settings.kit_password().reveal()
        login = base64.b64encode(self._settings.administrator.encode() + b":" + password)
        headers = {"Authorization": "Basic " + login.decode(), "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body).encode()
        try:
            self._link.request(method, "/api/" + path, text, headers)
            answer = self._link.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as e:
            raise KitError(f"A node of the broker broke off: {e}.", NO_BROKER) from None
        if answer.status >= 300:
            what = f"{method} {path.partition('?')[0]}"
            raise KitError(f"RabbitMQ refuses {what}: {answer.status} {answer.reason}.", NO_BROKER)
        return json.loads(said) if said else None


def _there(api: Api) -> set[str]:
    """The accounts that the nodes have."""
    return {user["name"] for user in api.get("users?columns=name")}


def _remove(api: Api, names: list[str]) -> None:
    """These accounts end. Some may be gone: a kit was killed after it had said this, and before
    it had noted that; RabbitMQ refuses all of them then."""
    try:
        api.send("POST", "users/bulk-delete", {"users": names})
    except KitError:
        if left := sorted(_there(api) & set(names)):
            api.send("POST", "users/bulk-delete", {"users": left})


def quoted(text: str) -> str:
    """A name as part of a path."""
    return urllib.parse.quote(text, safe="")


def _user(name: str, verifier: str) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": accounts.sha256_hash(verifier),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
    }


def _allowed(acl: str, wanted: tuple[str, ...]) -> str:
    lines = [line.partition(" ") for line in acl.split("\n")]
    filters = [topic_filter for access, _, topic_filter in lines if access in wanted]
    return "^(" + "|".join(map(_pattern, filters)) + ")$" if filters else "^$"


def _pattern(topic_filter: str) -> str:
    """A filter as a pattern of the routing keys, and of the filters, that lie within it."""
    if topic_filter == "#":
        return ".*"
    levels = topic_filter.removesuffix("/#").split("/")
    text = r"\.".join(r"[^.#]+" if level == "+" else re.escape(level) for level in levels)
    return text + (r"(\..*)?" if topic_filter.endswith("/#") else "")


def _pieces(listed: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(listed), _AT_ONCE):
        yield listed[start : start + _AT_ONCE]


def _is_told(folder: Path, cluster: str) -> bool:
    """Whether what is in this folder is what these very nodes were told last."""
    try:
        return (folder / _CLUSTER).read_text() == cluster
    except FileNotFoundError:
        return False


def _keep(settings: Settings, cluster: str) -> None:
    """The files are replaced, never changed, so that a second link to them is a copy."""
    folder, building = settings.folder / APPLIED, settings.folder / f".{APPLIED}.new"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o700)
    for file in (export.PASSWORDS, export.ACL):
        os.link(settings.folder / file, building / file)
    (building / _CLUSTER).write_text(cluster)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)

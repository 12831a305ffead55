"""RabbitMQ as the broker: one node of it, or several that are one broker together.

Every node is run from a copy of the same folder: `limpet broker run DIR --node HOST`. What a node
keeps (accounts, queues) lies in `node-N` there. Accounts are not read from files: rabbitmq_api.py
tells them to the nodes, which have them together.

Queues are quorum queues. Classic ones, which are the default, acknowledge messages and lose them
when a node dies, and then let its devices in and throw them out again for ever (measured, 3.10.8).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import ca
from ..errors import NO_BROKER, USAGE, KitError
from . import export, rabbitmq_api
from .files import write_private

if TYPE_CHECKING:
    from .settings import Settings

OLDEST = (3, 10)
COOKIE = ".erlang.cookie"
LOG = "node.log"  # JSON: in the text form a user name with a line break writes lines of its own
_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+\Z|localhost\Z")
# Debian's program in PATH wants to become another user; this one runs as whoever starts it.
_PLACES = ("/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_SILENT_S = 15
_EVERYWHERE = "0.0.0.0"
_PLUGINS = "[rabbitmq_mqtt,rabbitmq_web_mqtt,rabbitmq_management].\n"

_CONFIGURATION = """\
# Written by the kit whenever a node starts; changes are lost. See rabbitmq.com/configure.
listeners.tcp = none
mqtt.listeners.tcp = none
mqtt.listeners.ssl.1 = {listen}:{port}
mqtt.tcp_listen_options.nodelay = true
mqtt.allow_anonymous = false
mqtt.durable_queue_type = quorum
mqtt.prefetch = 100
web_mqtt.tcp.listener = none
web_mqtt.ssl.port = {web_port}
web_mqtt.ssl.ip = {listen}
web_mqtt.ssl.certfile = {folder}/server.crt
web_mqtt.ssl.keyfile = {folder}/server.key
web_mqtt.ssl.cacertfile = {folder}/ca.crt
management.ssl.port = {api_port}
management.ssl.ip = {listen}
management.ssl.certfile = {folder}/server.crt
management.ssl.keyfile = {folder}/server.key
management.ssl.versions.1 = tlsv1.2
management.ssl.versions.2 = tlsv1.3
ssl_options.cacertfile = {folder}/ca.crt
ssl_options.certfile = {folder}/server.crt
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
ssl_options.versions.1 = tlsv1.2
ssl_options.versions.2 = tlsv1.3
load_definitions = {folder}/definitions.json
log.console = true
log.console.level = info
log.console.formatter = json
log.file = {data}/{log}
log.file.level = info
log.file.formatter = json
log.file.rotation.size = 20971520
log.file.rotation.count = 5
cluster_partition_handling = pause_minority
"""
# Between the nodes: who has no `node.key`, which is one for all of them, is no node.
_TLS = "tls.config"
_NODES_TLS = """\
[{{server, [{both}, {{fail_if_no_peer_cert, true}}]}}, {{client, [{both}]}}].
"""
_NODES_TLS_BOTH = """\
{{cacertfile, {folder}/nodes.crt"}}, {{verify, verify_peer}}, {{versions, ['tlsv1.2']}},
  {{certfile, {folder}/node.crt"}}, {{keyfile, {folder}/node.key"}}"""
# The queues of clean sessions are classic ones whatever is configured. One whose node is away
# keeps its device out at every other node; mirrored, it ends with its session.
_CLEAN = {
    "vhost": "/",
    "name": "clean-sessions",
    "pattern": "^mqtt-subscription-",
    "apply-to": "queues",
    "priority": 0,
    "definition": {"ha-mode": "all"},
}
_PEERS = """\
cluster_formation.peer_discovery_backend = classic_config
{nodes}
"""


def find() -> str | None:
    """Path of RabbitMQ's server script, None when there is none.

    `LIMPET_RABBITMQ` names another, or is `none` to do as if there were none.
    """
    chosen = os.environ.get("LIMPET_RABBITMQ")
    if chosen == "none":
        return None
    path = os.pathsep.join([*_PLACES, os.environ.get("PATH", os.defpath)])
    return shutil.which(chosen or "rabbitmq-server", path=path)


def version(program: str) -> tuple[int, ...]:
    """RabbitMQ's version, which the folder of its programs is named after."""
    script = os.path.join(os.path.dirname(os.path.realpath(program)), "rabbitmqctl")
    try:
        done = subprocess.run(
            [script if os.path.exists(script) else "rabbitmqctl", "version"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        found = re.search(r"(\d+)\.(\d+)\.(\d+)", done.stdout)
    except (OSError, subprocess.TimeoutExpired):
        found = None
    if not found:
        raise KitError(f"{program} does not say which RabbitMQ it is.", NO_BROKER)
    return tuple(int(number) for number in found.groups())


def require() -> str:
    """Path of a RabbitMQ that is new enough, or a `KitError` that says what to do."""
    program = find()
    if program is None:
        raise KitError(
            "This broker runs on RabbitMQ, which is not installed here. Install it (Debian, "
            "Ubuntu: sudo apt install rabbitmq-server, then stop its own service).",
            NO_BROKER,
        )
    found = version(program)
    if found < OLDEST:
        raise KitError(
            f"{program} is RabbitMQ {'.'.join(map(str, found))}, too old: the kit needs "
            f"{OLDEST[0]}.{OLDEST[1]} or later.",
            NO_BROKER,
        )
    return program


def check_hosts(hosts: list[str]) -> None:
    """`KitError` (USAGE) unless nodes can be called so."""
    for host in hosts:
        if not _HOST.match(host) or hosts.count(host) > 1:
            raise KitError(
                f"{host!r} cannot be a node: name each machine once, by its full name or IPv4 "
                "address, as the others reach it.",
                USAGE,
            )


def make(folder: Path, hosts: Iterable[str]) -> None:
    """What a new folder needs beside the files of every broker: what nodes know each other by."""
    path = folder / COOKIE
    write_private(path, secrets.token_hex(32).encode())
    path.chmod(0o400)  # Erlang refuses any other
    ca.make_nodes(folder, hosts)


def prepare(settings: Settings) -> list[str]:
    """Write this node's configuration; the command that runs it in the foreground."""
    program = require()
    if "#" in str(settings.folder):
        raise KitError(
            f"RabbitMQ takes what follows a # for a comment: move {settings.folder} to a folder "
            "without one in its name.",
            NO_BROKER,
        )
    data = data_of(settings)
    data.mkdir(mode=0o700, exist_ok=True)
    text = _CONFIGURATION.format(
        folder=settings.folder,
        data=data,
        log=LOG,
        listen=settings.bound,
        port=settings.port,
        api_port=settings.api_port,
        web_port=settings.web_port,
    )
    if len(settings.hosts) > 1:
        nodes = (
            f"cluster_formation.classic_config.nodes.{n + 1} = {name(settings, n)}"
            for n in range(len(settings.hosts))
        )
        text += _PEERS.format(nodes="\n".join(nodes))
    write_private(data / "rabbitmq.conf", text.encode())
    write_private(data / "enabled_plugins", _PLUGINS.encode())
    # Erlang knows no \\u00e9.
    folder = json.dumps(str(settings.folder), ensure_ascii=False)[:-1]
    both = _NODES_TLS_BOTH.format(folder=folder)
    write_private(data / _TLS, _NODES_TLS.format(both=both).encode())
    kit = export.read(settings.folder, settings.kit_accounts).values()
    known = rabbitmq_api.definitions(kit)
    known["users"].append(rabbitmq_api.administrator(settings))
    definitions = {"vhosts": [{"name": "/"}], "policies": [_CLEAN], **known}
    write_private(settings.folder / "definitions.json", json.dumps(definitions).encode())
    environment: dict[str, object] = {
        "HOME": settings.folder,  # where Erlang looks for its cookie
        "RUNNING_UNDER_SYSTEMD": 1,  # be one process, which ends in good order at SIGTERM
        "RABBITMQ_NODENAME": name(settings, settings.node),
        "RABBITMQ_USE_LONGNAME": "true",
        "RABBITMQ_CONFIG_FILE": data / "rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": data / "enabled_plugins",
        "RABBITMQ_MNESIA_BASE": data,
        "RABBITMQ_LOG_BASE": data,
        "RABBITMQ_DIST_PORT": settings.node_port,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _distribution(settings),
    }
    if settings.bound != _EVERYWHERE:  # where Erlang's name server listens, besides on loopback
        environment["ERL_EPMD_ADDRESS"] = settings.bound
    return ["env", *(f"{key}={value}" for key, value in environment.items()), program]


def data_of(settings: Settings) -> Path:
    """Where this node keeps what is its own; its log is LOG in there."""
    return settings.folder / f"node-{settings.node + 1}"


def name(settings: Settings, node: int) -> str:
    """What Erlang calls a node; the port keeps several brokers of one machine apart."""
    return f"limpet-{settings.port}-{node + 1}@{settings.hosts[node]}"


def _distribution(settings: Settings) -> str:
    """How nodes hear each other: in TLS; soon when one has gone without a word, which Erlang by
    itself notices after a minute; and at the node's own address alone, where that is one."""
    options = f"{data_of(settings).name}/{_TLS}"  # from the folder: it must hold no space
    words = f"-proto_dist inet_tls -ssl_dist_optfile {options} -kernel net_ticktime {_SILENT_S}"
    if settings.bound != _EVERYWHERE:
        words += " -kernel inet_dist_use_interface {" + settings.bound.replace(".", ",") + "}"
    return words

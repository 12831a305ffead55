"""One broker is one folder; `broker.toml` in it says how it runs.

broker.toml     this file's settings          ca.crt ca.key server.crt server.key
passwords acl   accounts, written by the kit  kit.password
broker.log broker.pid mosquitto.conf mosquitto.db    made while it runs

Of RabbitMQ also .erlang.cookie nodes.crt node.crt node.key, by which nodes know each other, and
applied, definitions.json, node-1 ... made while it runs.

Of a broker that the user has (`given`) there are broker.toml, ca.crt and kit.password, and what
`given.py` keeps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import ca, toml
from ..errors import NO_BROKER, USAGE, KitError
from ..secret import Secret
from . import accounts, export, keyed, mosquitto, rabbitmq
from .accounts import Account
from .files import beside, sync_folder, write_private

PORT = 8883
# Kind of broker: the credential profiles that it can take, the best one first.
RABBITMQ = "rabbitmq"  # one node or several: rabbitmq.py
GIVEN = "given"  # a broker that the user has, and the kit does not run: given.py
KINDS = {
    "mosquitto": ("binary", "text", "psk", "x509"),
    "embedded": ("text",),
    RABBITMQ: ("binary", "text"),
    GIVEN: ("binary", "text"),
}
LOOPBACK = ("localhost", "127.0.0.1")
KIT_SESSIONS = 8  # an account is also the client id, so each session of the kit needs its own
_FILE = "broker.toml"


@dataclass(frozen=True)
class Settings:
    """How a broker runs: its folder, the names boards dial, where it listens, which program.

    `kind` is `mosquitto`, `embedded` or `given`, `profile` what devices log in with (`binary`,
    `text`: passwords; `psk`; `x509`), `kit` the stem of the kit's account names. `kit_port` is
    where the kit logs in, with a password: on loopback alone where devices have none.
    `homeassistant`: boards may announce themselves to Home Assistant, which has an account.
    `account` is the one that all sessions of the kit share at a given broker, empty elsewhere.
    `hosts` are the machines of a broker that runs on several, RabbitMQ's nodes; `node` says which
    of them is meant where only one can be; `api_port` and `web_port` are beside `port` there.
    """

    folder: Path
    names: tuple[str, ...]
    port: int
    kind: str
    profile: str
    listen: str
    kit: str
    kit_port: int
    homeassistant: bool = False
    account: str = ""
    hosts: tuple[str, ...] = ()
    node: int = 0

    @property
    def given(self) -> bool:
        """Whether it is a broker that the user has, with accounts that the user made."""
        return self.kind == GIVEN

    @property
    def kit_address(self) -> str:
        """Where the kit reaches it."""
        return self.address if self.kit_port == self.port else LOOPBACK[1]

    @property
    def kit_addresses(self) -> tuple[str, ...]:
        """Where the kit reaches it, in the order to try: any of its machines will do."""
        return (*self.hosts[self.node :], *self.hosts[: self.node]) or (self.kit_address,)

    @property
    def address(self) -> str:
        """Where a program on this machine reaches it."""
        if self.hosts:
            return self.hosts[self.node]
        listens_everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        return listens_everywhere.get(self.listen, self.listen)

    @property
    def server(self) -> str:
        """`host:port` under its first name, as it goes into a board."""
        host = f"[{self.names[0]}]" if ":" in self.names[0] else self.names[0]
        return f"{host}:{self.port}"

    @property
    def servers(self) -> tuple[str, ...]:
        """Every `host:port` at which boards may log in: more than one where a broker is several
        machines, the name that those share among them."""
        nodes = (f"{host}:{self.port}" for host in self.hosts)
        return tuple(dict.fromkeys([self.server, *nodes]))

    @property
    def alone(self) -> Settings:
        """This node by itself, as a broker of one machine."""
        return dataclasses.replace(self, hosts=self.hosts[self.node :][:1], node=0)

    @property
    def bound(self) -> str:
        """The address at which this node listens: its own, where that is one."""
        host = self.address
        return host if _is_address(host) else "0.0.0.0"

    @property
    def api_port(self) -> int:
        """Where the nodes take accounts."""
        return self.port + 1

    @property
    def web_port(self) -> int:
        """Where the nodes speak MQTT in WebSockets, for a page that is not the kit's."""
        return self.port + 2

    @property
    def node_port(self) -> int:
        """Where the nodes speak with each other."""
        return self.port + 3

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port at which it listens for others."""
        beside = (self.api_port, self.web_port, self.node_port) if self.hosts else ()
        return (self.port, *beside)

    @property
    def administrator(self) -> str:
        """The kit's account for RabbitMQ's HTTP API."""
        return f"{self.kit}-admin"

    @property
    def form(self) -> str:
        """The form of a verifier that this kind of broker can check."""
        return accounts.SHA256 if self.kind == RABBITMQ else accounts.PBKDF2

    def verifier(self, password: Secret) -> str:
        """What this kind of broker keeps instead of a password."""
        return accounts.verifier(password, self.form)

    @property
    def kit_accounts(self) -> tuple[str, ...]:
        """The kit's account names, one for each session that the kit may have at a time."""
        return tuple(f"{self.kit}-{number}" for number in range(1, KIT_SESSIONS + 1))

    @property
    def home_account(self) -> str:
        """The account of Home Assistant; its password lies in `home_password_file`."""
        return f"{self.kit}-home"

    @property
    def home_password_file(self) -> Path:
        """Where the password of Home Assistant's account lies, mode 0600."""
        return self.folder / "homeassistant.password"

    @property
    def kit_password_file(self) -> Path:
        """Where the password of the kit's accounts lies, mode 0600."""
        return self.folder / "kit.password"

    def kit_password(self) -> Secret:
        """The password of the kit's accounts; `KitError` when it is missing."""
        return _read_password(self.kit_password_file)


def load(folder: Path, node: str | None = None) -> Settings:
    """The settings of the broker in `folder`; `KitError` (NO_BROKER) when missing or broken.

    `node` names one of its machines, where it has several.
    """
    folder = Path(folder).expanduser().absolute()
    path = folder / _FILE
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise KitError(
            f"There is no broker in {folder}. Make one with: limpet broker init {folder}",
            NO_BROKER,
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise broken(path, getattr(e, "strerror", None) or "not UTF-8 text") from None
    try:
        values = toml.loads(text)
    except toml.Malformed as e:
        raise broken(path, str(e)) from None
    found = _checked(folder, path, values)
    if node is None:
        return found
    if node not in found.hosts:
        words = f"Its nodes are {', '.join(found.hosts)}." if found.hosts else "It has no nodes."
        raise KitError(f"{node} is no node of the broker in {folder}. {words}", USAGE)
    return dataclasses.replace(found, node=found.hosts.index(node))


def create(
    folder: Path,
    names: list[str],
    port: int = PORT,
    kind: str = "auto",
    listen: str | None = None,
    rsa: bool = False,
    demo: bool = False,
    profile: str | None = None,
    hosts: Sequence[str] = (),
) -> Settings:
    """Make the folder of a new broker: settings, CA, server certificate, the kit's accounts.

    `kind` `auto` is Mosquitto where it is installed, otherwise the embedded broker. `localhost`
    and 127.0.0.1 are always in the certificate, behind `names`, so that simulated boards on this
    machine work too. `listen` is every address, unless `names` are loopback names only. `hosts`
    are the machines of RabbitMQ's nodes. All or nothing: the folder appears complete, and an
    existing one is left alone.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KitError(
            f"{folder} is there already and not empty; nothing was overwritten. "
            "Choose another folder, or move the old one away first. A broker that is there is "
            f"started with: limpet broker run {folder}",
            NO_BROKER,
        )
    if kind == "auto":
        kind = "mosquitto" if mosquitto.find() else "embedded"
    if kind == "mosquitto":
        mosquitto.require()
    if kind == RABBITMQ:
        hosts = list(hosts) or [names[0]]
        rabbitmq.check_hosts(hosts)
        names = [*names, *hosts]
    names = [ca.canonical(name) for name in names]
    if listen is None and any(":" in name for name in names):
        listen = "::"
    elif listen is None:
        listen = "127.0.0.1" if all(name in LOOPBACK for name in names) else "0.0.0.0"
    profile = profile or KINDS.get(kind, ("",))[0]
    if profile not in KINDS.get(kind, (profile,)):
        raise KitError(
            f"Profile {profile} needs Mosquitto; other brokers take passwords only.", USAGE
        )
    values: dict[str, Any] = {
        "format": 1,
        "kind": kind,
        "profile": profile,
        "names": list(dict.fromkeys([*names, *LOOPBACK])),
        "listen": listen,
        "port": port,
        "kit": accounts.KIT_PREFIX + accounts.draw_account()[:16],
    }
    if profile in keyed.PROFILES:
        values["kit_port"] = _port_beside(port)
    if kind == RABBITMQ:
        values["hosts"] = list(hosts)
    settings = _checked(folder, Path(_FILE), values)

    with beside(folder) as building:
        ca.make(building, list(settings.names), rsa=rsa, demo=demo)
        if profile == "psk":
            write_private(building / keyed.KEYS, b"")
        if profile == "x509":
            ca.make_devices(building)
        password = accounts.draw_password("text")
        write_private(building / settings.kit_password_file.name, password.reveal() + b"\n")
        if kind == RABBITMQ:
            rabbitmq.make(building, hosts)
        export.write(building, kit_logins(settings, password, {}))
        write(building, values, "limpet broker init")
        os.replace(building, folder)
    sync_folder(folder.parent)
    return settings


def admit_homeassistant(settings: Settings) -> Settings:
    """The same broker with an account for Home Assistant; `registry.sync` makes it hold."""
    if settings.homeassistant:
        return settings
    password = accounts.draw_password("text")
    write_private(settings.home_password_file, password.reveal() + b"\n")
    path = settings.folder / _FILE
    text = re.sub(rb"(?m)^\s*homeassistant\s*=.*\n?", b"", path.read_bytes())  # `false`
    write_private(path, text.rstrip() + b"\nhomeassistant = true\n")
    return load(settings.folder)


def write(folder: Path, values: Mapping[str, Any], by: str) -> None:
    """Write broker.toml; `by` is the command that did it."""
    # JSON's strings, numbers and lists of them are TOML as well.
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    write_private(folder / _FILE, (f"# Written by `{by}`.\n" + "".join(lines)).encode())


def kit_logins(settings: Settings, password: Secret, before: Mapping[str, str]) -> list[Account]:
    """The kit's accounts, and Home Assistant's where it has one. Verifiers that they had `before`,
    by name, stay while they fit: a changed line would end the kit's own sessions."""
    logins = []
    wanted = [(name, password, accounts.kit_acl()) for name in settings.kit_accounts]
    if settings.homeassistant:
        own = _read_password(settings.home_password_file)
        wanted.append((settings.home_account, own, accounts.home_acl()))
    for name, secret, acl in wanted:
        kept = before.get(name)
        if kept is None or not accounts.fits(secret.reveal(), kept):
            kept = settings.verifier(secret)
        logins.append(Account(name, kept, acl))
    return logins


def _read_password(path: Path) -> Secret:
    try:
        return Secret(path.read_bytes().removesuffix(b"\n"))
    except OSError as e:
        raise broken(path, e.strerror or "not readable") from None


def parse_server(text: str) -> tuple[str, int]:
    """Host and port of `HOST[:PORT]`; an IPv6 address with a port stands in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):  # a name alone, or bare IPv6
        host, port = text, str(PORT)
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise KitError(f"{text!r} is no server; give it as HOST or HOST:PORT.", USAGE)
    return host, int(port)


def broken(path: Path, why: str) -> KitError:
    """The error for a broker folder that cannot be used."""
    return KitError(f"The broker's {path} cannot be used: {why}.", NO_BROKER)


def _checked(folder: Path, path: Path, values: dict[str, Any]) -> Settings:
    wanted: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "format": ("1; a newer kit wrote it", lambda v: v == 1),
        "kind": (f"one of {', '.join(KINDS)}", lambda v: isinstance(v, str) and v in KINDS),
        "profile": ("one that this kind can take", lambda v: v in KINDS[values["kind"]]),
        "names": ("a list of host names and addresses", _is_names),
        "listen": ("an IP address of this machine", _is_address),
        "port": ("a number from 1 to 65535", lambda v: type(v) is int and 0 < v < 65536),
        "kit": ("an account name", lambda v: isinstance(v, str) and v.isascii() and ":" not in v),
    }
    if values.get("profile") in keyed.PROFILES:
        wanted["kit_port"] = wanted["port"]
    if "homeassistant" in values:
        wanted["homeassistant"] = ("true or false", lambda v: type(v) is bool)
    if values.get("kind") == RABBITMQ:
        wanted["hosts"] = wanted["names"]
        words = "a number from 1 to 65532: three more ports follow it"
        wanted["port"] = (words, lambda v: type(v) is int and 0 < v < 65533)
    if values.get("kind") == GIVEN:
        del wanted["listen"]
        wanted["account"] = wanted["kit"]
    unknown = set(values) - set(wanted)
    if unknown:
        raise broken(path, f"it has the unknown setting {sorted(unknown)[0]!r}")
    for key, (words, is_right) in wanted.items():
        if key not in values:
            raise broken(path, f"the setting {key!r} is missing")
        if not is_right(values[key]):
            raise broken(path, f"{key} must be {words}, not {values[key]!r}")
    return Settings(
        folder,
        tuple(values["names"]),
        values["port"],
        values["kind"],
        values["profile"],
        values["names"][0] if values["kind"] == GIVEN else values["listen"],
        values["kit"],
        values.get("kit_port", values["port"]),
        values.get("homeassistant", False),
        values.get("account", ""),
        tuple(values.get("hosts", ())),
    )


def _port_beside(port: int) -> int:
    """A free port of loopback that is not this one: the next, where that is so."""
    for wanted in (port % 65535 + 1, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK[1], wanted))
            found = int(probe.getsockname()[1])
            if found != port:
                return found
    raise KitError("No port of this machine is free for the kit.", NO_BROKER)


def _is_names(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    try:
        return all(isinstance(name, str) and ca.general_name(name) for name in value)
    except KitError:
        return False


def _is_address(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(ipaddress.ip_address(value))
    except ValueError:
        return False

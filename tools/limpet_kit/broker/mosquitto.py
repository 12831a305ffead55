"""Mosquitto as the broker: find the program, check it, write its configuration."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .. import ca
from ..errors import NO_BROKER, KitError
from . import export, keyed
from .files import write_private

if TYPE_CHECKING:
    from .settings import Settings

OLDEST = (2, 0)
LOG = "broker.log"
GUARD = "guard.toml"  # written by `limpet guard install`: the guard reads this broker's log
# Where package managers put it without telling an ordinary user's PATH.
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/sbin")

_CONFIGURATION = """\
# Written by the kit whenever the broker starts; changes are lost. See mosquitto.conf(5).
user {user}
allow_anonymous false
password_file {folder}/{passwords}
acl_file {folder}/{acl}
set_tcp_nodelay true
max_packet_size 131072
persistence true
persistence_location {folder}/
autosave_interval 30
sys_interval 5
log_timestamp true
log_timestamp_format {stamp}
"""
_STAMP = "%Y-%m-%dT%H:%M:%S"
# The guard needs a file, also of a broker in the foreground, and of 2.0 its debug lines: no other
# line names the address of a refused login. And fail2ban counts by network, as IPv6 needs it,
# where the line itself holds a prefix length: it stands behind the time (guard/filters.py).
_GUARDED_STAMP = _STAMP + "/64"
_GUARDED = """\
log_dest file {log}
log_type error
log_type warning
log_type notice
log_type information
"""
_PASSWORDS = """\
listener {port} {listen}
certfile {folder}/server.crt
keyfile {folder}/server.key
tls_version tlsv1.2
use_username_as_clientid true
"""
# Devices that prove themselves in TLS, by profile. Where they log in nobody needs a password, so
# the kit has a listener of its own, on loopback.
_KEYED = {
    "psk": """\
listener {port} {listen}
psk_hint limpet
psk_file {folder}/{keys}
ciphers PSK
tls_version tlsv1.2
use_identity_as_username true
use_username_as_clientid true
""",
    "x509": """\
listener {port} {listen}
certfile {folder}/server.crt
keyfile {folder}/server.key
cafile {folder}/{devices}.crt
crlfile {folder}/{crl}
require_certificate true
tls_version tlsv1.2
use_identity_as_username true
use_username_as_clientid true
""",
}


def find() -> str | None:
    """Path of the Mosquitto program, None when there is none.

    `LIMPET_MOSQUITTO` names another program, or is `none` to do as if there were none.
    """
    chosen = os.environ.get("LIMPET_MOSQUITTO")
    if chosen == "none":
        return None
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES])
    found = shutil.which(chosen or "mosquitto", path=path)
    if chosen and not found:
        raise KitError(f"LIMPET_MOSQUITTO names {chosen}, which is not a program.", NO_BROKER)
    return found


def version(program: str) -> tuple[int, ...]:
    """The program's version, as its help says it."""
    try:
        done = subprocess.run(
            [program, "-h"], capture_output=True, text=True, errors="replace", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        raise KitError(f"{program} does not run.", NO_BROKER) from None
    match = re.search(r"mosquitto version (\d+)\.(\d+)(?:\.(\d+))?", done.stdout + done.stderr)
    if not match:
        raise KitError(f"{program} does not say that it is a Mosquitto broker.", NO_BROKER)
    return tuple(int(number) for number in match.groups() if number)


def require() -> str:
    """Path of a Mosquitto that is new enough, or a `KitError` that says what to do."""
    program = find()
    if program is None:
        raise KitError(
            "This broker runs on Mosquitto, which is not installed here. Install it (Debian, "
            "Ubuntu: sudo apt install mosquitto), or make a broker with --embedded.",
            NO_BROKER,
        )
    found = version(program)
    if found < OLDEST:
        raise KitError(
            f"{program} is Mosquitto {'.'.join(map(str, found))}, too old: the kit needs "
            f"{OLDEST[0]}.{OLDEST[1]} or later. Update it, or use --embedded.",
            NO_BROKER,
        )
    return program


def prepare(settings: Settings) -> list[str]:
    """Write `mosquitto.conf`; the command line that runs this broker in the foreground."""
    program = require()
    configuration = settings.folder / "mosquitto.conf"
    guarded = (settings.folder / GUARD).exists()
    text = _CONFIGURATION.format(
        user=_owner(settings.folder),
        folder=settings.folder,
        passwords=export.PASSWORDS,
        acl=export.ACL,
        stamp=_GUARDED_STAMP if guarded else _STAMP,
    )
    if guarded:
        text += _GUARDED.format(log=settings.folder / LOG)
        text += "log_type debug\n" if version(program) < (2, 1) else ""
    else:
        text += "log_dest stderr\n"
    listen = "" if settings.listen == "::" else settings.listen  # "::" alone would leave out IPv4
    text += _PASSWORDS.format(
        folder=settings.folder,
        port=settings.kit_port,
        listen=listen if settings.kit_port == settings.port else settings.kit_address,
    )
    text += _KEYED.get(settings.profile, "").format(
        folder=settings.folder,
        port=settings.port,
        listen=listen,
        keys=keyed.KEYS,
        devices=ca.DEVICES,
        crl=ca.CRL,
    )
    write_private(configuration, text.encode())
    return [program, "-c", str(configuration)]


def _owner(folder: Path) -> str:
    """Started as root, Mosquitto becomes another user; only the folder's owner can read it."""
    uid = folder.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

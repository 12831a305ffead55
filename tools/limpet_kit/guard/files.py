"""What the guard writes into fail2ban's folder. No text of a stranger gets into a command line."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ..broker import export, state
from ..broker.settings import Settings
from ..errors import REFUSED, KitError
from . import filters, thresholds

BANNED, KNOWN, GOOD = "limpet", "limpet-known", "limpet-good"
SHUT, CLONED = "limpet-connections", "limpet-cloned"
_HEAD = "# Written by `limpet guard install`; changes are lost.\n"
_LOOPBACK = "127.0.0.0/8 ::/64"
_SAFE = re.compile(r"[A-Za-z0-9/_.+-]+\Z")

_RULES = """\
table inet limpet {{
    set banned_inet4 {{ type ipv4_addr; }}
    set banned_inet6 {{ type ipv6_addr; flags interval; }}
    set shut_inet4 {{ type ipv4_addr; }}
    set shut_inet6 {{ type ipv6_addr; flags interval; }}
    set good_inet4 {{ type ipv4_addr; }}
    set good_inet6 {{ type ipv6_addr; flags interval; }}
    chain input {{ type filter hook input priority -10; policy accept; }}
}}
flush chain inet limpet input
add rule inet limpet input tcp dport {{ {ports} }} ip saddr @banned_inet4 drop
add rule inet limpet input tcp dport {{ {ports} }} ip6 saddr @banned_inet6 drop
add rule inet limpet input tcp dport {{ {ports} }} ip saddr @shut_inet4 drop
add rule inet limpet input tcp dport {{ {ports} }} ip6 saddr @shut_inet6 drop
"""

# <ip> is of IPv6 the /64: it is one subscriber's, and whoever has one address of it has all 2^64.
_SET_ACTION = """\
[Definition]
actionstart = nft -f {rules}
actionstart_on_demand = false
actioncheck = nft list set inet limpet <set>_<family>
actionflush = nft flush set inet limpet <set>_<family>
actionstop = nft flush set inet limpet <set>_inet4; nft flush set inet limpet <set>_inet6
actionban = nft add element inet limpet <set>_<family> {{ <ip> }}
actionunban = nft delete element inet limpet <set>_<family> {{ <ip> }}

[Init]
set = banned
"""

_ALERT_ACTION = """\
[Definition]
norestored = 1
actionban = {alert} --what <what> <who> --count <failures> --seconds <findtime>
actionunban =

[Init]
what = banned
who = --address <ip>
"""

_FILTER = """\
[Definition]
failregex = {pattern}
datepattern = {date}
"""

_JAILS = """\
[DEFAULT]
# One cache for an address, so that a flood does not start a program for each line.
ignorecache = key="<ip>", max-count=1000, max-time=2s

[limpet]
enabled = true
backend = auto
filter = limpet
logpath = {log}
maxretry = {refusals}
findtime = {window}
bantime = -1
ignoreip = {allow}
ignorecommand = {spared}
action = limpet-set[set=banned]
         limpet-alert[what=banned, findtime={window}]

[limpet-known]
enabled = true
backend = auto
filter = limpet
logpath = {log}
maxretry = {refusals}
findtime = {window}
bantime = {again}
ignoreip = {allow}
ignorecommand = ! {{ {spared}; }}
action = limpet-alert[what=spared, findtime={window}]

[limpet-cloned]
enabled = true
backend = auto
filter = limpet-cloned
logpath = {log}
maxretry = {take_overs}
findtime = {window}
bantime = {window}
action = limpet-alert[what=cloned, who="--account <fid>", findtime={window}]

[limpet-good]
enabled = true
backend = auto
filter = limpet-good
logpath = {log}
maxretry = 1
findtime = {window}
bantime = {known}
ignoreip = {loopback}
action = limpet-set[set=good]
"""


# Only Mosquitto names the address of a connection from which no login came.
_SHUT_JAIL = """
[limpet-connections]
enabled = true
backend = auto
filter = limpet-connections
logpath = {log}
maxretry = {connections}
findtime = {window}
bantime = {shut}
ignoreip = {allow}
ignorecommand = {spared}
action = limpet-set[set=shut]
         limpet-alert[what=shut, findtime={window}]
"""


def jails(settings: Settings) -> tuple[str, ...]:
    """The jails of this broker's guard."""
    return (BANNED, KNOWN, GOOD, CLONED, *(() if settings.hosts else (SHUT,)))


def render(
    settings: Settings, version: tuple[int, ...], allow: Sequence[str], fail2ban: Path
) -> dict[str, str]:
    """The files by their names in fail2ban's folder; `version` is Mosquitto's."""
    log, rules = state.log_of(settings), fail2ban / "limpet.nft"
    for path in (log, rules, Path(sys.executable)):
        if not _SAFE.match(str(path)):
            raise KitError(
                f"The guard does not work with {path}: use a folder whose name has only letters, "
                "digits and the signs / _ . + -",
                REFUSED,
            )
    owner = settings.folder.stat()
    # fail2ban is root; the kit's code and the alert's command are not to be.
    drop = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
    limpet = [*(drop if owner.st_uid else []), sys.executable, "-m", "limpet_kit", "guard"]
    # Fuse: a broker without a device refuses everybody, so nobody is to be banned then.
    fuse = f"! grep -qE '^user [0-9A-Za-z]+$' {settings.folder / export.ACL}"
    if settings.hosts:  # whose files may be on another machine
        fuse = shlex.join([*limpet, "fuse", str(settings.folder)])
    known = "nft get element inet limpet good_<family> { <ip> } >/dev/null 2>&1"
    text = (_JAILS if settings.hosts else _JAILS + _SHUT_JAIL).format(
        log=log,
        refusals=thresholds.REFUSALS,
        window=thresholds.WINDOW_S,
        again=thresholds.KNOWN_AGAIN_S,
        known=thresholds.KNOWN_S,
        connections=thresholds.CONNECTIONS,
        shut=thresholds.SHUT_S,
        take_overs=thresholds.TAKE_OVERS,
        loopback=_LOOPBACK,
        allow=" ".join([_LOOPBACK, *allow]),
        spared=f"{known} || {fuse}",
    )
    date = filters.RABBITMQ_DATE if settings.hosts else filters.DATE
    patterns = (
        {
            BANNED: filters.RABBITMQ_REFUSED,
            GOOD: filters.RABBITMQ_GOOD,
            CLONED: filters.RABBITMQ_TAKEN_OVER,
        }
        if settings.hosts
        else {
            BANNED: filters.refused(version),
            GOOD: filters.good(),
            SHUT: filters.connected(),
            CLONED: filters.TAKEN_OVER,
        }
    )
    node = ["--node", settings.address] if settings.hosts else []
    command = shlex.join([*limpet, "alert", str(settings.folder), *node])
    files = {
        "limpet.nft": _RULES.format(ports=", ".join(map(str, settings.ports))),
        "action.d/limpet-set.conf": _SET_ACTION.format(rules=rules),
        "action.d/limpet-alert.conf": _ALERT_ACTION.format(alert=command),
        "jail.d/limpet.conf": text,
    }
    for name, pattern in patterns.items():
        files[f"filter.d/{name}.conf"] = _FILTER.format(pattern=pattern, date=date)
    return {name: _HEAD + content for name, content in files.items()}


def write(files: dict[str, str], fail2ban: Path) -> None:
    """All of them, each in one step; `KitError` where that is not allowed."""
    try:
        for name, text in files.items():
            path = fail2ban / name
            new = path.with_name(f".{path.name}.new")
            new.write_text(text, "ascii")
            new.chmod(0o644)
            os.replace(new, path)
    except OSError as e:
        raise KitError(
            f"{e.filename} cannot be written: {e.strerror}. Is fail2ban installed (sudo apt "
            "install fail2ban nftables)? Then run this command with sudo.",
            REFUSED,
        ) from None

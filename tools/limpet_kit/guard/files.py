"""What the guard writes into fail2ban's folder. No text of a stranger gets into a command line."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ..broker import accounts
from ..broker.server import LOG
from ..broker.settings import Settings
from ..errors import REFUSED, KitError
from . import filters, thresholds

JAILS = BANNED, KNOWN, GOOD = "limpet", "limpet-known", "limpet-good"
_HEAD = "# Written by `limpet guard install`; changes are lost.\n"
_SAFE = re.compile(r"[A-Za-z0-9/_.+-]+\Z")

_RULES = """\
table inet limpet {{
    set banned_inet4 {{ type ipv4_addr; }}
    set banned_inet6 {{ type ipv6_addr; flags interval; }}
    set good_inet4 {{ type ipv4_addr; }}
    set good_inet6 {{ type ipv6_addr; flags interval; }}
    chain input {{ type filter hook input priority -10; policy accept; }}
}}
flush chain inet limpet input
add rule inet limpet input tcp dport {port} ip saddr @banned_inet4 drop
add rule inet limpet input tcp dport {port} ip6 saddr @banned_inet6 drop
"""

# A /64 is one subscriber's: whoever has one address of it has all 2^64.
_SET_ACTION = """\
[Definition]
actionstart = nft -f {rules}
actionstart_on_demand = false
actioncheck = nft list set inet limpet <set>_<family>
actionflush = nft flush set inet limpet <set>_<family>
actionstop = nft flush set inet limpet <set>_inet4; nft flush set inet limpet <set>_inet6
actionban = nft add element inet limpet <set>_<family> {{ <ip><prefix> }}
actionunban = nft delete element inet limpet <set>_<family> {{ <ip><prefix> }}

[Init]
set = banned
prefix =

[Init?family=inet6]
prefix = /64
"""

_ALERT_ACTION = """\
[Definition]
norestored = 1
actionban = {alert} --what <what> --address <ip> --count <failures> --seconds <findtime>
actionunban =

[Init]
what = banned
"""

_FILTER = """\
[Definition]
failregex = {pattern}
datepattern = {date}
"""

_JAILS = """\
[DEFAULT]
# One cache for an address, so that a flood does not start a program for each line.
ignorecache = key="<ip>", max-count=1000, max-time=10s

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

[limpet-good]
enabled = true
backend = auto
filter = limpet-good
logpath = {log}
maxretry = 1
findtime = {window}
bantime = {known}
ignoreip = 127.0.0.0/8 ::1
action = limpet-set[set=good]
"""


def render(
    settings: Settings, version: tuple[int, ...], allow: Sequence[str], fail2ban: Path
) -> dict[str, str]:
    """The files by their names in fail2ban's folder."""
    log, rules = settings.folder / LOG, fail2ban / "limpet.nft"
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
    alert = [*(drop if owner.st_uid else []), sys.executable, "-m", "limpet_kit", "guard", "alert"]
    # Fuse: a broker without a device refuses everybody, so nobody is to be banned then.
    fuse = f"! grep -qE '^user [0-9A-Za-z]+$' {settings.folder / accounts.ACL}"
    known = "nft get element inet limpet good_<family> { <ip> } >/dev/null 2>&1"
    jails = _JAILS.format(
        log=log,
        refusals=thresholds.REFUSALS,
        window=thresholds.WINDOW_S,
        again=thresholds.KNOWN_AGAIN_S,
        known=thresholds.KNOWN_S,
        allow=" ".join(["127.0.0.0/8", "::1", *allow]),
        spared=f"{known} || {fuse}",
    )
    counted = _FILTER.format(pattern=filters.refused(version), date=filters.DATE)
    good = _FILTER.format(pattern=filters.GOOD, date=filters.DATE)
    command = shlex.join([*alert, str(settings.folder)])
    files = {
        "limpet.nft": _RULES.format(port=settings.port),
        "filter.d/limpet.conf": counted,
        "filter.d/limpet-good.conf": good,
        "action.d/limpet-set.conf": _SET_ACTION.format(rules=rules),
        "action.d/limpet-alert.conf": _ALERT_ACTION.format(alert=command),
        "jail.d/limpet.conf": jails,
    }
    return {name: _HEAD + text for name, text in files.items()}


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

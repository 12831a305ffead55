"""fail2ban, asked and told by its own programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import FAILED, REFUSED, KitError
from .alerts import network
from .files import BANNED, KNOWN, SHUT

FOLDER = Path("/etc/fail2ban")
PROGRAMS = ("fail2ban-client", "fail2ban-regex", "nft", "setpriv")


def require() -> None:
    """`KitError` when a program that the guard consists of is missing."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise KitError(
            f"The guard needs {', '.join(missing)}, not found here. Install with: sudo apt "
            "install fail2ban nftables",
            REFUSED,
        )


def tell(fail2ban: Path, *words: str) -> str:
    """What `fail2ban-client` answers; `KitError` with its words when it fails."""
    require()
    done = subprocess.run(
        ["fail2ban-client", "-c", str(fail2ban), *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines() or ["nothing"]
        raise KitError(
            f"fail2ban said: {said[-1].strip()}. Does it run (sudo systemctl start fail2ban), and "
            "is the guard installed (sudo limpet guard install)?",
            FAILED,
        )
    return done.stdout


def load(fail2ban: Path, jails: Sequence[str]) -> bool:
    """Have a running fail2ban take the guard's files; False when it does not run."""
    try:
        tell(fail2ban, "ping")
    except KitError:
        return False
    tell(fail2ban, "reload")
    return set(jails) <= set(_present(fail2ban))


def _present(fail2ban: Path) -> list[str]:
    return tell(fail2ban, "status").replace(",", " ").split()


def banned(fail2ban: Path, jail: str = BANNED) -> list[str]:
    """The addresses that a jail holds."""
    return sorted(tell(fail2ban, "get", jail, "banip").split())


def unban(fail2ban: Path, address: str) -> bool:
    """Let an address (of IPv6 its /64) in again; False when it was not kept out."""
    who = str(network(address))
    tell(fail2ban, "set", KNOWN, "unbanip", who)
    jails = {BANNED, SHUT} & set(_present(fail2ban))
    return "1" in {tell(fail2ban, "set", jail, "unbanip", who).strip() for jail in jails}


def counted(line: str, fail2ban: Path) -> str | None:
    """Whom the installed filter counts this log line for."""
    path = fail2ban / "filter.d" / "limpet.conf"
    done = subprocess.run(
        ["fail2ban-regex", "-o", "ip", line, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip() or None

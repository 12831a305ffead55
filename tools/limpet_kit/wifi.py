"""Wi-Fi networks for a board: asked for without echo, or from the environment, stdin, a file.

Never from the argument list, which every user of the machine can read. The text of a file, of
stdin and of LIMPET_WIFI is two lines a network: its name, then its key (empty for an open one).
"""

from __future__ import annotations

import getpass
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from . import protocol
from .broker.files import refuse_readable
from .console import ask
from .errors import NO_NETWORK, KitError
from .secret import Secret

VARIABLE = "LIMPET_WIFI"


@dataclass(frozen=True)
class Network:
    """One network: its name (1 to 32 bytes) and its key, empty for an open one."""

    ssid: bytes
    key: Secret


def networks(source: str | None = None) -> list[Network]:
    """The networks, in the order in which a board tries them; empty when nobody gave one.

    `source` is a file of mode 0600 or `-` for stdin; without it LIMPET_WIFI, and else a person
    at the terminal, are asked. Raises `KitError` for a file that others can read and for what
    cannot be a network.
    """
    if source == "-":
        return parse(sys.stdin.read(), "stdin")
    if source is not None:
        return parse(_read(Path(source)), source)
    if VARIABLE in os.environ:
        return parse(os.environ[VARIABLE], VARIABLE)
    return _ask() if sys.stdin.isatty() else []


def parse(text: str, where: str) -> list[Network]:
    """Networks of a text; `where` it came from is named in errors."""
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text.strip() else []
    if len(lines) % 2:
        lines.append("")
    pairs = zip(lines[::2], lines[1::2], strict=True)
    found = [
        _network(ssid, key, f"on line {2 * n + 1} of {where}", f"on line {2 * n + 2} of {where}")
        for n, (ssid, key) in enumerate(pairs)
    ]
    if len(found) > protocol.REPEATS:
        raise KitError(f"{where} names more than {protocol.REPEATS} networks.", NO_NETWORK)
    return found


def simulated() -> list[Network]:
    """For a simulated board, whose world holds any network unless it is told otherwise."""
    return [Network(b"simulated", Secret(b""))]


def text(networks: list[Network]) -> str:
    """The form that `parse` reads."""
    return "".join(f"{n.ssid.decode()}\n{n.key.reveal().decode()}\n" for n in networks)


def _ask() -> list[Network]:
    found: list[Network] = []
    words = "Wi-Fi networks, in the order in which the board tries them; Enter alone ends."
    print(words, file=sys.stderr)
    while len(found) < protocol.REPEATS:
        try:
            ssid = ask("network name: ")
            if not ssid:
                break
            key = getpass.getpass("its key (not shown; empty for an open network): ")
            found.append(_network(ssid, key, "that you typed", "that you typed"))
        except EOFError:
            break
        except KitError as e:
            print(e, file=sys.stderr)
    return found


def _read(file: Path) -> str:
    try:
        refuse_readable(file, "Wi-Fi keys")
        return file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise KitError(
            f"There is no file {file} with Wi-Fi networks: two lines each, name and key. For a "
            "board on a cable: --no-wifi",
            NO_NETWORK,
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        why = getattr(e, "strerror", None) or "not UTF-8 text"
        raise KitError(f"{file} cannot be read: {why}.", NO_NETWORK) from None


def _network(ssid: str, key: str, its_place: str, keys_place: str) -> Network:
    """Checked as the access point will (IEEE 802.11: 8 to 63 characters, or 64 hex digits).

    Errors name places only: where a line too many has come in, a key stands in a name's place.
    """
    name, secret = ssid.encode(), key.encode()
    if not 1 <= len(name) <= 32:
        raise KitError(f"The network name {its_place} has not 1 to 32 bytes.", NO_NETWORK)
    is_raw = re.fullmatch(rb"[0-9A-Fa-f]{64}", secret)
    if secret and not 8 <= len(secret) <= 63 and not is_raw:
        raise KitError(
            f"The network key {keys_place} has neither 8 to 63 characters nor 64 hex digits.",
            NO_NETWORK,
        )
    return Network(name, Secret(secret))

"""`limpet anchor`: a new CA beside the old one, later alone, without stranding a device."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .. import ca, changes, paths, protocol
from ..broker import settings
from ..errors import REFUSED, USAGE, KitError
from ..ledger import Ledger, Unit
from . import rotate

HELP = "have devices trust a next CA beside the present one, and later that one alone"
EPILOG = """examples:
  limpet anchor add next/ca.crt --all      every device trusts both
  limpet anchor retire next/ca.crt --all   once the server has its new certificate: this one alone

A device tries what it got: an anchor with which it cannot log in is dropped again."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, words in (
        ("add", "trust this CA beside the broker's own"),
        ("retire", "trust this CA alone; only where `add` was applied"),
    ):
        sub = actions.add_parser(name, help=words, description=words)
        sub.add_argument("file", metavar="FILE", type=Path, help="the CA certificate, PEM or DER")
        rotate.targets(sub)
        rotate.room(sub)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    new = _read(args.file)
    chosen = settings.load(args.broker or paths.home() / "broker")
    old = ca.anchor_der(chosen.folder)
    both = [old, new] if old != new else [new]
    wanted = both if args.action == "add" else [new]
    with Ledger() as ledger:
        units = rotate.select(ledger, chosen, args)
        if args.action == "retire":
            _may_retire(ledger, units, new)
        return rotate.exchange(
            ledger,
            [chosen],
            units,
            args,
            changes.ANCHORS,
            lambda unit: [(protocol.ANCHOR, der) for der in wanted],
            " ".join(_digest(der) for der in wanted),
        )


def _may_retire(ledger: Ledger, units: list[Unit], new: bytes) -> None:
    """Refuse where a device has not shown that it holds the new anchor."""
    lacking = [u.name for u in units if _digest(new) not in changes.anchors_of(ledger, u)]
    if lacking:
        raise KitError(
            f"{', '.join(lacking[:5])} {'have' if len(lacking) > 1 else 'has'} not applied this "
            "anchor yet. First: limpet anchor add FILE, until every device has.",
            REFUSED,
        )


def _read(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as e:
        raise KitError(f"{file} cannot be read: {e.strerror}.", USAGE) from None
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        load = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
        found = load(data)
        is_ca = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        is_ca = False
    if not is_ca:
        raise KitError(f"{file} is not the certificate of a CA.", USAGE)
    return found.public_bytes(Encoding.DER)


def _digest(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()

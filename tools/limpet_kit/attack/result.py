"""What a device did in one case, in words, as JSON and as JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from xml.etree import ElementTree

from .stream import Seen

HELD, FELL, NOT_TRIED = "held", "fell", "not tried"
_CLIENT_HELLO = 0x16
_PROMPT = 'Type "help()" for more information'  # of a MicroPython on which nothing runs any more


@dataclass(frozen=True)
class Result:
    """`verdict` is held, fell or not tried (it never came), `why` the reason.

    `sent` says what the device told the hostile server, `said` counts bytes that only its own
    server should know; `back_s` seconds until it logged in at the honest server again, None when
    it did not; `took_s` those of the whole case.
    """

    case: str
    words: str
    verdict: str
    why: str
    sent: str
    said: int
    back_s: float | None
    log: str
    took_s: float = 0.0

    def took(self, seconds: float) -> Result:
        """The same, with its duration."""
        return replace(self, took_s=round(seconds, 2))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def told(one: Seen) -> int:
    """Bytes that a server without trust got to know; TLS's own first packet is not among them."""
    hello = one.wire == one.plain and one.wire[:1] == bytes([_CLIENT_HELLO])
    return 0 if hello else len(one.plain)


def sent(connections: Sequence[Seen]) -> str:
    """What a device said, without a word of it."""
    if not connections:
        return "nothing"
    known = sum(told(one) for one in connections)
    logins = sum(one.login is not None for one in connections)
    if logins:
        return f"{logins} login{'s' * (logins > 1)}, {known} bytes"
    if known:
        return f"{known} bytes"
    return f"a TLS handshake, {sum(len(one.wire) for one in connections)} bytes"


def telling(lines: list[str]) -> str:
    """The line of a Limpet log that says why."""
    for line in lines:
        if line.startswith(("UNTRUSTED", "REFUSED", "OFFLINE")):
            return line
    return lines[-1] if lines else ""


def ended(lines: list[str]) -> str:
    """The last words of a program that ended on its own; empty while it runs."""
    for number, line in enumerate(lines):
        if line.startswith(_PROMPT):
            before = [one for one in lines[: max(0, number - 1)] if one]  # a banner comes between
            return before[-1] if before else "without a word"
    return ""


def junit(results: list[Result]) -> str:
    """The results as JUnit XML, as CI servers read it."""
    counts = {v: sum(r.verdict == v for r in results) for v in (FELL, NOT_TRIED)}
    suite = ElementTree.Element(
        "testsuite",
        name="limpet attack",
        tests=str(len(results)),
        failures=str(counts[FELL]),
        skipped=str(counts[NOT_TRIED]),
        time=f"{sum(r.took_s for r in results):.2f}",
    )
    for one in results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname="limpet.attack",
            name=one.case,
            time=f"{one.took_s:.2f}",
        )
        if one.verdict == FELL:
            ElementTree.SubElement(case, "failure", message=one.why).text = one.words
        elif one.verdict == NOT_TRIED:
            ElementTree.SubElement(case, "skipped", message=one.why)
        back = "not back" if one.back_s is None else f"back after {one.back_s:.2f} s"
        words = f"{one.words}\nit sent: {one.sent}\n{back}\n{one.log}"
        ElementTree.SubElement(case, "system-out").text = words
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)

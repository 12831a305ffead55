"""What an audit says: lines for people, one JSON object, a page with a picture of the flash."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

from ..console import Console, printable
from . import finding, layout, stream
from .finding import Finding
from .ladder import Ladder, Verdict
from .openness import WAYS, Way
from .scan import Contents

_LINES = 40  # findings that a terminal shows
_COLOURS = {
    layout.APPLICATION: "#b8c7e0",
    layout.FILES: "#bfe0c2",
    layout.NVS: "#e6dcae",
    layout.OTHER: "#e2e2e2",
}
_MARKS = {finding.CLEAR: "#c62828", finding.SOFT: "#e08a00", finding.NONE: "#607d8b"}
_WORDS = {
    finding.CLEAR: "can be read",
    finding.SOFT: "opens with a key in the same flash",
    finding.NONE: "gives nothing away",
}


@dataclass(frozen=True)
class Report:
    """Everything that one audit found and judged."""

    source: str  # port or file, as the user named it
    how: str
    chip: str
    image: bytes
    contents: Contents
    ways: list[Way]
    ladder: Ladder
    verdict: Verdict
    wanted: int
    restarted: bool = False  # the board's program was stopped for this, and started again

    @property
    def enrolled(self) -> bool | None:
        """Whether a credential of Limpet lies there; None where the files cannot be read."""
        records = (one for one in self.contents.findings if one.kind == finding.RECORD)
        if any(one.state == stream.LIVE for one in records):
            return True
        parts = self.contents.layout
        return False if parts.file_systems or parts.blank else None

    @property
    def notes(self) -> list[str]:
        """What must be known to read the verdict."""
        notes = []
        if self.enrolled is False:
            notes.append(
                "nothing is enrolled on it: no file of this flash holds a record of Limpet's, so "
                "the level says nothing of how a credential would lie there"
            )
        if self.restarted:
            notes.append("its program was stopped for this, and started again")
        return notes

    @property
    def fine(self) -> bool:
        """Whether the level that was asked for is reached."""
        return self.verdict.level.number >= self.wanted

    def as_dict(self) -> dict[str, Any]:
        """For JSON; no secret is in it."""
        verdict = self.verdict
        return {
            "ok": self.fine,
            "source": self.source,
            "how": self.how,
            "chip": self.chip,
            "image": {"size": len(self.image), "sha256": hashlib.sha256(self.image).hexdigest()},
            "enrolled": self.enrolled,
            "notes": self.notes,
            "micropython": self.contents.layout.firmware.version,
            "regions": [
                {"label": r.label, "kind": r.kind, "offset": r.offset, "size": r.size}
                for r in self.contents.layout.regions
            ],
            "findings": [one.as_dict() for one in self.contents.findings],
            "more": self.contents.more,
            "ways": [way.as_dict() for way in self.ways],
            "level": verdict.level.number,
            "wanted": self.wanted,
            "claim": verdict.level.claim,
            "next": {
                "level": verdict.next.number,
                "claim": verdict.next.claim,
                "open": [way.name for way in verdict.ways],
                "findings": len(verdict.findings),
                "steps": list(verdict.next.steps),
            }
            if verdict.next
            else None,
        }


def show(report: Report, console: Console) -> None:
    """The report in lines."""
    parts = report.contents.layout
    version = parts.firmware.version
    console.line(
        f"{report.source}: {len(report.image) / (1 << 20):.1f} MiB by {report.how}; "
        f"{report.ladder.title}{', MicroPython ' + printable(version) if version else ''}"
    )
    findings = report.contents.findings
    for one in sorted(findings, key=_order)[:_LINES]:
        console.line(f"  {one.offset:#09x}  {_sentence(one)}")
    if len(findings) > _LINES or report.contents.more:
        more = "more than " if report.contents.more else ""
        console.line(f"  ... {more}{len(findings)} in all: --json or --html shows them")
    if not findings:
        console.line("  nothing was found in the flash")
    console.line("ways in:")
    for way in report.ways:
        console.line(f"  {way.state:8} {WAYS[way.name]}: {way.by}")
    for note in report.notes:
        console.line(f"note: {note}")
    verdict = report.verdict
    console.line(f"level {verdict.level.number}: {verdict.level.claim}")
    if verdict.next:
        console.line(f"level {verdict.next.number} would be: {verdict.next.claim}")
        for way in verdict.ways:
            console.line(f"  it needs   {WAYS[way.name]}: {way.state} now")
        for exposure, count in Counter(f.exposure for f in verdict.findings).items():
            console.line(f"  it needs   {count} fewer of what {_WORDS[exposure]}")
        for step in verdict.next.steps:
            console.line(f"  to do      {step}")


def _order(one: Finding) -> tuple[bool, int]:
    return one.exposure == finding.NONE, one.offset


def _sentence(one: Finding) -> str:
    name = printable(one.words, 80)
    return (
        f"{one.kind}: {name}; {one.length} bytes, {one.form}; "
        f"{printable(one.place, 80)}, {one.state}; {_WORDS[one.exposure]}"
    )


def page(report: Report) -> str:
    """One HTML page that needs nothing else: verdict, map of the flash, tables."""
    verdict = report.verdict
    rows = "".join(
        f'<tr class="{one.exposure}"><td>{one.offset:#x}</td><td>{escape(one.kind)}</td>'
        f"<td>{escape(printable(one.words))}</td><td>{escape(printable(one.place))}</td>"
        f"<td>{escape(one.state)}</td><td>{escape(one.form)}, {one.length} bytes</td>"
        f"<td>{_WORDS[one.exposure]}</td></tr>"
        for one in report.contents.findings
    )
    ways = "".join(
        f'<tr class="{way.state}"><td>{escape(WAYS[way.name])}</td><td>{way.state}</td>'
        f"<td>{escape(printable(way.by))}</td></tr>"
        for way in report.ways
    )
    following = ""
    if verdict.next:
        needs = [f"{WAYS[way.name]} ({way.state} now)" for way in verdict.ways]
        if verdict.findings:
            needs.append(f"{len(verdict.findings)} of the findings below must be gone")
        items = "".join(f"<li>{escape(text)}</li>" for text in needs)
        steps = "".join(f"<li>{escape(text)}</li>" for text in verdict.next.steps)
        following = (
            f"<h2>What level {verdict.next.number} would take</h2>"
            f"<p>It would allow to say: {escape(verdict.next.claim)}.</p>"
            f"<ul>{items}</ul><p>To do:</p><ul>{steps}</ul>"
        )
    return _PAGE.format(
        title=escape(printable(report.source)),
        state="fine" if report.fine else "clear",
        level=verdict.level.number,
        wanted=report.wanted,
        claim=escape(verdict.level.claim),
        size=f"{len(report.image):,}",
        digest=hashlib.sha256(report.image).hexdigest(),
        how=escape(report.how),
        chip=escape(report.ladder.title),
        notes="".join(f"<p>Note: {escape(note)}.</p>" for note in report.notes),
        picture=picture(report),
        following=following,
        ways=ways,
        rows=rows or '<tr><td colspan="7">nothing was found</td></tr>',
    )


def picture(report: Report) -> str:
    """The flash from left to right as SVG, a mark for each finding."""
    width, height = 1000, 60
    scale = width / max(1, len(report.image))
    parts = []
    for region in report.contents.layout.regions:
        x, w = region.offset * scale, max(1.0, region.size * scale)
        label = escape(printable(region.label, 40))
        parts.append(
            f'<g><title>{label}, {region.offset:#x}, {region.size} bytes</title><rect x="{x:.2f}" '
            f'y="20" width="{w:.2f}" height="{height}" fill="{_COLOURS[region.kind]}" '
            'stroke="#888" stroke-width=".5"/></g>'
        )
        if w > 45:
            parts.append(f'<text x="{x + 4:.2f}" y="14">{label}</text>')
    for one in sorted(report.contents.findings, key=_order, reverse=True):
        x = one.offset * scale
        parts.append(
            f"<g><title>{one.offset:#x} {escape(_sentence(one))}</title>"
            f'<rect x="{x:.2f}" y="16" width="2" height="{height + 8}" '
            f'fill="{_MARKS[one.exposure]}"/></g>'
        )
    end = f"{len(report.image):#x}"
    return (
        f'<svg viewBox="0 0 {width} {height + 44}" role="img" aria-label="map of the flash" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}'
        f'<text x="0" y="{height + 40}">0x0</text>'
        f'<text x="{width}" y="{height + 40}" text-anchor="end">{end}</text></svg>'
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Audit of {title}</title>
<meta name="viewport" content="width=device-width"><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ border-bottom: 1px solid #ccc; padding: .25em .6em; text-align: left }}
svg {{ width: 100%; font: 11px system-ui, sans-serif }}
.verdict {{ border-left: 8px solid; padding: .5em 1em }}
.verdict.clear, tr.clear td:last-child, tr.open td:nth-child(2) {{ color: #c62828 }}
tr.soft td:last-child, tr.unknown td:nth-child(2) {{ color: #b06a00 }}
.verdict.fine, tr.closed td:nth-child(2) {{ color: #2e7d32 }}
</style></head><body><h1>Audit of {title}</h1>
<p class="verdict {state}"><b>Level {level}</b> (asked for: {wanted}).
What may be said of it: {claim}.</p>
<p>{chip}, {size} bytes by {how}, SHA-256 <code>{digest}</code>. No secret is shown here.</p>
{notes}{picture}{following}
<h2>Ways in</h2><table><tr><th>way</th><th>state</th><th>by</th></tr>{ways}</table>
<h2>Found in the flash</h2><table><tr><th>offset</th><th>kind</th><th>what</th><th>place</th>
<th>state</th><th>form</th><th></th></tr>{rows}</table></body></html>
"""

"""The report of a production line's run: CSV, and one HTML page that needs nothing else."""

from __future__ import annotations

import csv
import html
import io
import time

from .broker.files import write_private
from .console import csv_cell
from .line import Record, Run

_COLUMNS = ("when", "port", "unit", "result", "seconds", "online_s", "flashed", "enrolled", "why")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Limpet: production run</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
b {{ font-size: 2rem }} p span {{ margin-right: 2rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884 }}
tr.apart td {{ background: #d002 }}
</style></head><body>
<h1>Production run</h1>
<p>{when}</p>
<p><span><b>{online}</b> online</span> <span><b>{apart}</b> set apart</span>
<span><b>{rate}</b> boards an hour</span></p>
<h2>Set apart</h2>
{failed}
<h2>All boards</h2>
{table}
</body></html>
"""


def write(run: Run) -> None:
    """Write `report.csv` and `report.html` into the run's folder, each in one step."""
    write_private(run.folder / "report.csv", _csv(run).encode())
    write_private(run.folder / "report.html", _html(run).encode())


def rate(run: Run) -> float:
    """Boards an hour that came online, from the first one's begin to the last one's end."""
    done = [record for record in run.records if record.ok]
    if not done:
        return 0.0
    ends = max(record.began + record.seconds for record in done)
    return len(run.online) * 3600 / max(1.0, ends - min(record.began for record in done))


def _row(record: Record) -> tuple[str, ...]:
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.began)),
        record.port,
        record.name,
        "online" if record.ok else f"failed ({record.code})",
        f"{record.seconds:.1f}",
        f"{record.online_s:.1f}" if record.ok else "",
        "yes" if record.flashed else "",
        "yes" if record.enrolled else "",
        record.words,
    )


def _csv(run: Run) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for record in run.records:
        writer.writerow(map(csv_cell, _row(record)))
    return text.getvalue()


def _html(run: Run) -> str:
    begins = [record.began for record in run.records] or [int(time.time())]
    return _PAGE.format(
        when=time.strftime("%Y-%m-%d %H:%M", time.localtime(min(begins))),
        online=len(run.online),
        apart=len(run.apart),
        rate=f"{rate(run):.0f}",
        failed=_table(run.apart) if run.apart else "<p>None.</p>",
        table=_table(run.records),
    )


def _table(records: list[Record]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = []
    for record in records:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _row(record))
        rows.append(f"<tr{'' if record.ok else ' class=apart'}>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"

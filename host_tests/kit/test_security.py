"""SECURITY.md's tables are what ladders and audit say now.

`LIMPET_WRITE=1` writes them anew.
"""

import json
import os
import re

import pytest
from limpet_kit.audit import ladder
from limpet_kit.cli import main
from rig.images import Files, esp32_image, pico_image
from rig.micropython import ROOT

PAGE = ROOT / "SECURITY.md"
SECRET = b"WIFI_PASSWORD = 'hunter2hunter2'\n"


def check(name, rows):
    """The table between this name's marks; written where that was asked for."""
    head, *rest = ["| " + " | ".join(row) + " |\n" for row in rows]
    table = head + "| --- " * len(rows[0]) + "|\n" + "".join(rest)
    mark = f"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
    page = PAGE.read_text()
    new = re.sub(mark, lambda found: found[1] + table + found[2], page, flags=re.S)
    if os.environ.get("LIMPET_WRITE") == "1":
        PAGE.write_text(new)
    assert PAGE.read_text() == new, f"run LIMPET_WRITE=1 pytest {__file__}"


def test_levels():
    rows = [("chip", "level", "what may be claimed")]
    for chip in ladder.names():
        if chip != ladder.UNKNOWN:
            steps = ladder.load(chip)
            rows += [(steps.title, str(one.number), one.claim) for one in steps.levels]
    check("levels", rows)


@pytest.fixture
def audited(tmp_path, capsys):
    def run(image, chip):
        file = tmp_path / "flash.bin"
        file.write_bytes(image)
        main(["audit", "--image", str(file), "--chip", chip, "--json"])
        return json.loads(capsys.readouterr().out)

    return run


def image(chip, secret):
    small = chip == "rp2040"
    blocks = {"rp2040": 212, "rp2350": 640}.get(chip, 512)
    files = Files(blocks, 256 if chip.startswith("rp") else 32)
    files.write("/main.py", b"import limpet\n")
    if secret:
        files.write("/secrets.py", SECRET)
    if chip.startswith("esp32"):
        return esp32_image(files.image, program=b"\xe9" * 40)
    size, at = (2 << 20, 0x12C000) if small else (4 << 20, 0x180000)
    return pico_image(files.image, chip=chip.upper(), size=size, at=at)


def test_what_the_audit_finds(audited):
    rows = [("chip", "in the flash", "found", "level", "open", "not known without the board")]
    for chip in ladder.names():
        for secret in (True, False) if chip != ladder.UNKNOWN else ():
            report = audited(image(chip, secret), chip)
            found = [f"{f['kind']} in {f['place']}" for f in report["findings"]]
            assert bool(found) == secret and report["level"] == int(not secret)
            ways = {
                state: ", ".join(w["name"] for w in report["ways"] if w["state"] == state)
                for state in ("open", "unknown")
            }
            rows.append(
                (
                    ladder.load(chip).title,
                    "secrets.py" if secret else "no secret",
                    ", ".join(found) or "nothing",
                    str(report["level"]),
                    ways["open"],
                    ways["unknown"] or "-",
                )
            )
    check("measured", rows)

"""The pages: their links lead somewhere, their programs compile, their commands are understood."""

import ast
import re
import shlex

import pytest
from limpet_kit import cli
from rig.documents import PAGES, blocks, words
from rig.micropython import ROOT

OURS = ("boards", "firmware", "host_tests", "lib", "packages", "tools")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.M)
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
CODE = re.compile(r"``[^`]*``|`[^`]*`")


def pages():
    """Every page of the project, not of what is installed or built in it."""
    found = [
        *ROOT.glob("*.md"),
        *(page for folder in OURS for page in (ROOT / folder).rglob("*.md")),
    ]
    assert len(found) > 15
    return sorted(found)


def anchors(page):
    """What `#...` may name in a page: its headings as GitHub makes ids of them."""
    found = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        base = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        at = base
        number = 0
        while at in found:  # a second heading of the same words
            number += 1
            at = f"{base}-{number}"
        found.add(at)
    return found


def broken(page):
    """The links of a page that lead nowhere."""
    text = CODE.sub("", FENCE.sub("", page.read_text()))
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue  # another server's: not ours to promise
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT):
            yield f"{page.relative_to(ROOT)}: {link}: no such file"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            yield f"{page.relative_to(ROOT)}: {link}: no such heading"


def test_every_link_leads_somewhere():
    assert not [line for page in pages() for line in broken(page)]


def test_a_broken_link_is_seen(tmp_path, monkeypatch):
    """The control."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n## One\n[a](none.md) [b](#two) [c](#one-1) [d](page.md#one)\n`[e](f)`\n"
    )
    assert len(list(broken(page))) == 2


def test_every_page_is_reached_from_the_first():
    """Who starts at README.md finds every page, but for one board's own and for licences."""
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
        ahead += [
            (page.parent / link).resolve()
            for link in links
            if link.endswith(".md") and not re.match(r"[a-z]+:", link)
        ]
    left = {page for page in pages() if not page.name.endswith(("deploy.md", "LICENSE.md"))} - seen
    assert not {str(page.relative_to(ROOT)) for page in left}


def test_every_program_compiles():
    programs = [b for page in PAGES for b in blocks(page) if b.language == "python"]
    assert len(programs) >= 4
    for block in programs:
        compile(block.text, f"{block.page}: {block.file}", "exec")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page, capsys):
    parser = cli.parser()
    understood = 0
    for block in blocks(page):
        if block.mark == "not run: output":
            continue
        for command in block.commands:
            given = words(re.sub(r"\$\([^)]*\)", "x", command))
            if given[0] != "limpet":
                continue
            try:
                parser.parse_args(given[1:] or [cli.FIRST])
            except SystemExit as e:
                if e.code:
                    pytest.fail(f"{page}: {shlex.join(given)}: {capsys.readouterr().err}")
            understood += 1
    assert understood > 5


def test_every_sentence_of_a_board_is_explained():
    """The page of causes begins with what the board says, as words.py says it."""
    tree = ast.parse((ROOT / "lib" / "limpet" / "words.py").read_text())
    (lines,) = (
        ast.literal_eval(node.value).strip().split("\n")
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_WORDS"
    )
    sentences = dict(line.split(" ", 1) for line in lines)
    page = (ROOT / "lib" / "limpet" / "README.md").read_text()
    explained = re.findall(r"^\| ([^|`]+) \| `([A-Z_]+)` \|", page, re.M)
    for says, code in explained:
        assert sentences[code].startswith(says)
    of_the_sketch = {"FULL", "DROPPED", "NO_NAME", "CHANGE"}  # told to its author, or no failure
    assert {code for _, code in explained} == set(sentences) - of_the_sketch


def test_the_comparison_has_the_figures_of_the_benchmark():
    """Whoever writes a newer run into the benchmark's page is reminded of the other page."""
    rows = {
        "QoS 0 publish, CPU": "QoS 0 publish, CPU, us",
        "QoS 1 one at a time": "QoS 1, one at a time, /s",
        "connect": "connect to CONNACK, ms",
        ".mpy of what is imported": ".mpy of what is imported, B",
        "smallest heap for 1,000 messages": "smallest heap for 1,000 messages, KB",
    }
    measured = (ROOT / "host_tests" / "bench" / "README.md").read_text()
    compared = (ROOT / "COMPARISON.md").read_text()
    for ours, theirs in rows.items():
        (line,) = re.findall(rf"^\| {re.escape(theirs)} \| (.*) \|$", measured, re.M)
        _, limpet, umqtt, _, chumicro, *_ = line.split(" | ")
        (line,) = re.findall(rf"^\| {re.escape(ours)} \(M\) \| (.*) \|$", compared, re.M)
        cells = line.split(" | ")
        said = [re.search(r"[\d,.]+", cells[at])[0] for at in (0, 1, 3)]
        assert said == [limpet, umqtt, chumicro], ours

"""The blocks of a page of documentation, and the words above them that say how they are run."""

import re
import shlex
from dataclasses import dataclass

from rig.micropython import ROOT

PAGES = ("README.md", "firmware/TUTORIAL.md", "tools/limpet_kit/HOWTO.md")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?"
    r"(?:^\*\*`(?P<file>[^`]+)`\*\*\n)?"
    r"(?:^```(?P<language>\w*)\n(?P<fenced>.*?)^```$|(?P<indented>(?:^    [^\n]*\n)+))",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """`mark` is the comment right above it, `file` the name in bold under which it is saved."""

    page: str
    mark: str
    file: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its command lines, without the remarks behind them."""
        if self.language != "sh":
            return []
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def blocks(page):
    """All blocks of a page, in order. Indented ones are commands; so are those in `sh`."""
    text = (ROOT / page).read_text()
    return [
        Block(
            page,
            found["mark"] or "",
            found["file"] or "",
            "sh" if found["indented"] else found["language"],
            found["fenced"] or re.sub("^    ", "", found["indented"] or "", flags=re.M),
        )
        for found in _BLOCK.finditer(text)
    ]


def words(command):
    """A command line as a shell would split it, without the remark."""
    return shlex.split(command, comments=True)

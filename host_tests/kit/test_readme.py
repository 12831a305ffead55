"""What README.md promises in tables is what the code says."""

from limpet_kit import errors
from rig.micropython import ROOT


def test_exit_codes():
    text = (ROOT / "README.md").read_text()
    for code, words in errors.MEANINGS.items():
        assert f"| {code} | {words} |" in text

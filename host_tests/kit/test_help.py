"""Every command explains itself with an example, and says which exit codes there are."""

import argparse
import re
from pathlib import Path

import pytest
from limpet_kit import cli, errors


@pytest.mark.parametrize("verb", cli.COMMANDS)
def test_every_command_has_an_example(verb, capsys):
    with pytest.raises(SystemExit) as e:
        cli.main([verb, "--help"])
    said = capsys.readouterr().out
    assert e.value.code == 0 and "example" in said and f"limpet {verb}" in said.split("example")[1]


def test_the_table_of_exit_codes_is_whole(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    codes = {v for k, v in vars(errors).items() if k.isupper() and type(v) is int}
    assert set(errors.MEANINGS) == codes
    for code, words in errors.MEANINGS.items():
        assert f"{code}  {words}" in said
    assert isinstance(cli.parser(), argparse.ArgumentParser)


def test_every_exit_code_is_asked_for_by_a_test():
    """By its name or its number, where a test compares what a command or an error gave."""
    files = Path(__file__).resolve().parents[1].glob("*/test_*.py")
    text = "\n".join(file.read_text() for file in files)
    text = re.sub(r"import \([^)]*\)|import .*", "", text)  # to import it is no question
    for name, code in vars(errors).items():
        if name.isupper() and type(code) is int:
            asked = (
                rf"(==|code=|\[|, ) ?({name}|limpet_kit.errors.{name})\b|(code=|code == ){code}\b"
            )
            assert re.search(asked, text), f"no test asks for {name}"

"""What people get wrong first: each answer is one sentence or two, with the command that helps."""

import re

import pytest
from limpet_kit import cli
from limpet_kit.broker import settings
from limpet_kit.errors import NO_BOARD, NO_BROKER, NO_NETWORK, REFUSED, USAGE

NO_FOLDER = [
    (["up", "/dev/nothing"], NO_BROKER, "limpet broker init"),
    (["broker", "run"], NO_BROKER, "limpet broker init"),
    (["broker", "init"], USAGE, "--host NAME"),
    (["status", "/dev/nothing"], NO_BOARD, "limpet status"),
]
WITH_BROKER = [
    (["broker", "init", "--loopback"], NO_BROKER, "limpet broker run"),
    (["rotate", "nobody"], USAGE, "limpet ledger list"),
    (["revoke", "nobody"], USAGE, "limpet ledger list"),
    (["ledger", "show", "nobody"], USAGE, "limpet ledger list"),
    (["up", "sim", "--wifi", "/nothing"], NO_NETWORK, "--no-wifi"),
    (["up", "sim", "--wifi", "OPEN"], REFUSED, "chmod 600"),
]


@pytest.mark.parametrize("given, code, command", NO_FOLDER)
def test_before_there_is_a_broker(given, code, command, home, capsys):
    _check(given, code, command, capsys)


@pytest.mark.parametrize("given, code, command", WITH_BROKER)
def test_with_a_broker(given, code, command, home, capsys, tmp_path):
    settings.create(home / "broker", ["localhost"], 18883, "embedded")
    (tmp_path / "wifi").write_text("home\na key of home\n")
    (tmp_path / "wifi").chmod(0o644)
    _check([str(tmp_path / "wifi") if a == "OPEN" else a for a in given], code, command, capsys)


def _check(given, code, command, capsys):
    assert cli.main(given) == code
    said = capsys.readouterr().err.strip()
    assert command in said and re.match(rf"limpet {given[0]}: [^\n]+\Z", said), said

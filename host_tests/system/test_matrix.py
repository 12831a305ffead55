"""`limpet broker matrix` on three brokers, and the table in the docs that it made."""

import json

import pytest
from limpet_kit import cli
from limpet_kit.broker import client, matrix, server
from limpet_kit.errors import FAILED, NOT_FIT, OK, USAGE, KitError
from rig.broker import ALL_KINDS, require
from rig.micropython import ROOT

DOCS = ROOT / "tools" / "limpet_kit" / "broker" / "README.md"


def nothing(done, total):
    pass


def column(title):
    """The answers that the table in the docs gives for one broker, by case."""
    section = DOCS.read_text().split("\n## What brokers take\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")]
        for line in section.splitlines()
        if line.startswith("| ")
    ]
    number = next(n for n, name in enumerate(rows[0]) if name.startswith(title))
    words = {row[0]: row[number] for row in rows}
    return {case: words[text] for case, text in matrix.CASES.items()}, words["**profile**"]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_table_is_what_our_kinds_do(kind):
    require(kind)
    answers = matrix.of_kind(kind, nothing)
    title = {"mosquitto": "Mosquitto", "embedded": "embedded", "rabbitmq": "RabbitMQ"}[kind]
    assert (answers, matrix.profile(answers)) == column(title)


def test_a_broker_elsewhere(broker_factory, tmp_path, capsys, monkeypatch):
    """Accounts are drawn for its operator, then logged in to."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    file = tmp_path / "accounts.csv"
    assert cli.main(["broker", "matrix", "--draw", str(file)]) == OK
    assert file.stat().st_mode & 0o077 == 0
    broker = broker_factory("embedded")
    server.sync(broker.settings, matrix.exported(matrix.load(file)))
    anchor, port = broker.settings.folder / "ca.crt", broker.settings.port
    where = ["broker", "matrix", f"localhost:{port}", "--ca", str(anchor)]
    capsys.readouterr()
    assert cli.main([*where, "--accounts", str(file), "--json"]) == OK
    said = json.loads(capsys.readouterr().out)
    (answers,) = said["brokers"].values()
    assert (answers, matrix.profile(answers)) == column("embedded")
    # Accounts that it does not have, no accounts, and a server that nobody vouches for.
    named = matrix.Server("localhost", port, client.trusting(anchor))
    with pytest.raises(KitError, match="does it have them"):
        matrix.ask(named, matrix.draw(), nothing)
    assert cli.main(where) == USAGE
    assert cli.main([where[0], where[1], where[2], "--accounts", str(file)]) == FAILED
    assert "certificate verify failed" in capsys.readouterr().err


WHOLE = {
    **dict.fromkeys(matrix.CASES, matrix.WHOLE),
    "empty": "refused 5",
    "wrong": "refused 5",
    "nul": "refused",
}


@pytest.mark.parametrize(
    ("changed", "best"),
    [
        ({}, "binary"),
        ({"behind": matrix.CUT}, "binary"),  # no password of ours has a NUL
        ({"high": matrix.REFUSED}, "text"),
        ({"high": matrix.CUT}, "text"),
        ({"length 73": matrix.CUT}, "binary"),
        ({"length 32": matrix.CUT}, None),
        ({"printable": "refused or whole"}, None),
        ({"wrong": matrix.ACCEPTED}, None),
        ({"empty": "accepted, refused 5"}, None),
    ],
)
def test_the_profile_that_follows(changed, best):
    assert matrix.profile({**WHOLE, **changed}) == best


def test_accounts_of_something_else(tmp_path):
    (tmp_path / "x.csv").write_text("case,name,password_hex\nprintable,a,zz\n")
    for name in ("x.csv", "missing.csv"):
        with pytest.raises(KitError, match="holds no accounts"):
            matrix.load(tmp_path / name)


def test_a_broker_that_is_not_fit(capsys, monkeypatch):
    monkeypatch.setattr(matrix, "installed", lambda: {"embedded": "a bad one"})
    monkeypatch.setattr(matrix, "of_kind", lambda *_: {**WHOLE, "wrong": matrix.ACCEPTED})
    assert cli.main(["broker", "matrix"]) == NOT_FIT
    assert "no credential of this kit is safe there" in capsys.readouterr().out

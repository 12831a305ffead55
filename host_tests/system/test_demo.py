"""`make demo`'s promises, with each broker that a machine may have."""

import json
import os

import pytest
from limpet_kit import cli
from limpet_kit.commands import demo
from limpet_kit.errors import DEMO_FAILED, KitError
from rig.broker import KINDS, require


@pytest.mark.parametrize("kind", KINDS)
def test_the_demo_holds(kind, tool):
    require(kind)
    variables = {**os.environ, "LIMPET_MOSQUITTO": "none"} if kind == "embedded" else None
    done = tool("limpet", "demo", "--json", timeout=110, env=variables)
    result = json.loads(done.stdout.decode().splitlines()[-1])
    assert result["ok"] is True
    assert (result["broker"], result["profile"]) == (
        ("mosquitto", "binary") if kind == "mosquitto" else ("embedded", "text")
    )
    assert result["impostor_refused"] is True and "anchor" in result["impostor_reason"]
    assert result["password_bytes_leaked"] == result["secrets_found_in_flash"] == 0
    assert result["refused_state"] == "REFUSED" and result["refused_logins"] == 1
    assert 0 < result["online_s"] < 60 and 0 < result["reconnect_s"] < 60
    assert done.stderr.decode().count("ok  ") == 8


def test_the_demo_fails_when_a_step_does_not_hold(monkeypatch, capsys):
    """A broker that never comes back: no step behind that is tried."""
    monkeypatch.setattr(demo.Demo, "_start_broker", lambda self: self._line("broker", False, "no"))
    monkeypatch.setattr(demo.Demo, "_bring_up", _cannot)
    assert cli.main(["demo", "--json"]) == DEMO_FAILED
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["ok"] is False
    assert "did not hold: broker: no; it cannot" in said.err


def _cannot(self):
    raise KitError("it cannot")

"""`make demo`'s promises, with each broker that a machine may have."""

import json
import os

import pytest
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

"""The figures of a broker, each once, at a size at which they mean nothing."""

import json

import pytest
from bench import broker
from rig.broker import KINDS, require


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_there(kind, tmp_path, capsys):
    require(kind)
    assert broker.main(["--quick", "--only", kind, "--out", str(tmp_path)]) == 0
    [found] = json.loads((tmp_path / "broker.json").read_text())["brokers"]
    assert found["idle_mb"] > 1 and found["client_kb"] > 1 and found["messages_wall_s"] > 1
    assert [sync["accounts"] for sync in found["syncs"]] == [100] and found["syncs"][0]["one_s"]
    said = capsys.readouterr().out
    assert found["name"] in said and "TLS logins a second" in said

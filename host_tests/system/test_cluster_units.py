"""Units of a cluster, from the command line to the flash of simulated boards and back."""

import json

import pytest
from limpet_kit import bringup, ca, cli
from limpet_kit.broker import rabbitmq, rabbitmq_api, server, state
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.errors import NO_BROKER, OK, KitError
from limpet_kit.ledger import Ledger
from limpet_kit.secret import Secret
from limpet_kit.watch import Watch
from limpet_kit.wifi import Network

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(600)]
NAMES = ("unit-1", "unit-2")


@pytest.fixture
def limpet(cluster, capsys, home):
    """`limpet(word, ...)` -> (exit code, the JSON object) of a command at the cluster."""

    def run(*words, broker=True):
        where = ["--broker", cluster.settings.folder] if broker else []
        code = cli.main([*map(str, [*words, *where]), "--json"])
        lines = capsys.readouterr().out.strip().splitlines()
        return code, json.loads(lines[-1]) if lines else None

    return run


def test_units_from_the_first_day_to_the_last(cluster, sim_factory, limpet, tmp_path):
    server.sync(cluster.settings, [], force=True)
    plan = Plan(networks=lambda: [Network(b"home", Secret(b"a key of home"))])
    for name in NAMES:
        port = f"sim:{sim_factory().name}"
        done = bringup.bring_up(
            port, cluster.settings, plan, Console(), lambda name, words: None, reading_s=0
        )
        assert done.unit.name == name
    assert limpet("status", broker=False)[0] == OK
    folder = cluster.settings.folder
    for verb in ("check", "status", "sync"):
        code, said = limpet("broker", verb, folder, broker=False)
        assert (code, said["ok"]) == (OK, True)
        assert verb == "sync" or set(said["nodes"].values()) == {state.RUNNING}

    before = accounts(cluster)
    code, said = limpet("rotate", "--all")
    assert (code, sorted(said["applied"])) == (OK, list(NAMES))
    assert len(accounts(cluster)) == len(before) and not accounts(cluster) & before
    ca.make(tmp_path / "next", ["other.local"])
    code, said = limpet("anchor", "add", tmp_path / "next" / "ca.crt", "--all")
    assert (code, sorted(said["applied"])) == (OK, list(NAMES))

    code, said = limpet("revoke", NAMES[1], broker=False)
    assert (code, said["live"]) == (OK, [NAMES[1]])
    with Watch(cluster.settings, NAMES[0]) as watch:
        assert watch.answers(90) is not None
    server.sync(cluster.settings, [], force=True)


def test_a_node_that_found_no_other_is_told(cluster, limpet, monkeypatch):
    """What each node says of the others, had the second one started alone, and the third not."""
    names = [rabbitmq.name(cluster.settings, number) for number in range(3)]
    said = {cluster.hosts[0]: [names[0]], cluster.hosts[1]: [names[1]]}

    class Api(rabbitmq_api.Api):
        def get(self, path):
            if self._settings.hosts[0] == cluster.hosts[2]:
                raise KitError("it is away")
            return [{"name": name, "running": True} for name in said[self._settings.hosts[0]]]

    monkeypatch.setattr(rabbitmq_api, "Api", Api)
    code, told = limpet("broker", "check", cluster.settings.folder, broker=False)
    assert code == NO_BROKER
    assert list(told["nodes"].values()) == [state.RUNNING, state.APART, state.AWAY]


def accounts(cluster):
    with Ledger() as ledger:
        return {account.name for account in ledger.accounts(cluster.settings.kit)}

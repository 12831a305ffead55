"""The guard of a RabbitMQ node: real fail2ban and nftables where the node runs."""

import json
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from limpet_kit.broker import server
from limpet_kit.errors import REFUSED
from limpet_kit.guard import alerts, thresholds
from rig.mqtt_guess import PROGRAM
from rig.peer import Device

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(600)]
LIMIT_S = 3.0


class Guard:
    """fail2ban beside the first node; strangers come from outside."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder = cluster, folder
        self.lamp = Device(SimpleNamespace(settings=cluster.at(0)), "lamp-1")
        self.fail2ban = folder / "fail2ban"
        shutil.copytree("/etc/fail2ban", self.fail2ban)
        for jail in (self.fail2ban / "jail.d").iterdir():
            jail.unlink()
        own = {"socket": "f.sock", "pidfile": "f.pid", "dbfile": "f.sqlite3", "logtarget": "f.log"}
        lines = [f"{key} = {folder / name}\n" for key, name in own.items()]
        (self.fail2ban / "fail2ban.local").write_text("[Definition]\n" + "".join(lines))

    def __enter__(self):
        command = ["fail2ban-server", "-f", "-c", self.fail2ban, "start"]
        nothing = subprocess.DEVNULL
        self.daemon = subprocess.Popen(
            self.cluster.inside(0, *command), stdin=nothing, stdout=nothing, stderr=nothing
        )
        ping = self.cluster.inside(0, "fail2ban-client", "-c", self.fail2ban, "ping")
        self.until(lambda: subprocess.run(ping, capture_output=True).returncode == 0)
        return self

    def __exit__(self, *_):
        self.daemon.terminate()
        self.daemon.wait(30)

    def limpet(self, verb, *words):
        where = [self.cluster.settings.folder, "--node", self.cluster.hosts[0]]
        more = ["--fail2ban", self.fail2ban, "--json", *words]
        done = subprocess.run(
            self.cluster.inside(
                0, sys.executable, "-m", "limpet_kit", "guard", verb, *where, *more
            ),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    def status(self):
        code, told, said = self.limpet("status")
        assert code == 0, said
        return told

    def login(self, *sources, wrong=True, times=1, watch_s=0, say="login", **said):
        order = {
            "server": [self.cluster.hosts[0], said.get("port", self.cluster.settings.port)],
            "sources": sources,
            "say": say,
            "user": said.get("user", self.lamp.account.name),
            "password": "wrong" if wrong else self.lamp.password.reveal().decode("latin-1"),
            "id": said.get("id", self.lamp.account.name),
            "level": 4,
            "topic": None,
            "times": times,
            "watch_s": watch_s,
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def until(self, true, within_s=30):
        end = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < end, (self.folder / "f.log").read_text()[-3000:]
            time.sleep(0.05)


def test_a_guarded_node(cluster, tmp_path, record_property):
    good, attacker, forger, *clones = (cluster.outside(n) for n in range(1, 6))
    server.sync(cluster.settings, [], force=True)
    with Guard(cluster, tmp_path) as guard:
        code, _, said = guard.limpet("install")
        assert code == REFUSED and "no device" in said  # the fuse
        guard.lamp.password = type(guard.lamp.password)(b"x" * 31 + b"y")  # as JSON carries it
        verifier = cluster.settings.verifier(guard.lamp.password)
        account = guard.lamp.account._replace(verifier=verifier)
        assert server.sync(cluster.settings, [account], force=True)
        code, told, said = guard.limpet("install", "--allow", cluster.kit_address)
        assert code == 0 and told["loaded"], said
        code, _, said = guard.limpet("test")
        assert code == 0, said

        assert guard.login(good, wrong=False)["codes"] == [0]
        guard.until(lambda: good in guard.status()["known"])
        said = guard.login(attacker, times=thresholds.REFUSALS, watch_s=15)
        assert said["codes"] == [4] * thresholds.REFUSALS
        assert said["shut_s"] is not None
        record_property(
            "measured", f"guard of a node: shut {said['shut_s']:.2f} s after the tenth"
        )
        assert guard.login(attacker, wrong=False)["codes"] == [None]
        for port in cluster.settings.ports:  # accounts and pages have ports of their own
            assert guard.login(attacker, times=0, watch_s=LIMIT_S, port=port)["shut_s"] is not None
            assert guard.login(good, times=0, watch_s=0.2, port=port)["shut_s"] is None
        assert guard.login(good, times=2 * thresholds.REFUSALS)["codes"][-1] == 4

        line = (
            f"MQTT connection {good}:1 -> {good}:8883 is closing due to an authentication failure"
        )
        fake = (
            f'x\n{{"time":"2026-01-02 03:04:05.1+00:00","level":"error","msg":"{line}","domain":"'
        )
        for name in (line, f"x\n{line}\n", fake):
            guard.login(forger, user=name, id=name, times=4)
        guard.until(lambda: forger in guard.status()["banned"])
        assert guard.status()["banned"] == sorted([attacker, forger])

        times = thresholds.TAKE_OVERS + 2
        guard.login(*clones, wrong=False, say="hold", times=times)

        def cloned():
            told = alerts.last(cluster.settings.folder, 100)
            return [one for one in told if one["what"] == "cloned"]

        guard.until(cloned)
        assert (cloned()[0]["device"], set(cloned()[0]["from"])) == ("lamp-1", set(clones))
    server.sync(cluster.settings, [], force=True)

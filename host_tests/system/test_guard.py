"""The guard for real: fail2ban, nftables and Mosquitto in a network namespace, strangers outside.

Needs root (or the right to make a network namespace), and fail2ban, nftables, iproute2.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from limpet_kit.broker import accounts, export, server, settings
from limpet_kit.errors import REFUSED
from limpet_kit.guard import alerts, thresholds
from rig.broker import require
from rig.mqtt_guess import PROGRAM

SERVER = {4: "10.9.0.1", 6: "fd00:9:0:1::1"}
ATTACKER = {4: "10.9.0.2", 6: "fd00:9:0:2::2"}
NEIGHBOUR = "fd00:9:0:2::77"  # of the attacker's /64
OTHER = {4: "10.9.0.3", 6: "fd00:9:0:3::3"}
KNOWN, SITE, FORGER, ALLOWED = "10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.7"
VICTIM, FLEET = "10.9.0.9", "10.9.0.8"
SCANNER, DISTRUST, CLONES = "10.9.0.10", "10.9.0.11", ["10.9.0.12", "10.9.0.13"]
HOPPER = [f"fd00:9:0:4::{n:x}:1" for n in range(thresholds.REFUSALS)]  # all of one /64
BESIDE = "fd00:9:0:5::1"
OUTSIDE = [
    *ATTACKER.values(), NEIGHBOUR, *OTHER.values(), KNOWN, SITE, FORGER, ALLOWED, FLEET,
    SCANNER, DISTRUST, *CLONES, *HOPPER, BESIDE,
]  # fmt: skip
LIMIT_S = 3.0

pytestmark = pytest.mark.mosquitto


def can_make_namespaces():
    """None when it can, otherwise why not."""
    for program in ("fail2ban-server", "nft", "ip"):
        if shutil.which(program) is None:
            return f"{program} is NOT INSTALLED (apt install fail2ban nftables iproute2)"
    name = f"limpet-try-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if done.returncode:
        return f"a network namespace CANNOT BE MADE here: {done.stderr.strip()}"
    try:
        done = subprocess.run(
            ["ip", "netns", "exec", name, "nft", "add", "table", "inet", "x"],
            capture_output=True,
            text=True,
        )
        return done.stderr.strip().splitlines()[0] if done.returncode else None
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


class Net:
    """Two namespaces with a cable between them: the server's, and everybody else's."""

    def __init__(self):
        self.inside, self.outside = (f"limpet-{s}-{os.getpid()}" for s in ("in", "out"))

    def __enter__(self):
        for name in (self.inside, self.outside):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        end = ["peer", "name", "lan1", "netns", self.outside]
        run("ip", "link", "add", "name", "lan0", "netns", self.inside, "type", "veth", *end)
        for address in SERVER.values():
            self._give(self.inside, "lan0", address)
        for address in OUTSIDE:
            self._give(self.outside, "lan1", address)
        for name, link in ((self.inside, "lan0"), (self.outside, "lan1")):
            run("ip", "-n", name, "link", "set", link, "up")
        return self

    def __exit__(self, *_):
        for name in (self.inside, self.outside):
            run("ip", "netns", "del", name)

    def _give(self, name, link, address):
        size = ["/48", "nodad"] if ":" in address else ["/24"]
        run("ip", "-n", name, "address", "add", address + size[0], "dev", link, *size[1:])

    def command(self, *words):
        return ["ip", "netns", "exec", self.inside, *map(str, words)]


def run(*words):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


class Guarded:
    """A guarded broker inside; `guess` and `login` come from outside."""

    def __init__(self, net, folder):
        self.net, self.folder = net, folder
        self.fail2ban = folder / "fail2ban"
        self.password = accounts.draw_password("text")
        self.account = accounts.draw_account()
        self.settings = settings.create(
            folder / "broker", [*SERVER.values()], kind="mosquitto", listen="::"
        )
        shutil.copytree("/etc/fail2ban", self.fail2ban)
        for jail in (self.fail2ban / "jail.d").iterdir():
            jail.unlink()
        own = {"socket": "f.sock", "pidfile": "f.pid", "dbfile": "f.sqlite3", "logtarget": "f.log"}
        lines = [f"{key} = {folder / name}\n" for key, name in own.items()]
        (self.fail2ban / "fail2ban.local").write_text("[Definition]\n" + "".join(lines))
        self.running = []

    def enrol(self):
        account = accounts.Account(
            self.account, accounts.verifier(self.password), accounts.device_acl("lamp-1")
        )
        server.sync(self.settings, [account])

    def start(self, *words):
        process = subprocess.Popen(
            self.net.command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.running.append(process)
        return process

    def start_fail2ban(self):
        self.daemon = self.start("fail2ban-server", "-f", "-c", self.fail2ban, "start")
        self.until(lambda: self.client("ping", check=False).returncode == 0)

    def start_broker(self):
        self.start(sys.executable, "-m", "limpet_kit", "broker", "run", self.settings.folder)
        self.until(lambda: self.login(OTHER[4], wrong=False, times=1)["codes"] == [0])

    def client(self, *words, check=True):
        command = self.net.command("fail2ban-client", "-c", self.fail2ban, *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert not check or done.returncode == 0, done
        return done

    def limpet(self, verb, *words, folder=True):
        where = [self.settings.folder] if folder else []
        done = subprocess.run(
            self.net.command(
                sys.executable, "-m", "limpet_kit", "guard", verb, *where,
                "--fail2ban", self.fail2ban, "--json", *words,
            ),
            capture_output=True,
            text=True,
            timeout=60,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    def login(self, source, *, wrong=True, times=1, watch_s=0, **said):
        """From an address outside: codes of `times` logins, and after how many s it was shut."""
        sources = [source] if isinstance(source, str) else source
        order = {
            "server": [SERVER[6 if ":" in sources[0] else 4], self.settings.port],
            "sources": sources,
            "say": said.get("say", "login"),
            "user": said.get("user", self.account),
            "password": "wrong" if wrong else self.password.reveal().decode(),
            "id": said.get("id", "x"),
            "level": said.get("level", 4),
            "topic": said.get("topic"),
            "times": times,
            "watch_s": watch_s,
        }
        done = subprocess.run(
            ["ip", "netns", "exec", self.net.outside, sys.executable, "-c", PROGRAM],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def until(self, true, within_s=30):
        end = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < end, (self.folder / "f.log").read_text()[-3000:]
            time.sleep(0.05)

    def status(self):
        code, told, said = self.limpet("status")
        assert code == 0, said
        return told

    def stop(self, process):
        process.terminate()
        process.wait(20)
        self.running.remove(process)

    def told(self, address):
        who = str(alerts.network(address))
        listed = alerts.last(self.settings.folder, 1000)
        return [one for one in listed if one.get("address") == who]


@pytest.fixture(scope="module")
def guarded():
    require("mosquitto")
    why = can_make_namespaces()
    if why:
        pytest.skip(f"the guard was NOT TESTED: {why}")
    folder = Path(tempfile.mkdtemp(prefix="limpet-guard"))
    try:
        with Net() as net:
            one = Guarded(net, folder)
            try:
                one.start_fail2ban()
                code, _, said = one.limpet("install")
                assert code == REFUSED and "no device" in said  # the fuse
                one.enrol()
                one.start_broker()  # not guarded yet: install has it change its log while it runs
                heard = folder / "heard"
                code, told, said = one.limpet(
                    "install", "--allow", ALLOWED,
                    "--command", f'echo "$LIMPET_ALERT_WHAT $LIMPET_ALERT_ADDRESS" >> {heard}',
                )  # fmt: skip
                assert code == 0 and told["loaded"], said
                one.heard = heard
                yield one
            finally:
                for process in list(one.running):
                    one.stop(process)
    finally:
        shutil.rmtree(folder)


def test_it_tests_itself(guarded):
    code, _, said = guarded.limpet("test")
    assert code == 0, said
    assert guarded.status()["banned"] == []


@pytest.mark.parametrize("family", [4, 6])
def test_an_attacker_is_shut_out_soon_and_nobody_else(guarded, family, record_property):
    source = ATTACKER[family]
    said = guarded.login(source, times=thresholds.REFUSALS, watch_s=15)
    assert said["codes"] == [5] * thresholds.REFUSALS
    assert said["shut_s"] is not None and said["shut_s"] < LIMIT_S
    record_property("measured", f"guard: IPv{family} shut {said['shut_s']:.2f} s after the tenth")
    # Also with the right password, and from anywhere in its /64.
    assert guarded.login(source, wrong=False)["codes"] == [None]
    if family == 6:
        assert guarded.login(NEIGHBOUR, wrong=False)["codes"] == [None]
    assert guarded.login(OTHER[family], wrong=False)["codes"] == [0]
    who = str(alerts.network(source))
    assert who in guarded.status()["banned"]
    guarded.until(lambda: guarded.told(source) and who in guarded.heard.read_text())
    [one] = guarded.told(source)
    assert one["what"] == "banned" and one["count"] >= thresholds.REFUSALS
    assert one["seconds"] == thresholds.WINDOW_S
    assert f"banned {who}\n" in guarded.heard.read_text()


def test_who_hops_through_a_64_is_counted_as_one(guarded, record_property):
    said = guarded.login(HOPPER, times=thresholds.REFUSALS, watch_s=15)
    assert said["codes"] == [5] * thresholds.REFUSALS
    assert said["shut_s"] is not None and said["shut_s"] < LIMIT_S
    record_property("measured", f"guard: a hopper shut {said['shut_s']:.2f} s after the tenth")
    assert "fd00:9:0:4::/64" in guarded.status()["banned"]
    assert guarded.login(BESIDE, wrong=False)["codes"] == [0]  # the next /64
    code, told, _ = guarded.limpet("unban", HOPPER[3], folder=False)
    assert code == 0 and told["freed"] == [HOPPER[3]]
    guarded.until(lambda: guarded.login(HOPPER[0], wrong=False)["codes"] == [0])


@pytest.mark.parametrize("say", ["hello", "garbage"])
def test_who_never_logs_in_is_shut_out_for_a_day(guarded, say, record_property):
    """Handshakes that fail are counted apart from refused logins."""
    trusting = {"say": say, "times": thresholds.UNTRUSTED_DEVICES * thresholds.UNTRUSTED_TRIES}
    if say == "garbage":
        guarded.login(DISTRUST, **trusting)
    said = guarded.login(SCANNER, say=say, times=thresholds.CONNECTIONS, watch_s=15)
    assert said["shut_s"] is not None
    record_property("measured", f"guard: a scanner shut {said['shut_s']:.2f} s after the limit")
    told = guarded.status()
    assert SCANNER in told["shut"] and not {SCANNER, DISTRUST} & set(told["banned"])
    assert DISTRUST not in told["shut"]
    guarded.until(lambda: [one["what"] for one in guarded.told(SCANNER)][-1:] == ["shut"])
    code, told, _ = guarded.limpet("unban", SCANNER, folder=False)
    assert code == 0 and told["freed"] == [SCANNER]
    assert guarded.login(SCANNER, wrong=False)["codes"] == [0]
    guarded.until(lambda: SCANNER in guarded.status()["known"])
    guarded.client("set", "limpet-good", "unbanip", SCANNER)  # a stranger again
    guarded.until(lambda: SCANNER not in guarded.status()["known"])


def test_a_cloned_device_is_told(guarded):
    """Two that log in with one credential throw each other out; once in a while is no clone."""

    def cloned():
        told = alerts.last(guarded.settings.folder, 1000)
        return [one for one in told if one["what"] == "cloned"]

    guarded.login(CLONES[0], wrong=False, say="hold", times=thresholds.TAKE_OVERS // 2)
    guarded.login(CLONES, wrong=False, say="hold", times=thresholds.TAKE_OVERS, watch_s=0)
    guarded.until(cloned)
    [one] = cloned()
    assert (one["device"], set(one["from"])) == ("lamp-1", set(CLONES))
    assert one["count"] >= thresholds.TAKE_OVERS and "address" not in one
    assert guarded.account not in json.dumps(one)
    assert not set(CLONES) & {*guarded.status()["banned"], *guarded.status()["shut"]}


def test_a_site_with_four_refused_devices_is_not_banned(guarded):
    """And stays at the door: the ninth failure is still none."""
    times = thresholds.DEVICES * thresholds.DEVICE_REFUSALS
    assert guarded.login(SITE, times=times, watch_s=LIMIT_S)["shut_s"] is None
    assert SITE not in guarded.status()["banned"]


def test_an_allowed_address_and_a_known_site_are_spared(guarded):
    assert guarded.login(KNOWN, wrong=False)["codes"] == [0]
    guarded.until(lambda: KNOWN in guarded.status()["known"])
    for source in (ALLOWED, KNOWN):
        said = guarded.login(source, times=2 * thresholds.REFUSALS, watch_s=LIMIT_S)
        assert said["shut_s"] is None
    guarded.until(lambda: guarded.told(KNOWN))
    assert [one["what"] for one in guarded.told(KNOWN)] == ["spared"]
    assert not {KNOWN, ALLOWED} & set(guarded.status()["banned"])


def test_forged_names_ban_nobody_else(guarded):
    """From an allowed address, so that what is counted can only be the one that is named."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S/64")
    line = f"Sending CONNACK to {VICTIM} (0, 5)"
    clone = f"Client {'V' * 23} already connected, closing old connection."
    lines = [f"x\n{now}: {line}\n{now}: ", f"x\r{now}: {line}", f"x\n{now}: {clone}\n", clone]
    for level in (3, 4, 5):
        for forged in (VICTIM, line, *lines):
            said = {"level": level, "times": thresholds.REFUSALS}
            guarded.login(ALLOWED, id=forged, user=forged, **said)
            guarded.login(ALLOWED, id=forged, **said)
            # A device that goes astray: what it publishes stands in the log too.
            guarded.login(ALLOWED, wrong=False, id=forged, topic=forged, **said)
    guarded.login(FORGER, id=VICTIM, times=thresholds.REFUSALS, watch_s=15)  # all above was read
    guarded.until(lambda: FORGER in guarded.status()["banned"])
    told = guarded.status()
    assert VICTIM not in [*told["banned"], *told["spared"], *told["known"], *told["shut"]]
    assert "V" * 23 not in (guarded.folder / "f.log").read_text()


def test_bans_outlive_a_restart_until_they_are_lifted(guarded):
    if FORGER not in guarded.status()["banned"]:
        guarded.login(FORGER, times=thresholds.REFUSALS)
    guarded.until(lambda: FORGER in guarded.status()["banned"])
    before, alerts_before = guarded.status()["banned"], len(guarded.told(FORGER))
    guarded.stop(guarded.daemon)
    guarded.start_fail2ban()
    guarded.until(lambda: guarded.status()["banned"] == before)
    guarded.until(lambda: guarded.login(FORGER, wrong=False)["codes"] == [None])
    assert len(guarded.told(FORGER)) == alerts_before
    code, told, _ = guarded.limpet("unban", FORGER, folder=False)
    assert code == 0 and told["freed"] == [FORGER]
    assert guarded.login(FORGER, wrong=False)["codes"] == [0]


def test_an_emptied_broker_bans_nobody(guarded):
    """The fuse: it refuses its whole fleet, so refusals say nothing about who comes."""
    server_files = guarded.settings.folder
    kept = (server_files / export.ACL).read_bytes()
    (server_files / export.ACL).write_bytes(b"user kit-x-1\ntopic readwrite limpet/#\n")
    try:
        said = guarded.login(FLEET, times=thresholds.REFUSALS, watch_s=LIMIT_S)
        assert said["shut_s"] is None
        guarded.until(lambda: guarded.told(FLEET))
        assert guarded.told(FLEET)[0]["what"] == "spared"
    finally:
        (server_files / export.ACL).write_bytes(kept)

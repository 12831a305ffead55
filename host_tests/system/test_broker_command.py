"""`limpet broker`, as a person or a script uses it."""

import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
from limpet_kit import ca
from limpet_kit.broker import client, server, settings, timekeeper
from limpet_kit.commands import broker as command
from limpet_kit.errors import NO_BROKER, OK, USAGE
from rig.broker import KINDS, free_port, require

# Only this verb: the test does not depend on what the others import.
LIMPET = [
    sys.executable,
    "-c",
    "from limpet_kit import cli; cli.COMMANDS = ('broker',); raise SystemExit(cli.main())",
    "broker",
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def limpet(*arguments, **environment):
    done = subprocess.run(
        [*LIMPET, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def kind_environment(kind):
    require(kind)
    return {"LIMPET_MOSQUITTO": "none"} if kind == "embedded" else {}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def foreground(tmp_path):
    """Start `limpet broker run`; yields a function that returns the process once it is up."""
    processes = []

    def run(folder, **environment):
        process = subprocess.Popen(
            [*LIMPET, "run", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        processes.append((process, folder))
        said = []
        for line in process.stdout:
            if " is up: " in line:
                return process, line
            said.append(line)
        raise AssertionError(f"it ended before it was up: {said}")

    yield run
    for process, folder in processes:
        process.kill()
        process.wait()
        process.stdout.close()
        server.open_broker(settings.load(folder)).kill()


def test_init_run_check_stop(kind, home, foreground):
    chosen = kind_environment(kind)
    port = free_port()
    code, out, err = limpet("init", "--loopback", "--port", port, **chosen)
    assert (code, err) == (OK, "")
    profile = {"mosquitto": "binary", "embedded": "text"}[kind]
    assert f"profile {profile}" in out and f"localhost:{port}" in out
    folder = home / "broker"
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
    made = settings.load(folder)
    assert (made.kind, made.profile, made.port, made.listen) == (kind, profile, port, "127.0.0.1")

    code, out, err = limpet("check", "--json")
    assert code == NO_BROKER and "limpet broker run" in err
    assert json.loads(out)["running"] is False

    process, line = foreground(folder, **chosen)
    assert f"localhost:{port} is up" in line and f"profile {profile}" in line
    with client.KitClient(made) as kit:
        kit.subscribe(timekeeper.TOPIC)
        payload = kit.wait(lambda t, p: True, 10)[1]
        assert abs(int.from_bytes(payload, "big") - time.time()) < 60
    code, out, err = limpet("check", "--json")
    assert code == OK
    said = json.loads(out)
    assert said.pop("days_left") > 800
    assert said == {
        "ok": True,
        "folder": str(folder),
        "server": f"localhost:{port}",
        "kind": kind,
        "profile": profile,
        "running": True,
        "login": True,
        "unsynced": 0,
    }
    code, out, err = limpet("run", **chosen)
    assert code == NO_BROKER and "runs already" in err

    process.send_signal(signal.SIGHUP)  # reads the accounts, goes on
    assert limpet("check")[0] == OK and process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == OK
    assert not server.open_broker(made).running()
    assert limpet("stop")[1] == "it was not running\n"


def test_a_broker_in_the_background_is_stopped(foreground, broker_factory):
    broker = broker_factory("embedded")
    assert limpet("stop", broker.settings.folder)[:2] == (OK, "stopped\n")
    assert not broker.running()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_broker_and_its_end_is_told(foreground, broker_factory, number):
    broker = broker_factory("embedded", start=False)
    process, _ = foreground(broker.settings.folder)
    process.send_signal(number)
    assert process.wait(40) == OK and not broker.running()
    process, _ = foreground(broker.settings.folder)
    broker.kill()
    assert process.wait(40) == NO_BROKER
    assert "The broker ended by itself" in process.stdout.read()


def test_init_refuses_to_overwrite(tmp_path):
    folder = tmp_path / "b"
    assert limpet("init", folder, "--host", "x.local", "--embedded", "--rsa")[0] == OK
    key = (folder / "ca.key").read_bytes()
    assert b"BEGIN PRIVATE KEY" in key and len(key) > 1000  # RSA
    code, out, err = limpet("init", folder, "--host", "x.local", "--embedded")
    assert code == NO_BROKER and "nothing was overwritten" in err and not out
    assert (folder / "ca.key").read_bytes() == key


def test_init_says_what_to_do_about_firewall_and_addresses(tmp_path):
    code, out, _ = limpet(
        "init", tmp_path / "b", "--host", "x.local", "192.0.2.7", "--embedded", "--port", 18883
    )
    assert code == OK
    assert "sudo ufw allow 18883/tcp" in out and "DHCP" in out and "x.local:18883" in out
    made = settings.load(tmp_path / "b")
    assert made.names[:2] == ("x.local", "192.0.2.7") and made.listen == "0.0.0.0"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["init", "b"], USAGE, "--host NAME..., or --loopback"),
        (["init", "b", "--host", "a b"], USAGE, "neither a host name"),
        (["init", "b", "--host", "x", "--port", "70000"], USAGE, "1 to 65535"),
        (["run", "b"], NO_BROKER, "limpet broker init"),
        (["check", "b"], NO_BROKER, "limpet broker init"),
        (["stop", "b"], NO_BROKER, "limpet broker init"),
        ([], USAGE, "ACTION"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, arguments, code, words):
    folder = tmp_path / "b"
    got, out, err = limpet(*[folder if a == "b" else a for a in arguments])
    assert (got, out) == (code, "") and words in err
    assert not folder.exists()


def test_a_taken_port_and_a_missing_or_old_mosquitto(tmp_path, broker_factory):
    broker = broker_factory("embedded", start=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", broker.settings.port))
        other.listen()
        code, _, err = limpet("run", broker.settings.folder)
    assert code == NO_BROKER and f"Port {broker.settings.port} is taken" in err
    old = tmp_path / "mosquitto"
    old.write_text("#!/bin/sh\necho 'mosquitto version 1.5.7'\nexit 3\n")
    old.chmod(0o755)
    code, _, err = limpet("init", tmp_path / "b", "--host", "x", LIMPET_MOSQUITTO=str(old))
    assert code == NO_BROKER and "1.5.7, too old" in err and not (tmp_path / "b").exists()
    text = (broker.settings.folder / "broker.toml").read_text()
    text = text.replace('"embedded"', '"mosquitto"')
    (broker.settings.folder / "broker.toml").write_text(text)
    code, _, err = limpet("run", broker.settings.folder, LIMPET_MOSQUITTO="none")
    assert code == NO_BROKER and "apt install mosquitto" in err
    assert not broker.running()


def answer(monkeypatch, *answers):
    terminal = io.StringIO("".join(line + "\n" for line in answers))
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)


def ask(tmp_path, *arguments):
    from limpet_kit import cli

    parser = cli.argparse.ArgumentParser()
    command.arguments(parser)
    return command.run(parser.parse_args(["init", str(tmp_path / "b"), "--embedded", *arguments]))


def test_on_a_terminal_it_asks_which_address(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "addresses", lambda: ["192.0.2.7", "shed.local"])
    answer(monkeypatch, "*.bad", "2, 1 other.example")
    assert ask(tmp_path) == OK
    made = settings.load(tmp_path / "b")
    assert made.names[:3] == ("shed.local", "192.0.2.7", "other.example")
    out, err = capsys.readouterr()
    assert "1  192.0.2.7" in err and "neither a host name" in err
    assert re.search(r"boards dial shed\.local:8883", out)


def test_loopback_and_nothing_can_be_answered_too(tmp_path, monkeypatch):
    answer(monkeypatch, "0")
    assert ask(tmp_path) == OK
    assert settings.load(tmp_path / "b").listen == "127.0.0.1"
    answer(monkeypatch)  # the end of input, as Ctrl-D
    with pytest.raises(command.KitError, match="nothing was made"):
        ask(tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_yes_takes_what_was_found(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "addresses", lambda: ["192.0.2.7", "shed.local"])
    assert ask(tmp_path, "--yes") == OK
    assert settings.load(tmp_path / "b").names[:2] == ("192.0.2.7", "shed.local")


@pytest.mark.parametrize("name", ["shed", "shed.example.org"])
def test_the_addresses_of_this_machine_can_stand_in_a_certificate(monkeypatch, name):
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    found = command.addresses()
    assert {"shed.local", *([name] if "." in name else [])} <= set(found)
    for one in found:
        assert ca.general_name(one)
        assert not one.startswith(("127.", "localhost"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_is_renewed_and_nobody_has_to_be_told(
    kind, broker_factory, device_factory
):
    """By the same CA and for the same key: devices, also pinned ones, log in as before."""
    broker = broker_factory(kind)
    folder = broker.settings.folder
    device = device_factory(broker)
    device.run("""
        async def main():
            async with client() as c:
                while True:
                    await c.online()
                    await c.publish("tick", b"1", qos=1)
                    say("tick", connects=c.counters.connects)
                    await asyncio.sleep_ms(300)

        asyncio.run(main())
    """)
    device.wait("tick")
    ca.renew(folder, list(broker.settings.names), days=10)
    before = (folder / "server.crt").read_bytes(), (folder / "server.key").read_bytes()
    code, out, err = limpet("renew", folder, "--json")
    said = json.loads(out.splitlines()[-1])
    assert (code, said["served"]) == (OK, True) and said["days_left"] > 800, err
    assert (folder / "server.crt").read_bytes() != before[0]
    assert (folder / "server.key").read_bytes() == before[1]
    assert device.wait("tick")["connects"] == 1
    broker.kill()
    broker.start()
    assert device.wait("tick", connects=2)
    broker.stop()
    code, out, _ = limpet("renew", folder, "--json")
    assert (code, json.loads(out.splitlines()[-1])["served"]) == (OK, None)
    (folder / "ca.key").unlink()
    code, _, err = limpet("renew", folder)
    assert code != OK and "ca.key is missing" in err


def test_an_ending_certificate_is_warned_of(broker_factory):
    broker = broker_factory("embedded", demo=True)
    began = time.monotonic()
    code, out, err = limpet("check", broker.settings.folder)
    assert code == OK and "ends soon" in err and "accepted" in out
    assert time.monotonic() - began < 10


def test_each_help_has_an_example():
    for action in ("", "init", "run", "check", "stop"):
        code, out, _ = limpet(*action.split(), "--help")
        assert code == OK and "example:" in out and "limpet broker " in out

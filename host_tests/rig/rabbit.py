"""A RabbitMQ node with MQTT over TLS, on free loopback ports, in the test's folder."""

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time

import pytest
from limpet_kit import ca
from limpet_kit.broker.server import free_port

__all__ = ["rabbitmq_factory"]

UP_S = 60  # a busy machine; 17 s with both cores taken
PLACES = ("/usr/lib/rabbitmq/bin", "/usr/sbin")


class Rabbit:
    """One node. `port` speaks MQTT over TLS, `anchor` is the CA file of its certificate."""

    def __init__(self, folder, accounts):
        self.port, self.anchor = free_port(), folder / "ca.crt"
        ca.make(folder, ["localhost"], demo=True)
        (folder / "definitions.json").write_text(json.dumps(definitions(accounts)))
        (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp = none\n"
            f"load_definitions = {folder}/definitions.json\n"
            f"mqtt.listeners.tcp = none\n"
            f"mqtt.listeners.ssl.1 = 127.0.0.1:{self.port}\n"
            f"mqtt.allow_anonymous = false\n"
            f"ssl_options.cacertfile = {folder}/ca.crt\n"
            f"ssl_options.certfile = {folder}/server.crt\n"
            f"ssl_options.keyfile = {folder}/server.key\n"
            f"ssl_options.verify = verify_none\n"
            f"log.console = true\nlog.file = false\n"
        )
        self.log = folder / "log"
        names = str(free_port())
        # Erlang's name server: left alone, the node starts one that outlives it.
        self._names = subprocess.Popen(
            ["epmd", "-port", names, "-address", "127.0.0.1"], start_new_session=True
        )
        environment = {
            **os.environ,
            "HOME": str(folder),  # the Erlang cookie
            "RABBITMQ_NODENAME": f"limpet-{secrets.token_hex(4)}@localhost",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_NODE_PORT": str(free_port()),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
            "ERL_EPMD_PORT": names,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        with self.log.open("wb") as output:
            self._node = subprocess.Popen(
                [find()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait(self):
        """Until it knows its users: it listens earlier than that."""
        end = time.monotonic() + UP_S
        while time.monotonic() < end and self._node.poll() is None:
            if "startup complete" in self._said():
                return
            time.sleep(0.1)
        pytest.fail(f"RabbitMQ did not come up:\n{self._said()[-2000:]}")

    def version(self):
        """As it says itself."""
        return re.search(r"RabbitMQ (\d+\.\d+\.\d+)", self._said())[1]

    def kill(self):
        """The node, its helpers, and its name server."""
        for process in (self._node, self._names):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _said(self):
        return self.log.read_text(errors="replace")


def find():
    """RabbitMQ's server script; Debian's own in PATH wants to become another user."""
    path = os.pathsep.join([*PLACES, os.environ.get("PATH", "")])
    return shutil.which("rabbitmq-server", path=path)


def definitions(accounts):
    """Users in RabbitMQ's own form: base64 of salt and SHA-256 over salt and password."""

    def user(name, password):
        salt = secrets.token_bytes(4)
        return {
            "name": name,
            "password_hash": base64.b64encode(
                salt + hashlib.sha256(salt + password).digest()
            ).decode(),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "",
        }

    rights = {"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": "/"}],
        "users": [user(name, password) for name, password in accounts.items()],
        "permissions": [{"user": name, **rights} for name in accounts],
    }


@pytest.fixture
def rabbitmq_factory(tmp_path):
    """`rabbitmq_factory({name: password bytes})` -> a running `Rabbit`; skipped without it."""
    made = []

    def factory(accounts):
        if find() is None:
            words = "RabbitMQ is NOT INSTALLED, so it was not tested (apt install rabbitmq-server)"
            if os.environ.get("LIMPET_REQUIRE_ALL") == "1":
                pytest.fail(words)
            pytest.skip(words)
        folder = tmp_path / f"rabbit-{len(made)}"
        folder.mkdir()
        made.append(Rabbit(folder, accounts))
        made[-1].wait()
        return made[-1]

    yield factory
    for rabbit in made:
        rabbit.kill()

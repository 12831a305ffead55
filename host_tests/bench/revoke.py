"""How long after a revoke is a session closed? Password file against certificate revocation list.

`python3 host_tests/bench/revoke.py` starts Mosquitto on loopback and measures on this machine. In
all three ways the broker gets a file and a SIGHUP; the third is what `limpet revoke` does for
devices without a password.
"""

from __future__ import annotations

import os
import signal
import ssl
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from limpet_kit import ca, credentials
from limpet_kit.broker import accounts, client, server, settings
from limpet_kit.broker.accounts import Account
from paho.mqtt.enums import CallbackAPIVersion

WAIT_S = 5.0


@dataclass
class Result:
    """`closed_ms` from the revoke to the end of the session, None when it was still up at the end
    of the wait; whether a new login was refused then."""

    closed_ms: float | None
    refused: bool


class Session:
    """One device that is logged in, as paho's client."""

    def __init__(self, chosen, credential, folder):
        self.ended = threading.Event()
        self._up = threading.Event()
        fields = dict(credential.fields)
        context = ssl.create_default_context(cafile=chosen.folder / "ca.crt")
        name = credential.account
        self._mqtt = paho.Client(CallbackAPIVersion.VERSION2, name, reconnect_on_failure=False)
        if 5 in fields:
            pem = folder / f"{name}.pem"
            pem.write_bytes(_pem("EC PRIVATE KEY", fields[5]) + _pem("CERTIFICATE", fields[6]))
            context.load_cert_chain(pem)
        else:
            self._mqtt.username_pw_set(name, "")
            self._mqtt._password = fields[4]  # paho encodes a str as UTF-8
        self._mqtt.tls_set_context(context)
        self._mqtt.on_connect = lambda *given: given[3].is_failure or self._up.set()
        self._mqtt.on_disconnect = lambda *_: self.ended.set()
        try:
            self._mqtt.connect("localhost", chosen.port, keepalive=2)
            self._mqtt.loop_start()
            self._up.wait(3)
        except OSError:
            pass
        self.accepted = self._up.is_set()

    def close(self):
        """Leave."""
        self._mqtt.disconnect()
        self._mqtt.loop_stop()


def measure(folder: Path, wait_s: float = WAIT_S) -> dict[str, Result]:
    """The three ways, each on a broker of its own below `folder`."""
    return {
        "password_file": _one(folder / "passwords", "binary", _sync, wait_s),
        "CRL": _one(folder / "crl", "x509", _list_only, wait_s),
        "CRL and a login in its place": _one(folder / "both", "x509", _sync, wait_s),
    }


def table(found: dict[str, Result]) -> list[str]:
    """Lines for a person."""
    lines = []
    for way, result in found.items():
        closed = "is still open" if result.closed_ms is None else f"{result.closed_ms:.0f} ms"
        again = "refused" if result.refused else "ACCEPTED"
        lines.append(f"revoke by {way}: live session {closed}, new login {again}")
    return lines


def _one(folder, profile, way, wait_s):
    folder.mkdir(parents=True)
    port = server.free_port()
    chosen = settings.create(folder / "b", ["localhost"], port, "mosquitto", profile=profile)
    broker = server.open_broker(chosen)
    broker.start()
    try:
        credential = credentials.draw(chosen)
        verifier, acl = credential.verifier, accounts.device_acl("lamp-1")
        server.sync(chosen, [Account(credential.account, verifier, acl)])
        session = Session(chosen, credential, folder)
        assert session.accepted, "the device did not get in"
        began = time.monotonic()
        way(chosen, credential)
        closed = session.ended.wait(wait_s)
        took = (time.monotonic() - began) * 1000
        again = Session(chosen, credential, folder)
        again.close()
        session.close()
        return Result(took if closed else None, not again.accepted)
    finally:
        broker.kill()


def _sync(chosen, credential):
    server.sync(chosen, [], at_once=True)


def _list_only(chosen, credential):
    serial = int(credential.verifier.partition(":")[2], 16)
    ca.revoke(chosen.folder, [serial], [])
    server.open_broker(chosen).signal(signal.SIGHUP)
    client.login(chosen, chosen.kit_accounts[-1], chosen.kit_password())


def _pem(kind, der):
    return (ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", kind)).encode()


def main():
    """Measure in a folder of its own, and print."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for line in table(measure(Path(folder))):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The impostor: a server that looks like the broker to whoever does not check the signature."""

from __future__ import annotations

from collections.abc import Sequence

from .certificates import issue
from .server import Server


def impostor(
    names: Sequence[str], address: tuple[str, int] = ("127.0.0.1", 0), rsa: bool = False
) -> Server:
    """A server with a certificate for the same `names`, from a CA of its own, that lets all in.

    It is used as a context manager; what a device said to it is in `plain`, who believed it in
    `handshakes`. OSError when `address` is taken: stop the broker first.
    """
    key = "rsa2048" if rsa else "p256"
    forged = issue(ca=True, common_name="Limpet CA", key=key, fresh_key=True)
    own = issue(names, forged, common_name="Limpet broker", key=key, fresh_key=True)
    return Server(own, address)

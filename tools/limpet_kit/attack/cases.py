"""The cases of `limpet attack`: what stands in the broker's place, and what a device must do.

Most are a `Server` of this package. The CA's key lies in the broker's folder, so the right CA
makes wrong certificates, which only a device that checks everything refuses. Others are a broken
link to a right server, a right server that lies, or time servers that do.
"""

from __future__ import annotations

import secrets
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from .. import protocol
from ..broker.settings import Settings
from ..errors import NO_BROKER, KitError
from ..secret import Secret
from .behaviours import ACCEPTED, Peer, message, serve
from .certificates import DAY, Identity, issue
from .proxy import Proxy
from .server import Server

REFUSED = b"\x20\x02\x00\x05"  # CONNACK: not authorised
YEARS_5_S = 5 * 365 * 86_400.0
_YEAR_2001, _YEAR_2100 = 978_307_200, 4_102_444_800  # s since 1970
TRUST = "trust"  # nothing may be said to this server
BROKER = "broker"  # a right certificate, a wrong broker: the device must come back
PATIENCE = "patience"  # the account is refused: the device must not hammer
LINK = "link"  # the right server behind a broken link: the device must come back
TRICK = "trick"  # a right certificate, a broker that lies: the device must stay what it was

Address = tuple[str, int]


@dataclass(frozen=True)
class Case:
    """One attack: `name`, what it is in words, the kind of answer asked for, its server.

    Of kind LINK, that is the right server behind a proxy: it passes `slice` bytes at once, and
    `fault` is done to a connection that stands. `wrong` is by how many seconds time servers lie.
    """

    name: str
    words: str
    kind: str
    server: Callable[[Address], Server]
    fault: Callable[[Proxy], None] | None = None
    slice: int | None = None
    wrong: float | None = None


@dataclass(frozen=True)
class World:
    """What the attacks are made from: the broker's names, its CA, its own certificate."""

    names: tuple[str, ...]
    ca: Identity
    server: Identity

    @classmethod
    def of(cls, chosen: Settings) -> World:
        """Of a broker's folder; `KitError` when a key is missing."""
        return cls(
            chosen.names, _identity(chosen.folder, "ca"), _identity(chosen.folder, "server")
        )

    def honest(self, address: Address) -> Server:
        """The broker itself, as far as one device goes: the positive control."""
        return Server(self.server, address, behaviours=[serve])


def cases(world: World, device: str = "device", vault: bytes = bytes(16)) -> list[Case]:
    """All of them, made for one broker, and for the device of this name and vault id."""
    names, ca = list(world.names), world.ca
    now = datetime.now(timezone.utc).replace(microsecond=0)
    key = "rsa2048" if "rsa" in type(ca.key).__name__.lower() else "p256"

    def trust(
        name: str,
        words: str,
        identity: Callable[[], Identity],
        context: Callable[[ssl.SSLContext], None] | None = None,
    ) -> Case:
        return Case(name, words, TRUST, lambda at: Server(identity(), at, context=context))

    def other_ca() -> Identity:
        return issue(ca=True, common_name="Limpet CA", key=key, fresh_key=True)

    def broker(name: str, words: str, answer: bytes, kind: str = BROKER) -> Case:
        return Case(name, words, kind, lambda at: Server(world.server, at, answer=answer))

    def trick(name: str, words: str, *said: bytes) -> Case:
        return Case(name, words, TRICK, lambda at: _liar(world, at, b"".join(said)))

    def link(name: str, words: str, fault: Callable[[Proxy], None] | None = None) -> Case:
        return Case(name, words, LINK, world.honest, fault, slice=None if fault else 1)

    def expired(at: Address) -> Server:
        return Server(issue(names, ca, begin=now - 9 * DAY, end=now - DAY), at)

    kit_set = f"limpet/{device}/kit/set"
    wipe = protocol.control_box(
        Secret(secrets.token_bytes(32)),
        vault,
        protocol.WIPE,
        1,
        protocol.encode([(protocol.NAME, device.encode())]),
    )
    return [
        trust("other-ca", "the right names, by another CA", lambda: issue(names, other_ca())),
        trust("self-signed", "the right names, signed by itself", lambda: issue(names)),
        trust("same-name-ca", "another CA that calls itself ours", lambda: _namesake(world)),
        trust("other-name", "our CA, another server", lambda: issue(["other.example"], ca)),
        trust("no-name", "our CA, the name in the common name only", lambda: _unnamed(world)),
        Case("expired", "our CA, ended a day ago", TRUST, expired),
        trust(
            "not-yet",
            "our CA, valid from next year on",
            lambda: issue(names, ca, begin=now + 365 * DAY, end=now + 400 * DAY),
        ),
        trust("for-clients", "our CA, for clients", lambda: issue(names, ca, usage=["client"])),
        trust(
            "below-server",
            "signed with the server's own key",
            lambda: issue(names, world.server),
        ),
        trust("weak-key", "our CA, RSA of 1024 bits", lambda: issue(names, ca, key="rsa1024")),
        trust("tls-1.1", "the right certificate, TLS 1.1 only", lambda: world.server, _old_tls),
        Case("no-tls", "no TLS at all", TRUST, lambda at: Server(None, at)),
        broker("garbage", "rubbish after CONNACK", ACCEPTED + b"\xff" * 64),
        broker(
            "endless", "a message of 256 MiB announced", ACCEPTED + b"\x30\xff\xff\xff\x7f\0\1a"
        ),
        broker("no-connack", "another packet in place of CONNACK", b"\x90\x03\x00\x01\x00"),
        broker("refused", "CONNACK 5: not authorised", REFUSED, PATIENCE),
        trick(
            "forged-set",
            "a wipe under another key, and rubbish, where the kit sends its changes",
            message(kit_set, wipe),
            message(kit_set, wipe, retained=True),
            message(kit_set, secrets.token_bytes(200)),
        ),
        trick(
            "lying-time",
            "the broker says it is 2100, then 2001",
            *(
                message("limpet/time", int(at).to_bytes(8, "big"), retained)
                for at in (_YEAR_2100, _YEAR_2001)
                for retained in (True, False)
            ),
        ),
        link("reset", "the connection ends by RST", lambda proxy: proxy.cut(reset=True)),
        link("closed", "the connection ends by FIN", lambda proxy: proxy.cut(reset=False)),
        link("drip", "the right server's bytes arrive one by one"),
        link("half-open", "nothing passes any more, and nobody says so", Proxy.freeze),
        Case(
            "ntp-back",
            "an ended certificate, and time servers that say it has not",
            TRUST,
            expired,
            wrong=-4 * DAY.total_seconds(),
        ),
        Case(
            "ntp-ahead",
            "time servers that are five years ahead",
            TRICK,
            world.honest,
            wrong=YEARS_5_S,
        ),
    ]


def _liar(world: World, address: Address, said: bytes) -> Server:
    """The right server, which says this to whoever has subscribed."""

    def tell(peer: Peer) -> None:
        peer.send(said)

    return Server(world.server, address, behaviours=[lambda peer: serve(peer, subscribed=tell)])


def _namesake(world: World) -> Identity:
    """A CA with our CA's name and a key of its own, and a server below it."""
    names = world.ca.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    title = str(names[0].value) if names else "Limpet CA"
    return issue(list(world.names), issue(ca=True, common_name=title, fresh_key=True))


def _unnamed(world: World) -> Identity:
    return issue([], world.ca, common_name=world.names[0])


def _old_tls(context: ssl.SSLContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nobody should use it is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1


def _identity(folder: Path, name: str) -> Identity:
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
    except (OSError, ValueError, TypeError):
        raise KitError(
            f"The key or certificate {name} in {folder} cannot be read; the attacks are made "
            "from them.",
            NO_BROKER,
        ) from None
    return Identity(certificate, key)

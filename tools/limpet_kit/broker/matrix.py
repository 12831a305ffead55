"""Which credentials a broker really takes: it is asked, with every kind of byte.

A set of accounts is drawn (`draw`), put into a throw-away broker of this machine (`of_kind`) or,
by its operator, into any other one, and then logged in to (`ask`): with the right password, and
with one that differs where a broker may stop to look. What brokers are known to get wrong:
passwords that end at a NUL (Mosquitto), or after 72 bytes (bcrypt), or that must be UTF-8.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import secrets
import socket
import ssl
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..console import Advance
from ..errors import FAILED, KitError
from ..interrupt import like_ctrl_c
from ..secret import Secret
from . import accounts, client, connect, mosquitto, rabbitmq, server, settings
from .accounts import Account
from .files import write_private

WHOLE, REFUSED, CUT = "whole", "refused", "NOT WHOLE"
ACCEPTED, CLOSED, SILENT = "accepted", "closed", "no answer"
ANSWER_S = 5.0
_AT_A_TIME = 4  # logins; a cluster agrees on each of them

_TEXT = bytes(range(0x20, 0x7F))
_CONTROL = bytes([*range(1, 0x20), 0x7F])
_HIGH = bytes(range(0x80, 0x100))
_BYTES = {"printable": _TEXT, "control": _CONTROL, "high": _HIGH}
_LENGTHS = (1, 32, 72, 73, 1024, 65535)

# The rows of the table, in order: case and what it says in words.
CASES = {
    "printable": "password of printable ASCII",
    "control": "bytes 0x01 to 0x1F, 0x7F",
    "high": "bytes 0x80 to 0xFF (not UTF-8)",
    "utf8": "UTF-8 beyond ASCII",
    "nul": "a NUL inside",
    "behind": "compared behind a NUL",
    **{f"length {n}": f"{n:,} byte{'s' if n > 1 else ''}" for n in _LENGTHS},
    "empty": "no or an empty password",
    "wrong": "a wrong password",
    "name": "user name that is not UTF-8",
    "name control": "user name with control characters",
    "name nul": "user name with a NUL",
}
_BINARY = ("printable", "control", "high", "length 32")
_PLAIN = ("printable", "length 32")


@dataclass(frozen=True)
class Login:
    """One account of the set: the case that it is for, its name, its password."""

    case: str
    name: str
    password: Secret


@dataclass(frozen=True)
class Server:
    """Where to log in: a host, a port, and the TLS context (None: without TLS)."""

    host: str
    port: int
    context: ssl.SSLContext | None


def draw() -> list[Login]:
    """The accounts of a matrix: about 270, each for one case."""

    def login(case: str, password: bytes) -> Login:
        return Login(case, accounts.draw_account(), Secret(password))

    made = [
        login(case, secrets.token_hex(8).encode() + bytes((byte,)))
        for case, values in _BYTES.items()
        for byte in values
    ]
    made.append(login("utf8", "größer als \U0001f41a".encode()))
    made.append(login("nul", b"before\0behind"))
    made.append(login("behind", b"before"))
    for length in _LENGTHS:
        made.append(login(f"length {length}", secrets.token_hex(length)[:length].encode()))
    made.append(login("empty", b"not empty"))
    made.append(login("wrong", b"the right one"))
    return made


def ask(server: Server, logins: list[Login], advance: Advance) -> dict[str, str]:
    """Case to what this broker does, for every case of `CASES`.

    Raises `KitError` when it cannot be reached, or knows none of the accounts.
    """
    answers: dict[str, set[str]] = {case: set() for case in CASES}
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        said = pool.map(lambda login: _compare(server, login), logins)
        for done, (login, answer) in enumerate(zip(logins, said, strict=True), 1):
            answers[login.case].add(answer)
            advance(done, len(logins))
    if answers["printable"] == {REFUSED}:
        raise KitError("The broker lets none of the accounts in: does it have them?", FAILED)
    known = next(login for login in logins if login.case == "wrong").name
    for case, name in (
        ("name", "\udcff\udcfe-limpet"),
        ("name control", "a\x01\nb"),
        ("name nul", "a\0b"),
    ):
        answers[case].add(_trial(server, name, b"x"))
    empty = {_trial(server, known, b""), _trial(server, known, None)}
    answers["empty"] = {", ".join(sorted(empty))}
    answers["wrong"] = {_trial(server, known, b"the wrong one")}
    return {case: " or ".join(sorted(said)) for case, said in answers.items()}


def profile(answers: dict[str, str]) -> str | None:
    """The best profile that a broker with these answers can take, None when there is none."""
    if any(ACCEPTED in answers[case] for case in ("wrong", "empty")):
        return None
    for name, cases in (("binary", _BINARY), ("text", _PLAIN)):
        if all(answers[case] == WHOLE for case in cases):
            return name
    return None


def of_kind(kind: str, advance: Advance) -> dict[str, str]:
    """The answers of a broker of this kind, made for this on loopback and removed again."""
    logins = draw()
    with like_ctrl_c(), tempfile.TemporaryDirectory(prefix="limpet-matrix-") as folder:
        made = settings.create(
            Path(folder) / "broker", ["127.0.0.1"], server.free_port(count=4), kind, demo=True
        )
        broker = server.open_broker(made)
        broker.start()
        try:
            server.sync(made, exported(logins, made.form))
            return ask(Server(made.address, made.port, client.context(made)), logins, advance)
        finally:
            broker.kill()


def exported(logins: Iterable[Login], form: str = accounts.PBKDF2) -> list[Account]:
    """These logins as accounts without rights; a NUL counts, as no export of devices allows."""
    return [
        Account(login.name, accounts.verifier_of(login.password.reveal(), form), "")
        for login in logins
    ]


def installed() -> dict[str, str]:
    """The kinds that can be asked on this machine, and their names with version."""
    found = {"embedded": f"embedded (amqtt {importlib.metadata.version('amqtt')})"}
    if program := mosquitto.find():
        found["mosquitto"] = f"Mosquitto {'.'.join(map(str, mosquitto.version(program)))}"
    if program := rabbitmq.find():
        found["rabbitmq"] = f"RabbitMQ {'.'.join(map(str, rabbitmq.version(program)))}"
    return {kind: found[kind] for kind in ("mosquitto", "embedded", "rabbitmq") if kind in found}


def save(logins: list[Login], file: Path) -> None:
    """The accounts as CSV (case, name, password in hex), mode 0600, for a broker's operator."""
    rows = [f"{login.case},{login.name},{login.password.reveal().hex()}" for login in logins]
    write_private(file.absolute(), ("case,name,password_hex\n" + "\n".join(rows) + "\n").encode())


def load(file: Path) -> list[Login]:
    """What `save` wrote; `KitError` when it is something else."""
    try:
        with file.open(newline="") as text:
            logins = [
                Login(row["case"], row["name"], Secret(bytes.fromhex(row["password_hex"])))
                for row in csv.DictReader(text)
            ]
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        logins = []
    if {login.case for login in logins} != {login.case for login in draw()}:
        raise KitError(f"{file} holds no accounts of limpet broker matrix --draw.", FAILED)
    return logins


def table(columns: dict[str, dict[str, str]]) -> str:
    """Markdown: one row a case, one column a broker, the profile last."""
    lines = ["| credential | " + " | ".join(columns) + " |", "| --- " * (1 + len(columns)) + "|"]
    for case, words in CASES.items():
        lines.append(f"| {words} | " + " | ".join(a[case] for a in columns.values()) + " |")
    best = [profile(answers) or "none" for answers in columns.values()]
    return "\n".join([*lines, "| **profile** | " + " | ".join(best) + " |"]) + "\n"


def _compare(server: Server, login: Login) -> str:
    """The right password, then one that differs in its last byte, or behind the NUL."""
    password = login.password.reveal()
    right = _trial(server, login.name, password)
    if right != ACCEPTED:
        return REFUSED if right.startswith(REFUSED) else right
    if login.case == "behind":
        altered = password + b"\0anything"
    else:
        altered = password[:-1] + bytes((password[-1] ^ 3,))
    return CUT if _trial(server, login.name, altered) == ACCEPTED else WHOLE


def _trial(server: Server, name: str, password: bytes | None) -> str:
    """One login: accepted, refused with the code, closed without an answer, or no answer."""
    secret = None if password is None else Secret(password)
    client_id = f"limpet-matrix-{secrets.token_hex(4)}"
    hello = connect.encode(connect.Connect(name, secret, client_id))
    with contextlib.ExitStack() as stack:
        try:
            link = stack.enter_context(
                socket.create_connection((server.host, server.port), ANSWER_S)
            )
            if server.context:
                link = stack.enter_context(
                    server.context.wrap_socket(link, server_hostname=server.host)
                )
        except OSError as e:
            where = f"{server.host} port {server.port}"
            raise KitError(f"{where} cannot be logged in to: {e}.", FAILED) from None
        try:
            link.sendall(hello)
            answer = b""
            while len(answer) < 4 and (part := link.recv(4 - len(answer))):
                answer += part
        except TimeoutError:
            return SILENT
        except OSError:
            return CLOSED
    if answer[:2] != b"\x20\x02" or len(answer) < 4:
        return CLOSED
    return ACCEPTED if answer[3] == connect.ACCEPTED else f"{REFUSED} {answer[3]}"

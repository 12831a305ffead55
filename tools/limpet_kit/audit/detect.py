"""Secrets that show what they are: keys and certificates, passwords and tokens by pattern.

Keys are parsed to be sure: firmware is full of PEM markers without a key. Each detector looks for
a short literal first, because that is what takes no time in 16 MiB.
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

PRIVATE_KEY = "private key"
LOCKED_KEY = "private key, encrypted"
CERTIFICATE = "certificate"
PASSWORD = "password"
TOKEN = "token"

_TRIES = 5_000  # candidates of a kind that are looked at closely; more is a hostile image
_LONGEST = 8192  # bytes of a key in PEM
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,40})-----(.*?)(?:-----END|\Z)", re.S)
_NOT_BODY = re.compile(rb"\\[rn]|[^A-Za-z0-9+/=]")
_DER = re.compile(
    rb"\x30(?:[\x20-\x7f]\x02\x01[\x00\x01]|\x81.\x02\x01[\x00\x01]"
    rb"|\x82..(?:\x02\x01[\x00\x01]|\x30[\x0a-\x82]))",
    re.S,
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_HEX_DER = re.compile(rb"(?:30[2-7]|308[12])[0-9A-Fa-f]{90,}")

WORDS = (
    *("pass", "secret", "token", "api_key", "apikey", "psk", "pwd", "auth_key", "authkey"),
    *("private_key", "access_key", "wifi_key", "wpa_key"),
)
_NAMED = re.compile(
    rb"([a-z0-9_]*(?:" + "|".join(WORDS).encode() + rb")[a-z0-9_]{0,16})\\?[\"']?\]?"
    rb"(?:\s*:\s*(?:str|bytes))?\s*[=:]\s*(?:const\()?[rb]{0,2}\\?(\"\"\"|[\"'])"
    rb"((?:(?!\2)[^\r\n]){4,256}?)\\?\2",
    re.I,
)
_PLAIN = re.compile(
    rb"^[ \t]*(?:export )?([a-z0-9_.-]*(?:" + "|".join(WORDS).encode() + rb")[a-z0-9_.-]*)"
    rb"[ \t]*[=:][ \t]*([^\s\"'#(){}\[\],;]{4,256})[ \t]*\r?$",
    re.I | re.M,
)
_PLACEHOLDER = re.compile(
    rb"(?i)%[sd]|\{.*\}|<.*>|[*.x]+|your[-_ ].*|none|null|true|false|str|bytes|[$].*|self\..*"
)
_CALL = re.compile(
    rb"\.connect\(\s*b?([\"'])([^\"'\r\n]{1,32})\1\s*,\s*b?([\"'])([^\"'\r\n]{8,64})\3"
)
_LOGIN = re.compile(  # umqtt: id, server, port, user, password
    rb"MQTTClient\((?:[^,()]{1,80},){3}\s*b?[\"'][^\"'\r\n]{1,80}[\"']\s*,"
    rb"\s*b?([\"'])([^\"'\r\n]{4,256})\1"
)
_URL = re.compile(rb"([a-z][a-z0-9+]{2,9})://([^\s:/@\"'<>{}%]{1,64}):([^\s:/@\"'<>{}%]{3,128})@")
_BASIC = re.compile(rb"Basic ([A-Za-z0-9+/]{8,}={0,2})")
_JWT = rb"eyJ[A-Za-z0-9_-]{8,600}\.eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{16,700}"
_TOKENS = (  # (literal to look for, whole pattern, whose)
    (b"ghp_", rb"ghp_[A-Za-z0-9]{36}", "GitHub"),
    (b"github_pat_", rb"github_pat_[A-Za-z0-9_]{50,}", "GitHub"),
    (b"glpat-", rb"glpat-[A-Za-z0-9_-]{20,}", "GitLab"),
    (b"AKIA", rb"AKIA[A-Z2-7]{16}(?![A-Za-z0-9])", "AWS"),
    (b"xox", rb"xox[abprs]-[A-Za-z0-9-]{20,}", "Slack"),
    (b"AIza", rb"AIza[A-Za-z0-9_-]{35}", "Google"),
    (b"eyJ", _JWT, "JSON Web Token"),
    (b"sk_live_", rb"sk_live_[A-Za-z0-9]{20,}", "Stripe"),
    (b"aio_", rb"aio_[A-Za-z0-9]{28}", "Adafruit IO"),
    (b":AA", rb"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}", "Telegram"),
    (b"hf_", rb"hf_[A-Za-z]{34}(?![A-Za-z0-9])", "Hugging Face"),
)


@dataclass(frozen=True)
class Found:
    """A secret at a place of the data: its kind, words that do not show it, and its form."""

    kind: str
    words: str
    at: int
    length: int
    form: str = "clear"


def scan(data: bytes) -> list[Found]:
    """All that shows what it is, in order of place; what lies inside a key or token once."""
    found = [*_pem(data), *_der(data), *_encoded(data), *_tokens(data), *_text(data)]
    found.sort(key=lambda one: (one.at, -one.length))
    kept: list[Found] = []
    for one in found:
        if not kept or one.at >= kept[-1].at + kept[-1].length:
            kept.append(one)
    return kept


def plain_assignments(data: bytes) -> Iterator[Found]:
    """`password=value` without quotes: only for files of settings, elsewhere it is noise."""
    for match in _PLAIN.finditer(data):
        if not _PLACEHOLDER.fullmatch(match.group(2)):
            yield Found(PASSWORD, _name(match.group(1)), match.start(2), len(match.group(2)))


def is_secret_name(name: str) -> bool:
    """Whether people give this name to a secret."""
    small = name.lower()
    return any(word in small for word in WORDS)


def parse(der: bytes) -> tuple[str, str] | None:
    """(kind, words) of a key or certificate in DER, None when it is none of them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about a key is not our matter
            key = serialization.load_der_private_key(der, None)
        kind = type(key).__name__.strip("_").replace("PrivateKey", "")
        size = getattr(key, "key_size", None)
        return PRIVATE_KEY, f"{kind}, {size} bits" if size else kind
    except TypeError:
        return LOCKED_KEY, "opens with a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            return CERTIFICATE, certificate.subject.rfc4514_string()[:120]
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None


def _pem(data: bytes) -> Iterator[Found]:
    for at in islice(_all(data, b"-----BEGIN "), _TRIES):
        match = _PEM.match(data, at, at + _LONGEST)
        if not match:
            continue
        label, body = match.group(1), match.group(2)
        der = _decode(
            _NOT_BODY.sub(b"", body[: body.find(b"-----") if b"-----" in body else None])
        )
        if der[:1] != b"\x30":
            continue
        whole = parse(_element(der))
        if whole:
            yield Found(*whole, at, match.end() - at, "PEM")
        elif b"PRIVATE KEY" in label and (part := _part(body)):
            words = "the first bytes of a key, the rest is overwritten"
            yield Found(PRIVATE_KEY, words, at, match.end(1) + 5 + part - at, "PEM")


def _part(body: bytes) -> int:
    """Bytes of a cut PEM body that are still base64, 0 when there are too few to be a key's."""
    match = re.match(rb"(?:[A-Za-z0-9+/]{16,64}=*(?:\\r)?(?:\\n)?[\s\"'\\]*)+", body.lstrip())
    return len(match.group()) if match and len(match.group()) >= 64 else 0


def _der(data: bytes) -> Iterator[Found]:
    skip = tries = 0
    for match in _DER.finditer(data):
        at = match.start()
        if at < skip or tries >= _TRIES:
            continue
        der = _element(data[at : at + _LONGEST])
        if 40 <= len(der) <= 4096:
            tries += 1
            whole = parse(der)
            if whole:
                skip = at + len(der)
                yield Found(*whole, at, len(der), "DER")


def _element(data: bytes) -> bytes:
    """The DER element at the start of the data, empty when it is cut."""
    if len(data) < 4:
        return b""
    first = data[1]
    if first < 0x80:
        size = 2 + first
    elif first in (0x81, 0x82):
        count = first & 0x7F
        size = 2 + count + int.from_bytes(data[2 : 2 + count], "big")
    else:
        return b""
    return data[:size] if size <= len(data) else b""


def _encoded(data: bytes) -> Iterator[Found]:
    """Keys in base64 or hex without a frame, and settings that somebody "hid" in base64."""
    for match in _BASE64.finditer(data):
        text = match.group()
        at = match.start()
        inner = _decode(text[:_LONGEST].translate(_STANDARD))
        if inner[:1] == b"\x30" and len(inner) >= 40:
            whole = parse(_element(inner))
            if whole:
                yield Found(*whole, at, len(text), "base64")
        elif inner.isascii() and b"\0" not in inner:
            for one in _text(inner):
                yield Found(one.kind, one.words, at, len(text), "base64")
    for match in _HEX_DER.finditer(data):
        text = match.group()[:_LONGEST]
        whole = parse(_element(bytes.fromhex(text[: len(text) // 2 * 2].decode())))
        if whole:
            yield Found(*whole, match.start(), len(match.group()), "hex")


def _tokens(data: bytes) -> Iterator[Found]:
    for literal, pattern, owner in _TOKENS:
        whole = re.compile(pattern)
        before = 10 if literal == b":AA" else 0  # the number of a Telegram bot comes first
        for at in islice(_all(data, literal), _TRIES):
            for begin in range(max(0, at - before), at + 1):
                match = whole.match(data, begin)
                if match:
                    yield Found(TOKEN, owner, match.start(), len(match.group()))
                    break


def _text(data: bytes) -> Iterator[Found]:
    """Passwords in source text, JSON, URLs and calls."""
    lower = data.lower()
    ends = 0
    for at in sorted(at for word in WORDS for at in _all(lower, word.encode())):
        if at < ends:
            continue
        begin = at
        while begin > max(0, at - 32) and (
            data[begin - 1 : begin].isalnum() or data[begin - 1] == 95
        ):
            begin -= 1
        match = _NAMED.match(data, begin, at + 360)
        if match and not _PLACEHOLDER.fullmatch(match.group(3)):
            ends = match.end()
            yield Found(PASSWORD, _name(match.group(1)), match.start(3), len(match.group(3)))
    for literal, pattern, group, words in (
        (b".connect(", _CALL, 4, "key of a network"),
        (b"MQTTClient(", _LOGIN, 2, "login of an MQTT client"),
    ):
        for at in _all(data, literal):
            match = pattern.match(data, at, at + 512)
            if match and not _PLACEHOLDER.fullmatch(match.group(group)):
                yield Found(PASSWORD, words, match.start(group), len(match.group(group)))
    for at in _all(data, b"://"):
        match = _URL.search(data, max(0, at - 10), at + 260)
        if match and match.start() < at:
            words = f"in a {match.group(1).decode()} address"
            yield Found(PASSWORD, words, match.start(3), len(match.group(3)))
    for at in _all(data, b"Basic "):
        match = _BASIC.match(data, at, at + 512)
        if match and b":" in _decode(match.group(1)) and _decode(match.group(1)).isascii():
            yield Found(PASSWORD, "HTTP login", match.start(1), len(match.group(1)))


def _name(name: bytes) -> str:
    return name.decode("ascii", "replace")[:48]


def _decode(text: bytes) -> bytes:
    """Base64, as far as it goes."""
    text = text.rstrip(b"=")
    if len(text) % 4 == 1:
        text = text[:-1]
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return b""


def _all(data: bytes, literal: bytes) -> Iterator[int]:
    at = data.find(literal)
    while at >= 0:
        yield at
        at = data.find(literal, at + len(literal))

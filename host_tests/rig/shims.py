"""What CPython lacks of MicroPython, so that the device library's unit tests run there as well."""

import asyncio
import sys
import time
import types

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_PERIOD = 1 << 30  # ticks wrap there on boards


def _ticks_diff(a: int, b: int) -> int:
    return (a - b + _PERIOD // 2) % _PERIOD - _PERIOD // 2


def _ticks_add(a: int, ms: int) -> int:
    if not -_PERIOD // 2 < ms < _PERIOD // 2:
        raise OverflowError("ticks_add")
    return (a + ms) % _PERIOD


class SSLContext:
    """Takes the settings that trust makes. It cannot shake hands: that is for MicroPython."""

    def __init__(self, protocol: int) -> None:
        self.verify_mode = 2
        self.psk_identity = self.psk_key = None

    def get_ciphers(self) -> list:
        return ["TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256", "TLS-PSK-WITH-AES-128-GCM-SHA256"]

    def set_ciphers(self, suites: list) -> None:
        pass

    def load_verify_locations(self, der: bytes) -> None:
        if der[:1] != b"0":
            raise ValueError("invalid cert")

    def load_cert_chain(self, certificate: bytes, key: bytes) -> None:
        pass


def _tls() -> types.ModuleType:
    tls = types.ModuleType("tls")
    tls.PROTOCOL_TLS_CLIENT, tls.CERT_REQUIRED = 0, 2  # type: ignore[attr-defined]
    tls.SSLContext = SSLContext  # type: ignore[attr-defined]
    return tls


class AES:
    """MicroPython's `cryptolib.aes` in CBC mode."""

    def __init__(self, key: bytes, mode: int, iv: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(bytes(key)), modes.CBC(bytes(iv)))

    def encrypt(self, data: bytes, out: memoryview) -> None:
        out[:] = self._cipher.encryptor().update(bytes(data))

    def decrypt(self, data: bytes, out: memoryview) -> None:
        out[:] = self._cipher.decryptor().update(bytes(data))


def install() -> None:
    """Add `micropython`, `cryptolib`, the settings of `tls`, the tick functions of `time`."""
    micropython = types.ModuleType("micropython")
    micropython.const = lambda value: value  # type: ignore[attr-defined]
    sys.modules.setdefault("micropython", micropython)
    sys.modules.setdefault("tls", _tls())
    cryptolib = types.ModuleType("cryptolib")
    cryptolib.aes = AES  # type: ignore[attr-defined]
    sys.modules.setdefault("cryptolib", cryptolib)
    added = {
        "ticks_ms": lambda: int(time.monotonic() * 1000) % _PERIOD,
        "ticks_us": lambda: int(time.monotonic() * 1_000_000) % _PERIOD,
        "ticks_diff": _ticks_diff,
        "ticks_add": _ticks_add,
        "sleep_ms": lambda ms: time.sleep(ms / 1000),
    }
    for name, function in added.items():
        if not hasattr(time, name):
            setattr(time, name, function)
    if not hasattr(asyncio, "sleep_ms"):
        asyncio.sleep_ms = lambda ms: asyncio.sleep(ms / 1000)
        asyncio.wait_for_ms = lambda aw, ms: asyncio.wait_for(aw, ms / 1000)

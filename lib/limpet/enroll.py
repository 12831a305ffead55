"""The board's side of enrolment: the kit calls these over the raw REPL (PROTOCOLS.md 5).

Each returns one line of JSON and never raises: an error is `{"error": CODE, "words": sentence}`.
"""

import json
import sys
from binascii import a2b_base64

from . import __version__, seal, speak
from .errors import LimpetError
from .vault import Vault

PROTOCOL = 1
_LARGEST = 48 + seal.LARGEST  # vault id, store secret, fields

_vault = None  # made when first needed; between calls it lives in the interpreter
_buffer = None
_have = 0


def use(vault):
    """Work on this vault; otherwise it is the board's own."""
    global _vault
    _vault = vault
    _forget()


def hello():
    """What the kit must know before it draws anything."""
    return _answer(_hello)


def begin(size):
    """Make room for `size` bytes to come."""
    return _answer(_begin, size)


def put(offset, text):
    """Take base64 text of up to 256 bytes that belong at `offset`; the same again is no error."""
    return _answer(_put, offset, text)


def commit(source):
    """Seal what was put (vault id 16 & store secret 32 & fields) and read it back."""
    return _answer(_commit, source)


def proof(nonce):
    """Prove, with the kit's fresh `nonce` in hex, that the newest record can be read."""
    return _answer(_proof, nonce)


def retry():
    """End a refused wait: somebody is at the board."""
    return _answer(_retry)


def wipe():
    """Forget everything: the board is unprovisioned afterwards."""
    return _answer(_wipe)


def _answer(function, *arguments):
    try:
        return json.dumps(function(*arguments))
    except LimpetError as e:
        code, words = e.code, e.words
    except MemoryError:
        code, words = "NO_MEMORY", "the board has too little free memory"
    except Exception as e:
        # Its class only: the message may hold what was being handled.
        code, words = "BUG", "something unexpected went wrong: %s" % type(e).__name__
    return json.dumps({"error": code, "words": words})


def _board():
    global _vault
    if _vault is None:
        _vault = Vault()
    return _vault


def _hello():
    vault = _board()
    slots = []
    for r in vault.records():
        slots.append(
            {
                "slot": r.slot,
                "vault": r.vault_id.hex(),
                "generation": r.generation,
                "source": r.source,
            }
        )
        r.wipe()
    return {
        "limpet": __version__,
        "protocol": PROTOCOL,
        "chip": vault.chip.hex(),
        "platform": sys.platform,
        "machine": getattr(sys.implementation, "_machine", ""),
        "micropython": list(sys.implementation.version[:3]),
        "free": vault.store.free(),
        "sources": list(vault.keys.sources),
        "slots": slots,
        "scrub_due": vault.scrub_due,
        "wifi": _has("network", "WLAN"),
        "psk": _has_psk(),
    }


def _begin(size):
    global _buffer
    if not 48 < size <= _LARGEST:
        raise LimpetError("BAD_FIELDS", "a record has 1 to %d bytes of fields" % seal.LARGEST)
    _forget()
    _buffer = bytearray(size)
    return {"ok": True, "have": 0}


def _put(offset, text):
    global _have
    if _buffer is None:
        raise LimpetError("STATE", "call begin first")
    try:
        data = a2b_base64(text)
    except ValueError:
        raise LimpetError("BAD_FIELDS", "that is not base64")
    end = offset + len(data)
    if not 0 <= offset <= _have or len(data) > 256 or end > len(_buffer):
        raise LimpetError("STATE", "%d bytes are here, %d cannot follow" % (_have, offset))
    _buffer[offset:end] = data
    _have = max(_have, end)
    return {"ok": True, "have": _have}


def _commit(source):
    if _buffer is None or _have != len(_buffer):
        raise LimpetError("STATE", "the record has not arrived in full")
    try:
        view = memoryview(_buffer)
        slot, generation = _board().write(source, bytes(view[:16]), bytes(view[16:48]), view[48:])
    finally:
        _forget()
    return {"slot": slot, "generation": generation}


def _proof(nonce):
    try:
        nonce = bytes.fromhex(nonce)
    except ValueError:
        raise LimpetError("STATE", "a nonce is 64 hex digits")
    used, h, p = speak.proof(_board(), nonce)
    used.wipe()
    return {
        "vault": used.vault_id.hex(),
        "generation": used.generation,
        "h": h.hex(),
        "p": p.hex(),
    }


def _retry():
    vault = _board()
    for r in vault.records():
        r.wipe()
    vault.note(steps=0, left=0)
    return {"ok": True}


def _wipe():
    _forget()
    _board().wipe()
    return {"ok": True}


def _forget():
    """Overwrite what was put."""
    global _buffer, _have
    if _buffer is not None:
        for i in range(len(_buffer)):
            _buffer[i] = 0
    _buffer = None
    _have = 0


def _has(module, name):
    try:
        return hasattr(__import__(module), name)
    except ImportError:
        return False


def _has_psk():
    try:
        import tls

        return hasattr(tls.SSLContext(tls.PROTOCOL_TLS_CLIENT), "psk_key")
    except (ImportError, OSError):
        return False

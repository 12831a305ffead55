"""The sentence for each cause code. Loaded when somebody asks for one, and forgotten at once.

What the code does not tell stands behind it in brackets: the facts that the error came with.
Codes of what is loaded seldom (enrolment, changes) are not here: their facts are the sentence.
"""

import sys

from micropython import const

_LONGEST = const(200)  # it is shown, logged, and may hold what a server sent

_WORDS = (
    # on the way to the server
    ("WIFI", "no Wi-Fi network could be joined"),
    ("DNS", "the server's name cannot be looked up"),
    ("NO_SERVER", "the vault names no server"),
    ("CONNECT", "no connection to the server"),
    ("DEADLINE", "no login within 60 s of the first try"),
    ("TLS", "the TLS handshake failed"),
    ("MEMORY", "not enough memory for TLS"),
    ("CLOSED_ON_LOGIN", "the server ended the connection after CONNECT"),
    ("CONNACK", "the server cannot take this device now"),
    ("REFUSED", "the server refused this device's account"),
    # over SMQ
    ("HTTP", "there is no SMQ broker at this path of the server"),
    ("TAKEN", "somebody else logged in with this device's account"),
    # a connection
    ("READ", "the connection broke"),
    ("WRITE", "the connection broke while sending"),
    ("CLOSED", "the connection was closed"),
    ("SILENT", "the server was silent for too long"),
    ("NO_ACK", "the server did not acknowledge within 20 s"),
    ("MALFORMED", "the server sent what cannot be read"),
    ("TOO_BIG", "the server announced a packet larger than the receive buffer"),
    ("WIPED", "the kit wiped this device"),
    ("CHANGE", "logging in with the new record"),
    ("ERROR", "a fault of this device's software ended the connection"),
    # a message
    ("FULL", "the queue is full"),
    ("DROPPED", "a newer message took this one's place in the queue"),
    ("NO_NAME", "start an enrolled client before it publishes"),
    # the vault
    ("UNPROVISIONED", "this board holds no credential: run limpet up"),
    ("VAULT_SOURCE", "this board does not accept the key source of the record it holds: enrol it"),
    (
        "VAULT_CLOSED",
        "this board cannot open the record it holds: it is damaged, it is another board's, or its "
        "key is gone; enrol it again",
    ),
    ("VAULT_NEWER", "this board's record is newer than its firmware: update the firmware"),
    ("NO_SPACE", "the flash of this board is full: remove files you do not need"),
    ("FLASH", "the flash of this board does not take writes"),
    # why a server is not trusted: README.md explains them
    (
        "SIGNATURE",
        "the server's certificate is not signed by this device's anchor: another server, or one "
        "with a new CA (limpet anchor add)",
    ),
    (
        "CLOCK",
        "the server's certificate is not valid yet by this board's clock: the time is not known "
        "yet (NTP), or wrong",
    ),
    ("EXPIRED", "a certificate of the server has ended by this board's clock: renew it"),
    ("NAME", "the server's certificate is for another name: put the one that is dialled into it"),
    ("WEAK", "a certificate of the server has a weak key or hash: make it anew"),
    ("USAGE", "a certificate of the server is not made for servers"),
    ("CONSTRAINTS", "a CA of the server has name constraints, which a device cannot check"),
    ("PIN", "no key of the server's chain is one that this device expects"),
    ("CERTIFICATE", "the server's certificate was refused"),
    ("ANCHOR", "a certificate or key in the vault is broken"),
    (
        "PSK",
        "TLS-PSK: the server does not know this device or has another key for it, or this "
        "firmware is older than MicroPython 1.29",
    ),
    ("CLIENT_CERTIFICATE", "the server does not take this device's own certificate"),
)

_NO_MEMORY = {
    "rp2": "free 70 KB before the client is made: TLS lives in the same heap",
    "esp32": "the heap outside Python is full: see esp32.idf_heap_info(esp32.HEAP_DATA)",
}


def of(code, facts):
    """The sentence for `code`, with the facts; the facts alone where there is none."""
    if code == "MEMORY":
        facts += (_NO_MEMORY.get(sys.platform, "this machine has none left"),)
    told = ", ".join([str(fact) for fact in facts])
    for known, sentence in _WORDS:
        if known == code:
            told = "%s (%s)" % (sentence, told) if told else sentence
            break
    return (told or code)[:_LONGEST]

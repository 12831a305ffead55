"""The sentence for each cause code. Loaded when somebody asks for one, and forgotten at once.

What the code does not tell stands behind it in brackets: the facts that the error came with.
Codes of what is loaded seldom (enrolment, changes) are not here: their facts are the sentence.
"""

import sys

from micropython import const

_LONGEST = const(200)  # it is shown, logged, and may hold what a server sent

# A line a code, in one piece: a tuple's parts and their names would take thrice the heap.
_WORDS = (
    "\n"
    # on the way to the server
    "WIFI no Wi-Fi network could be joined\n"
    "DNS the server's name cannot be looked up\n"
    "NO_SERVER the vault names no server\n"
    "CONNECT no connection to the server\n"
    "DEADLINE no login within 60 s of the first try\n"
    "TLS the TLS handshake failed\n"
    "MEMORY not enough memory for the connection\n"
    "CLOSED_ON_LOGIN the server ended the connection after CONNECT\n"
    "CONNACK the server cannot take this device now\n"
    "REFUSED the server refused this device's account\n"
    # over SMQ
    "HTTP there is no SMQ broker at this path of the server\n"
    "TAKEN somebody else logged in with this device's account\n"
    # a connection
    "READ the connection broke\n"
    "WRITE the connection broke while sending\n"
    "CLOSED the connection was closed\n"
    "SILENT the server was silent for too long\n"
    "NO_ACK the server did not acknowledge within 20 s\n"
    "MALFORMED the server sent what cannot be read\n"
    "TOO_BIG the server announced a packet larger than the receive buffer\n"
    "WIPED the kit wiped this device\n"
    "CHANGE logging in with the new record\n"
    "ERROR a fault of this device's software ended the connection\n"
    # a message
    "FULL the queue is full\n"
    "DROPPED a newer message took this one's place in the queue\n"
    "NO_NAME start an enrolled client before it publishes\n"
    # the vault
    "UNPROVISIONED this board holds no credential: run limpet up\n"
    "VAULT_SOURCE this board does not accept the key source of the record it holds: enrol it\n"
    "VAULT_CLOSED this board cannot open the record it holds: it is damaged, it is another "
    "board's, or its key is gone; enrol it again\n"
    "VAULT_NEWER this board's record is newer than its firmware: update the firmware\n"
    "NO_SPACE the flash of this board is full: remove files you do not need\n"
    "FLASH the flash of this board does not take writes\n"
    # why a server is not trusted: README.md explains them
    "SIGNATURE the server's certificate is not signed by this device's anchor: another server, "
    "or one with a new CA (limpet anchor add)\n"
    "CLOCK the server's certificate is not valid yet by this board's clock: the time is not "
    "known yet (NTP), or wrong\n"
    "EXPIRED a certificate of the server has ended by this board's clock: renew it\n"
    "NAME the server's certificate is for another name: put the one that is dialled into it\n"
    "WEAK a certificate of the server has a weak key or hash: make it anew\n"
    "USAGE a certificate of the server is not made for servers\n"
    "CONSTRAINTS a CA of the server has name constraints, which a device cannot check\n"
    "PIN no key of the server's chain is one that this device expects\n"
    "CERTIFICATE the server's certificate was refused\n"
    "ANCHOR a certificate or key in the vault is broken\n"
    "PSK TLS-PSK: the server does not know this device or has another key for it, or this "
    "firmware is older than MicroPython 1.29\n"
    "CLIENT_CERTIFICATE the server does not take this device's own certificate\n"
)

_NO_MEMORY = {
    "rp2": "free 60 KB before the client is made: TLS lives in the same heap",
    "esp32": "the heap outside Python is full: see esp32.idf_heap_info(esp32.HEAP_DATA)",
}


def of(code, facts):
    """The sentence for `code`, with the facts; the facts alone where there is none."""
    if code == "MEMORY":
        facts += (_NO_MEMORY.get(sys.platform, "this machine has none left"),)
    told = ", ".join([str(fact) for fact in facts])
    at = _WORDS.find("\n%s " % code)
    if at >= 0:
        sentence = _WORDS[at + len(code) + 2 : _WORDS.find("\n", at + 1)]
        told = "%s (%s)" % (sentence, told) if told else sentence
    return (told or code)[:_LONGEST]

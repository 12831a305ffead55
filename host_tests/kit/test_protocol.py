"""The kit's implementation against the vectors that the device library is held to as well."""

import json
from pathlib import Path

import pytest
from limpet_kit import protocol
from limpet_kit.errors import NO_SPACE, KitError
from limpet_kit.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())
R, C = VECTORS["record"], VECTORS["control"]
VAULT_ID = bytes.fromhex(R["vault_id"])
KEY = Secret(bytes.fromhex(R["control_key"]))
CHIP = bytes.fromhex(R["chip"])


def fields(listed):
    return protocol.encode((tag, bytes.fromhex(value)) for tag, value in listed)


def test_control_key():
    made = protocol.control_key(Secret(bytes.fromhex(R["kit_key"])), VAULT_ID)
    assert made.reveal() == KEY.reveal()


def test_record():
    secret = Secret(bytes.fromhex(R["store_secret"]))
    joined = fields(R["fields"])
    random = bytes.fromhex(R["random"])
    box = protocol.record_box(1, 3, VAULT_ID, secret, CHIP, joined, random)
    assert box.hex() == R["box"]
    assert protocol.open_record(box, secret, CHIP) == (1, 3, VAULT_ID, joined)
    assert protocol.open_record(box, secret, CHIP + b"x") is None


def test_control_box():
    box = protocol.control_box(KEY, VAULT_ID, 1, 9, fields(C["fields"]), bytes(16))
    assert box.hex() == C["box"]
    assert protocol.open_control(KEY, VAULT_ID, box) == (1, 9, fields(C["fields"]))
    assert protocol.open_control(KEY, bytes(16), box) is None
    packet = 1 + 2 + 2 + len("a/b") + 2 + len(box)  # MQTT 3.3, remaining length of two bytes
    assert protocol.change_size("a/b", fields(C["fields"])) == packet
    for at in range(len(box)):
        damaged = bytearray(box)
        damaged[at] ^= 1 << at % 8
        assert protocol.open_control(KEY, VAULT_ID, bytes(damaged)) is None


def test_acknowledgement():
    a = VECTORS["ack"]
    message = bytes.fromhex(a["message"])
    ack = protocol.read_ack(KEY, VAULT_ID, message)
    assert ack == protocol.Ack(
        a["state"], a["cause"], a["source"], a["sequence"], a["generation"], VAULT_ID
    )
    assert protocol.make_ack(KEY, ack) == message
    for at in range(len(message)):
        damaged = bytearray(message)
        damaged[at] ^= 1
        assert protocol.read_ack(KEY, VAULT_ID, bytes(damaged)) is None
    assert protocol.read_ack(KEY, bytes(16), message) is None
    assert protocol.read_ack(KEY, VAULT_ID, message[:-1]) is None


def test_proof():
    h, p = (bytes.fromhex(VECTORS["proof"][name]) for name in "hp")
    nonce = bytes.fromhex(VECTORS["proof"]["nonce"])
    assert protocol.make_proof(KEY, nonce, VAULT_ID, 3, fields(R["fields"])) == (h, p)
    assert protocol.proof_fits(KEY, nonce, VAULT_ID, 3, h, p)
    assert not protocol.proof_fits(KEY, nonce, VAULT_ID, 4, h, p)
    assert not protocol.proof_fits(KEY, bytes(32), VAULT_ID, 3, h, p)
    assert protocol.fields_fit(KEY, VAULT_ID, fields(R["fields"]), h)
    assert not protocol.fields_fit(KEY, VAULT_ID, fields(R["fields"])[:-1], h)


def test_fields_are_decoded_as_they_were_encoded():
    pairs = [(tag, bytes.fromhex(value)) for tag, value in R["fields"]]
    assert list(protocol.decode(protocol.encode(pairs))) == pairs
    for cut in (b"\x01", b"\x01\0\x05abc"):
        with pytest.raises(KitError):
            list(protocol.decode(cut))


def test_too_many_fields_are_refused():
    with pytest.raises(KitError) as caught:
        protocol.encode([(protocol.ANCHOR, bytes(2000))] * 2)
    assert caught.value.code == NO_SPACE

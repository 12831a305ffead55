"""Known secrets are found in every form in which people store bytes, and nowhere else."""

import base64
import os
import random
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from limpet_kit.audit import Canary, search
from limpet_kit.errors import KitError

VALUE = bytes(random.Random(7).choices(range(1, 256), k=32))
FORMS = {
    "raw": lambda v: v,
    "hex": lambda v: v.hex().encode(),
    "HEX": lambda v: v.hex().upper().encode(),
    "a:b": lambda v: v.hex(":").encode(),
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "base64 +1": lambda v: base64.b64encode(b"x" + v + b"yz"),
    "base64 +2": lambda v: base64.b64encode(b"xy" + v + b"z"),
    "utf-16": lambda v: v.decode("latin-1").encode("utf-16-le"),
    "python": lambda v: repr(v).encode(),
    "escaped": lambda v: "".join(f"\\x{b:02x}" for b in v).encode(),
}


def filler(size, seed=1):
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_found_whole_at_its_place(form):
    image = filler(5000) + FORMS[form](VALUE) + filler(3000)
    (hit,) = [h for h in search(image, [Canary.of("password", VALUE)]) if h.whole]
    assert hit.name == "password"
    assert 5000 <= hit.offset <= 5004
    assert hit.form == {"HEX": "hex", "a:b": "hex", "python": "escaped"}.get(
        form, form.split("url")[0].split(" ")[0]
    )


@pytest.mark.parametrize("form", FORMS)
def test_half_of_a_value_is_a_fragment(form):
    text = FORMS[form](VALUE)
    image = filler(5000) + text[len(text) // 4 :] + filler(3000)
    hits = search(image, [Canary.of("password", VALUE)])
    assert hits and not any(h.whole for h in hits)
    assert all(4995 <= h.offset < 5000 + len(text) for h in hits)


def test_a_wifi_key_of_eight_letters_is_found_and_counted():
    key = b"hunter22"
    image = filler(100) + key + filler(100) + base64.b64encode(key) + filler(9) + key
    assert [(h.form, h.offset) for h in search(image, [Canary.of("wifi", key)])] == [
        ("raw", 100),
        ("base64", 208),
        ("raw", 229),
    ]


def test_a_long_value_cut_anywhere_is_found():
    key = filler(1200, 3)
    for start in range(0, 1100, 37):
        image = filler(50) + key[start : start + 31] + filler(50)
        (hit,) = search(image, [Canary.of("key", key)])
        assert not hit.whole and 50 <= hit.offset < 81


def test_nothing_is_found_where_nothing_is():
    assert search(filler(1 << 20), [Canary.of("password", VALUE), Canary.of("x", b"abcd1")]) == []


DIGESTED = ("raw", "hex", "HEX", "a:b", "escaped", "python", "base64", "base64url", "base64 +1")


@pytest.mark.parametrize("form", DIGESTED)
def test_a_digest_finds_the_value_that_nobody_kept(form):
    line = Canary.of("password", VALUE).digested().line()
    canary = Canary.parse(line)
    assert VALUE[:3].hex() not in line and canary.value is None
    image = filler(5000) + b"." + FORMS[form](VALUE) + b"." + filler(3000)
    hits = search(image, [canary])
    assert hits and all(4999 < h.offset < 5005 + len(FORMS[form](VALUE)) for h in hits)
    half = search(filler(5000) + FORMS["raw"](VALUE)[16:], [canary])
    assert [(h.offset, h.length) for h in half] == [(5000, 16)]
    assert search(filler(1 << 18), [canary]) == []


def test_short_values_are_refused():
    with pytest.raises(KitError, match="by chance"):
        Canary.of("pin", b"123")
    with pytest.raises(KitError, match="by chance"):
        Canary.of("blank", b"\xff" * 32)
    with pytest.raises(KitError, match="digest"):
        Canary.of("wifi", b"hunter22").digested()


def test_a_canary_file_line():
    assert Canary.parse("wifi text correct horse ").value.reveal() == b"correct horse"
    assert Canary.parse("key hex 00010203").value.reveal() == bytes(range(4))
    assert Canary.parse("key base64 AAECAw==").value.reveal() == bytes(range(4))
    for bad in ("wifi", "wifi texte x", "key hex 0", "key base64 ****", "key digest 00"):
        with pytest.raises(KitError, match="canary file") as caught:
            Canary.parse(bad)
        assert caught.value.code == 2


@given(st.binary(min_size=8, max_size=80), st.integers(0, 200))
def test_a_value_anywhere_is_found(value, at):
    assume(len(set(value)) > 2)
    image = bytes(at) + b"\xa5" + value + b"\x5a"
    hits = search(image, [Canary.of("any", value)])
    assert any(h.whole and h.offset <= at + 1 < h.offset + h.length for h in hits)


def test_sixteen_mebibytes_take_no_time():
    image = os.urandom(16 << 20)
    canaries = [Canary.of("password", VALUE), Canary.of("wifi", b"correct horse")]
    canaries += [Canary.of("old", filler(32, seed)).digested() for seed in range(5)]
    begun = time.process_time()
    search(image, canaries)
    assert time.process_time() - begun < 10  # about 1 s on a laptop

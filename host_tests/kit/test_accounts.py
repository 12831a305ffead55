"""What is drawn, what is written, and what an ACL allows."""

import base64
import contextlib
import hashlib
import os
import re
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limpet_kit.broker import accounts, connect, export, rules
from limpet_kit.broker.accounts import Account
from limpet_kit.errors import REFUSED, KitError
from limpet_kit.secret import Secret

VERIFIER = accounts.verifier(Secret(b"x"))


def named(count):
    return [Account(f"a{number}", VERIFIER, "") for number in range(count)]


def test_drawn_accounts_and_passwords():
    names = {accounts.draw_account() for _ in range(200)}
    assert len(names) == 200
    assert all(re.fullmatch(r"[A-Za-z][0-9A-Za-z]{22}", name) for name in names)
    seen = set()
    for _ in range(200):
        password = accounts.draw_password("binary").reveal()
        assert len(password) == 32 and 0 not in password
        seen.update(password)
    assert seen == set(range(1, 256))
    text = accounts.draw_password("text").reveal()
    assert re.fullmatch(rb"[A-Za-z0-9_-]{43}", text)
    with pytest.raises(KitError):
        accounts.draw_password("x509")


def test_a_verifier_is_pbkdf2_sha512_as_mosquitto_writes_it():
    made = accounts.verifier(Secret(b"\x01\xff"))
    _, seven, rounds, salt, hashed = made.split("$")
    assert (seven, rounds) == ("7", "101")
    salt, hashed = base64.b64decode(salt), base64.b64decode(hashed)
    assert len(salt) == 12
    assert hashed == hashlib.pbkdf2_hmac("sha512", b"\x01\xff", salt, 101)
    assert accounts.fits(b"\x01\xff", made) and not accounts.fits(b"\x01", made)
    assert accounts.verifier(Secret(b"\x01\xff")) != made  # salted


@pytest.mark.parametrize("password", [b"", b"\0", b"abc\0def"])
def test_a_password_that_mosquitto_would_cut_is_refused(password):
    with pytest.raises(KitError) as e:
        accounts.verifier(Secret(password))
    assert e.value.code == REFUSED and "abc" not in str(e.value)


def test_a_device_has_its_own_branch_by_exact_names():
    announcing = accounts.device_acl("lamp-1", homeassistant=True)
    own = accounts.device_acl("lamp-1")
    assert announcing == f"write homeassistant/+/lamp-1/+/config\n{own}"
    assert own.split("\n") == [
        "write limpet/lamp-1/state",
        "write limpet/lamp-1/up/+",
        "write limpet/+/from/lamp-1/+",
        "write limpet/lamp-1/kit/ack",
        "read limpet/lamp-1/cmd/+",
        "read limpet/lamp-1/from/+/+",
        "read limpet/lamp-1/kit/set",
        "read limpet/time",
    ]
    for name in ("time", "fleet", "kit", "ab", "-ab", "a/b", "A-lamp", "a" * 33, "a+b", "a\nb"):
        with pytest.raises(KitError):
            accounts.device_acl(name)


def test_what_is_written_is_read_back(tmp_path):
    listed = [
        Account("one", VERIFIER, accounts.device_acl("one")),
        Account("two", VERIFIER, ""),
        Account("kit-x", VERIFIER, accounts.kit_acl()),
    ]
    export.write(tmp_path, listed)
    assert export.read(tmp_path) == {account.name: account for account in listed}
    for file in (export.PASSWORDS, export.ACL):
        assert stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["acl", "passwords"]


@pytest.mark.parametrize(
    "bad",
    [
        Account("a:b", VERIFIER, ""),
        Account("a b", VERIFIER, ""),
        Account("a\nb", VERIFIER, ""),
        Account("", VERIFIER, ""),
        Account("ü", VERIFIER, ""),
        Account("a", "plain", ""),
        Account("a", VERIFIER + "\nmallory:x", ""),
        Account("a", VERIFIER.replace("$7$", "$6$"), ""),
        Account("a", VERIFIER, "write a\ntopic #"),
        Account("a", VERIFIER, "all #"),
        Account("a", VERIFIER, "read #/a"),
        Account("a", VERIFIER, "read a+/b"),
        Account("a", VERIFIER, "read "),
        Account("a", VERIFIER, "read a b"),
        Account("a0", VERIFIER, ""),
    ],
)
def test_a_bad_account_changes_nothing(tmp_path, bad):
    export.write(tmp_path, named(3))
    before = (tmp_path / "passwords").read_bytes(), (tmp_path / "acl").read_bytes()
    with pytest.raises(KitError):
        export.write(tmp_path, [*named(3), bad])
    assert before == ((tmp_path / "passwords").read_bytes(), (tmp_path / "acl").read_bytes())


@pytest.mark.parametrize(
    ("there", "left", "allowed"),
    [
        (1, 0, True),
        (2, 0, True),
        (3, 0, False),
        (3, 1, True),
        (20, 18, True),
        (20, 17, False),
        (50, 45, True),
        (50, 44, False),
    ],
)
def test_an_export_that_drops_many_accounts_is_refused(tmp_path, there, left, allowed):
    others = [Account("kit-1", VERIFIER, ""), Account("probe-1", VERIFIER, "")]
    export.write(tmp_path, [*named(there), *others])
    if allowed:
        export.write(tmp_path, named(left))
    else:
        with pytest.raises(KitError, match="Is it the right ledger") as e:
            export.write(tmp_path, named(left))
        assert e.value.code == REFUSED
        assert len(export.read(tmp_path)) == there + 2
        export.write(tmp_path, named(left), force=True)
    assert len(export.read(tmp_path)) == left


def test_new_accounts_do_not_hide_lost_ones(tmp_path):
    export.write(tmp_path, named(20))
    fresh = [Account(f"new{number}", VERIFIER, "") for number in range(20)]
    with pytest.raises(KitError):
        export.write(tmp_path, fresh)


def test_files_that_the_kit_did_not_write(tmp_path):
    (tmp_path / "passwords").write_text("root:hunter2\n")
    with pytest.raises(KitError) as e:
        export.read(tmp_path)
    assert "hunter2" not in str(e.value)
    (tmp_path / "passwords").write_bytes(b"\xff")
    with pytest.raises(KitError):
        export.read(tmp_path)
    for text in ("topic #\n", "user a\ndeny b\n\n", "user a\n\ntopic #\n\n", "user a\nuser b\n"):
        (tmp_path / "acl").write_text(text)
        with pytest.raises(KitError):
            export.read_acl(tmp_path)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "takes"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_wildcards(topic_filter, topic, takes):
    assert rules.matches(topic_filter, topic) is takes


LEVELS = st.lists(st.sampled_from("ab+"), min_size=1, max_size=4)
FILTERS = st.builds(
    lambda levels, rest: "/".join(levels + rest), LEVELS, st.sampled_from([[], ["#"]])
)


@settings(max_examples=300, deadline=None)
@given(FILTERS, FILTERS)
def test_filters_overlap_when_a_topic_fits_both(one, other):
    import itertools

    topics = ["/".join(t) for size in range(1, 6) for t in itertools.product("ab", repeat=size)]
    both = any(rules.matches(one, t) and rules.matches(other, t) for t in topics)
    assert rules.overlap(one, other) is both
    assert rules.overlap(other, one) is both


def test_a_device_may_do_its_own_and_nothing_else():
    acl = accounts.device_acl("lamp-1")
    assert rules.may_write(acl, "limpet/lamp-1/up/t") and rules.may_read(acl, "limpet/time")
    assert rules.may_write(acl, "limpet/lamp-2/from/lamp-1/hello")
    for topic in (
        "limpet/lamp-2/up/t",
        "limpet/lamp-1/cmd/led",
        "limpet/lamp-1/up/a/b",
        "limpet/lamp-1/kit/set",
        "limpet/lamp-2/from/lamp-3/hello",
        "limpet/lamp-1/from/lamp-2/hello",
        "limpet/time",
        "$SYS/x",
    ):
        assert not rules.may_write(acl, topic), topic
    for topic in ("limpet/lamp-2/cmd/led", "limpet/lamp-1/up/t", "limpet/lamp-2/kit/set"):
        assert not rules.may_read(acl, topic), topic
    assert rules.may_subscribe(acl, "limpet/lamp-1/cmd/#") and rules.may_subscribe(acl, "#")
    assert not rules.may_subscribe(acl, "limpet/lamp-2/cmd/+")


WILLS = st.none() | st.builds(
    connect.Will,
    st.text("abc/", min_size=1, max_size=9),
    st.binary(max_size=99),
    st.integers(0, 2),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(
    st.text("abcé", max_size=99),
    st.binary(max_size=99),
    st.booleans(),
    st.integers(0, 65535),
    WILLS,
)
def test_connect_packets_survive_the_round_trip(name, password, clean, keepalive, will):
    packet = connect.encode(connect.Connect(name, Secret(password), name, clean, keepalive, will))
    assert packet[0] == 0x10
    size, shift, at = 0, 0, 1
    while True:
        size |= (packet[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if packet[at - 1] < 128:
            break
    assert size == len(packet) - at
    back = connect.parse(packet[at:])
    assert (back.account, back.client_id, back.clean) == (name, name, clean)
    assert (back.keepalive, back.will) == (keepalive, will)
    assert back.password.reveal() == password and "secret" not in repr(back)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_connect_or_a_clean_refusal(body):
    with contextlib.suppress(connect.Malformed, connect.OtherProtocol):
        connect.parse(b"\0\4MQTT\4" + body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\4MQTT\4\x40\0\0\0\0\0\1p",  # a password without an account
        b"\0\4MQTT\4\x03\0\0\0\0",  # the reserved flag
        b"\0\4MQTT\4\2\0\0\0\0x",  # more than the fields
        b"\0\4MQTT\4\x80\0\0\0\0\0\1\xff",  # not UTF-8
        b"\0\4MQTT\4\x80\0\0\0\0\0\1\0",  # a NUL
    ],
)
def test_what_is_not_a_connect_is_refused(body):
    with pytest.raises(connect.Malformed):
        connect.parse(body)


def test_other_versions_are_told_apart():
    for body in (b"\0\6MQIsdp\3\2\0\0\0\0", b"\0\4MQTT\5\2\0\0\0\0\0"):
        with pytest.raises(connect.OtherProtocol):
            connect.parse(body)

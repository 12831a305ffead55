"""A broker's folder: made whole or not at all, read strictly."""

import stat

import pytest
from limpet_kit import ca
from limpet_kit.broker import accounts, export, mosquitto, settings
from limpet_kit.errors import NO_BROKER, KitError


@pytest.fixture(autouse=True)
def no_mosquitto(monkeypatch):
    monkeypatch.setenv("LIMPET_MOSQUITTO", "none")


def test_what_is_made_is_read_back(tmp_path):
    folder = tmp_path / "deep" / "broker"
    made = settings.create(folder, ["broker.local", "192.0.2.7"], 18883)
    assert settings.load(folder) == made
    assert (made.kind, made.profile, made.listen) == ("embedded", "text", "0.0.0.0")
    assert made.names == ("broker.local", "192.0.2.7", "localhost", "127.0.0.1")
    assert (made.server, made.address) == ("broker.local:18883", "127.0.0.1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert [p.name for p in folder.parent.iterdir()] == ["broker"]
    assert ca.days_left(folder) > 800 and not ca.is_demo(ca.anchor_der(folder))
    exported = export.read(folder)
    assert tuple(exported) == made.kit_accounts
    assert all(accounts.fits(made.kit_password().reveal(), a.verifier) for a in exported.values())


def test_loopback_is_listened_on_only_when_it_is_the_only_name(tmp_path):
    assert settings.create(tmp_path / "a", ["localhost"]).listen == "127.0.0.1"
    assert settings.create(tmp_path / "b", ["lamps.local"]).listen == "0.0.0.0"
    assert settings.create(tmp_path / "c", ["x.local"], listen="127.0.0.1").listen == "127.0.0.1"
    made = settings.create(tmp_path / "d", ["FD00:0::7"])
    assert (made.server, made.listen) == ("[fd00::7]:8883", "::")  # which takes IPv4 as well


def test_home_assistant_is_let_in_also_where_it_was_said_not_to_be(tmp_path):
    made = settings.create(tmp_path / "a", ["localhost"], kind="embedded")
    with open(made.folder / "broker.toml", "a") as file:
        file.write("homeassistant = false\n")
    assert settings.admit_homeassistant(settings.load(made.folder)).homeassistant


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(KitError, match="nothing was overwritten") as e:
        settings.create(tmp_path, ["localhost"])
    assert e.value.code == NO_BROKER
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert settings.create(empty, ["localhost"]).folder == empty


def test_nothing_is_left_of_a_making_that_fails(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(ca, "make", fail)
    with pytest.raises(KeyboardInterrupt):
        settings.create(tmp_path / "broker", ["localhost"])
    assert not list(tmp_path.iterdir())
    with pytest.raises(KitError):
        settings.create(tmp_path / "broker", ["a b"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("port = 8883", "port = 0", "port must be"),
        ("port = 8883", "port = true", "port must be"),
        ("port = 8883", 'port = "8883"', "port must be"),
        ("port = 8883", "", "'port' is missing"),
        ("port = 8883", "port = 8883\ntls = false", "unknown setting 'tls'"),
        ("port = 8883", "port = ", "Invalid"),
        ('"embedded"', '"hivemq"', "kind must be one of"),
        ('"embedded"', "[]", "kind must be one of"),
        ('"text"', '"binary"', "profile must be"),
        ('listen = "0.0.0.0"', 'listen = "localhost"', "listen must be an IP address"),
        ('["x.local"', '["*.local"', "names must be"),
        ("format = 1", "format = 2", "a newer kit wrote it"),
    ],
)
def test_a_broken_file_is_told_in_words(tmp_path, old, new, words):
    folder = tmp_path / "broker"
    settings.create(folder, ["x.local"])
    text = (folder / "broker.toml").read_text()
    assert old in text
    (folder / "broker.toml").write_text(text.replace(old, new))
    with pytest.raises(KitError, match=words) as e:
        settings.load(folder)
    assert e.value.code == NO_BROKER and "broker.toml" in str(e.value)


def test_missing_things_are_told_in_words(tmp_path):
    for folder in (tmp_path / "no", tmp_path):
        with pytest.raises(KitError, match="limpet broker init") as e:
            settings.load(folder)
        assert e.value.code == NO_BROKER
    made = settings.create(tmp_path / "broker", ["localhost"])
    made.kit_password_file.unlink()
    with pytest.raises(KitError, match=r"kit\.password"):
        made.kit_password()
    (tmp_path / "broker" / "broker.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(KitError, match="UTF-8"):
        settings.load(tmp_path / "broker")


def program(tmp_path, says):
    path = tmp_path / "mosquitto"
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit 3\n")
    path.chmod(0o755)
    return str(path)


def test_an_old_mosquitto_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_MOSQUITTO", program(tmp_path, "mosquitto version 1.6.12"))
    with pytest.raises(KitError, match=r"1\.6\.12, too old.* 2\.0 or later") as e:
        settings.create(tmp_path / "broker", ["localhost"])
    assert e.value.code == NO_BROKER and not (tmp_path / "broker").exists()
    assert settings.create(tmp_path / "e", ["localhost"], kind="embedded").kind == "embedded"


def test_a_new_mosquitto_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_MOSQUITTO", program(tmp_path, "mosquitto version 2.1.2"))
    made = settings.create(tmp_path / "broker", ["localhost"])
    assert (made.kind, made.profile) == ("mosquitto", "binary")
    assert mosquitto.version(mosquitto.require()) == (2, 1, 2)


def test_another_program_is_not_taken_for_mosquitto(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_MOSQUITTO", program(tmp_path, "hello"))
    with pytest.raises(KitError, match="does not say that it is"):
        settings.create(tmp_path / "broker", ["localhost"])
    monkeypatch.setenv("LIMPET_MOSQUITTO", str(tmp_path / "nowhere"))
    with pytest.raises(KitError, match="not a program"):
        settings.create(tmp_path / "broker", ["localhost"])
    monkeypatch.setenv("LIMPET_MOSQUITTO", "none")
    with pytest.raises(KitError, match="apt install mosquitto"):
        settings.create(tmp_path / "broker", ["localhost"], kind="mosquitto")

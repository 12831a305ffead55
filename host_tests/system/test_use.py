"""`limpet broker use`: units for a broker that is not the kit's, with accounts made there."""

import contextlib
import json
import socket
import stat
import subprocess
import time
from types import SimpleNamespace

import pytest
from limpet_kit import cli
from limpet_kit.attack import certificates
from limpet_kit.broker import given, mosquitto, settings
from limpet_kit.errors import ENROLLED, NO_BROKER, OK, REFUSED, USAGE, KitError
from rig.broker import free_port, require
from rig.micropython import ROOT

KIT, DEVICES = (
    ("kit", "kit-secret"),
    [(f"dev-{n}", f"secret-{n}-{8 * n}0123456789") for n in "abc"],
)
EXAMPLES = ROOT / "firmware" / "examples"
OTHER = ("deaf", "deaf-secret")

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def theirs(home, tmp_path):
    """A Mosquitto as a user runs one: its CA, its password file, no rule of ours."""
    require("mosquitto")
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    folder.chmod(0o711)  # Mosquitto started by root reads as its own user
    authority = certificates.issue(ca=True, common_name="Their CA")
    server = certificates.issue(["localhost", "127.0.0.1"], authority)
    port = free_port()
    logins = [KIT, *DEVICES, OTHER]
    files = {
        "ca.pem": authority.chain_pem,
        "server.pem": server.chain_pem,
        "server.key": server.key_pem,
        "passwords": "".join(f"{name}:{word}\n" for name, word in logins).encode(),
        "acl": b"".join(
            b"user %s\ntopic readwrite #\n\n" % name.encode() for name, _ in [KIT, *DEVICES]
        ),
        "mosquitto.conf": f"""listener {port} 127.0.0.1
cafile {folder}/ca.pem
certfile {folder}/server.pem
keyfile {folder}/server.key
password_file {folder}/passwords
acl_file {folder}/acl
user root
""".encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    subprocess.run(["mosquitto_passwd", "-U", folder / "passwords"], check=True)
    process = subprocess.Popen(
        [mosquitto.find(), "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 10
    with contextlib.ExitStack() as stack:
        while time.monotonic() < end:
            with contextlib.suppress(ConnectionRefusedError):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 1))
                break
            time.sleep(0.01)
    accounts = tmp_path / "accounts"
    write(accounts, [KIT, *DEVICES])
    yield SimpleNamespace(
        server=f"localhost:{port}", ca=folder / "ca.pem", accounts=accounts, process=process
    )
    process.kill()
    process.wait()


def write(file, logins):
    file.write_text("".join(f"{name}:{word}\n" for name, word in logins))
    file.chmod(0o600)


def use(theirs, folder, **changed):
    options = {"ca": theirs.ca, "accounts": theirs.accounts, **changed}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return cli.main(["broker", "use", theirs.server, *words, str(folder)])


def test_up_rotate_and_revoke_at_a_broker_of_ones_own(theirs, sim_factory, tmp_path, capsys):
    folder, boards = tmp_path / "mine", [sim_factory(), sim_factory(), sim_factory()]
    where = ["--broker", str(folder)]
    assert use(theirs, folder) == OK
    chosen = settings.load(folder)
    assert (chosen.kind, chosen.profile, chosen.account) == ("given", "text", KIT[0])
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert given.left(chosen) == 3
    assert cli.main(["up", f"sim:{boards[0].name}", "--name", "lamp-1", *where]) == OK
    assert given.left(chosen) == 2
    capsys.readouterr()
    assert cli.main(["rotate", "lamp-1", *where]) == OK
    assert "Remove its account at your broker: dev-a" in capsys.readouterr().err
    assert given.left(chosen) == 1

    # A name that is taken costs no account.
    assert cli.main(["up", f"sim:{boards[1].name}", "--name", "lamp-1", *where]) == ENROLLED
    assert given.left(chosen) == 1
    sketch = str(EXAMPLES.joinpath("cloud.py"))
    capsys.readouterr()
    more = ["--name", "lamp-2", "--main", sketch]
    assert cli.main(["up", f"sim:{boards[1].name}", *more, *where]) == OK
    assert "up/free" in capsys.readouterr().out
    assert (folder / given.USED).read_text().split() == ["dev-a", "dev-b", "dev-c"]
    kept = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"secret-" not in kept.replace(KIT[1].encode(), b"")

    # None is left; the same file again brings none back.
    capsys.readouterr()
    assert cli.main(["up", f"sim:{boards[2].name}", *where]) == NO_BROKER
    assert "No account is left" in capsys.readouterr().err
    assert use(theirs, folder) == OK
    assert given.left(chosen) == 0 and settings.load(folder).kit == chosen.kit
    assert cli.main(["up", f"sim:{boards[2].name}", *where]) == NO_BROKER

    capsys.readouterr()
    assert cli.main(["status", "--json", *where]) == OK
    said = capsys.readouterr()
    assert [unit["link"] for unit in json.loads(said.out)["units"]] == ["online", "online"]
    assert "(yours), lets the kit in; 0 accounts left" in said.err

    for verb in ("run", "sync", "stop"):
        assert cli.main(["broker", verb, str(folder)]) == NO_BROKER
        assert "is your broker" in capsys.readouterr().err
    assert cli.main(["broker", "check", str(folder)]) == OK
    assert "not ours to run" in capsys.readouterr().out
    assert cli.main(["revoke", "lamp-1"]) == NO_BROKER
    assert "Remove its account at your broker: dev-b." in capsys.readouterr().err


def test_what_is_wrong_is_told_and_nothing_is_made(theirs, tmp_path, capsys):
    folder = tmp_path / "mine"

    def refused(code, words, **changed):
        assert use(theirs, folder, **changed) == code
        said = capsys.readouterr().err
        assert words in said and "secret" not in said
        assert not list(tmp_path.glob("*mine*"))

    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(certificates.issue(ca=True, common_name="Their CA").chain_pem)
    refused(NO_BROKER, "does not prove itself by this CA", ca=wrong)
    wrong.write_text("nothing")
    refused(USAGE, "no certificate", ca=wrong)
    refused(USAGE, "cannot be read", ca=tmp_path / "none")

    theirs.accounts.chmod(0o644)
    refused(REFUSED, "chmod 600")
    write(theirs.accounts, [(KIT[0], "wrong-secret")])
    refused(NO_BROKER, "refuses the kit's account kit ")
    write(theirs.accounts, [OTHER])
    refused(NO_BROKER, "The kit's account deaf does not hear itself")
    write(theirs.accounts, [KIT, ("two words", "secret")])
    refused(USAGE, "Line 2")
    write(theirs.accounts, [KIT, ("dev-a", "short-secret")])
    refused(USAGE, "line 2")
    write(theirs.accounts, [])
    refused(USAGE, "holds no account")

    write(theirs.accounts, [KIT, ("dev-a", "wrong-secret-0123456789")])
    assert use(theirs, folder) == OK
    chosen = settings.load(folder)
    with pytest.raises(KitError, match="refuses the account dev-a"):
        given.take(chosen)
    assert given.left(chosen) == 1

    # More accounts; those that are there stay, and none of them is the kit's.
    right = DEVICES[0]
    write(theirs.accounts, [KIT, DEVICES[1], right])
    assert use(theirs, folder) == OK and given.left(chosen) == 2
    name, password = given.take(chosen)
    assert (name, password.reveal().decode()) == right
    write(theirs.accounts, [right])
    assert use(theirs, folder) == USAGE
    write(theirs.accounts, [DEVICES[1]])
    assert use(theirs, folder) == OK and given.left(chosen) == 0
    assert settings.load(folder).kit == chosen.kit
    theirs.process.kill()
    theirs.process.wait()
    capsys.readouterr()
    assert cli.main(["broker", "check", str(folder)]) == NO_BROKER
    assert "is not there" in capsys.readouterr().err


def test_a_folder_of_another_broker_is_left_alone(theirs, broker_factory, capsys):
    ours = broker_factory("embedded").settings
    assert use(theirs, ours.folder) == ENROLLED
    assert settings.load(ours.folder) == ours


def test_a_password_of_any_bytes_makes_the_profile_binary():
    logins = given.parse(b"kit:a:b\r\n\ndev:" + bytes(range(200, 220)) + b"\n", "x")
    assert [(n, s.reveal()) for n, s in logins] == [
        ("kit", b"a:b"),
        ("dev", bytes(range(200, 220))),
    ]
    with pytest.raises(KitError, match="not UTF-8"):
        given.parse(b"kit:\xff\n", "x")
    with pytest.raises(KitError, match="second time"):
        given.parse(b"kit:a\nkit:" + bytes(range(65, 90)), "x")

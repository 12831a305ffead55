"""Changes over the link, from the command line to the flash of simulated boards and back."""

import datetime
import json

import pytest
from conftest import MEASURED
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from limpet_kit import bringup, ca, cli, kitkey, protocol, sim
from limpet_kit.broker import accounts, export, server
from limpet_kit.broker.client import KitClient
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.errors import ENROLLED, FAILED, NO_BROKER, NO_SPACE, NOT_ONLINE, OK, REFUSED, USAGE
from limpet_kit.ledger import Ledger
from limpet_kit.secret import Secret
from limpet_kit.seriallog import SerialLog
from limpet_kit.watch import Watch
from limpet_kit.wifi import Network
from rig.broker import KINDS
from rig.refusals import FALL_BACK_S, Refusals

NETWORK = Network(b"home", Secret(b"a key of home"))


def online(board, broker, **options):
    """Bring a board up; its unit's name."""
    done = bringup.bring_up(
        f"sim:{board.name}",
        broker.settings,
        Plan(networks=lambda: [NETWORK]),
        Console(),
        lambda name, words: None,
        reading_s=0,
        **options,
    )
    return done.unit.name


@pytest.fixture(params=KINDS)
def fleet(request, sim_factory, broker_factory):
    """`fleet(count)`: a broker and units unit-1, unit-2 ... that are online at it."""

    def make(count):
        broker = broker_factory(request.param)
        units = []
        for _ in range(count):
            board = sim_factory()
            units.append((board, online(board, broker)))
        return broker, units

    return make


def limpet(capsys, *arguments):
    """(exit code, the JSON object) of a command."""
    code = cli.main([*map(str, arguments), "--json"])
    lines = capsys.readouterr().out.strip().splitlines()
    return code, json.loads(lines[-1]) if lines else None


def device_accounts(broker):
    found = export.read(broker.settings.folder)
    return {n for n in found if not n.startswith((accounts.KIT_PREFIX, accounts.PROBE_PREFIX))}


def answers(broker, name):
    with Watch(broker.settings, name) as watch:
        return watch.answers(70) is not None


def test_rotate_all(fleet, capsys):
    broker, units = fleet(3)
    before = device_accounts(broker)
    code, said = limpet(capsys, "rotate", "--all", "--broker", broker.settings.folder)
    assert (code, sorted(said["applied"])) == (OK, [name for _, name in units])
    after = device_accounts(broker)
    assert len(after) == 3 and not after & before
    assert all(answers(broker, name) for _, name in units)
    code, said = limpet(
        capsys, "rotate", "--all", "--older-than", "1d", "--broker", broker.settings.folder
    )
    assert (code, said["applied"]) == (OK, []) and device_accounts(broker) == after


def test_a_device_that_is_off_gets_it_when_it_is_back(fleet, capsys):
    broker, [(board, name)] = fleet(1)
    before = device_accounts(broker)
    board.kill()
    rotate = ("rotate", name, "--broker", broker.settings.folder, "--wait", 0.2)
    code, said = limpet(capsys, *rotate)
    assert (code, said["waiting"]) == (NOT_ONLINE, [name])
    assert before < device_accounts(broker)  # both, as long as nobody knows which it uses
    code, said = limpet(capsys, *rotate)  # repeating draws no third one
    assert len(device_accounts(broker)) == 2
    sim.start(board.name)
    code, said = limpet(capsys, *rotate[:-1], 30)
    assert (code, said["applied"]) == (OK, [name])
    assert len(device_accounts(broker)) == 1 and not before & device_accounts(broker)
    assert answers(broker, name)


def test_a_change_that_does_not_work_is_dropped(fleet, capsys, monkeypatch, record_property):
    """The broker does not know the new account: refused, and the old one works on."""
    broker, [(board, name)] = fleet(1)
    before = device_accounts(broker)
    where = ("--broker", broker.settings.folder, "--wait", 1)
    real = server.sync
    with Refusals([board]) as refusals:
        monkeypatch.setattr(server, "sync", lambda *a, **k: True)
        code, said = limpet(capsys, "rotate", name, *where)
        monkeypatch.setattr(server, "sync", real)
        assert (code, said["waiting"]) == (NOT_ONLINE, [name])
        assert answers(broker, name)  # with the old one, after one try with the new one
    assert refusals.count == 1 and 0 < refusals.longest < FALL_BACK_S
    record_property(MEASURED, f"a refused change: online again after {refusals.longest:.2f} s")
    assert device_accounts(broker) == before


@pytest.mark.parametrize("fleet", ["embedded"], indirect=True)  # a matter of the board
def test_networks_are_tried_though_the_old_one_is_up(fleet, capsys, tmp_path):
    broker, [(board, name)] = fleet(1)
    board.configure(networks={"home": "a key of home", "office": "a key of office"})
    file = tmp_path / "networks"
    file.touch(0o600)
    rotate = ("rotate", name, "--wifi", file, "--broker", broker.settings.folder)
    file.write_text("office\na key of office\n")
    code, said = limpet(capsys, *rotate)
    assert (code, said["applied"]) == (OK, [name])
    file.write_text("office\nanother key\n")
    code, said = limpet(capsys, *rotate, "--wait", 3)
    assert (code, said["waiting"]) == (NOT_ONLINE, [name])  # it has two tries left
    assert answers(broker, name)  # with the one that works


def test_bad_fields_fail_at_once(fleet, capsys, monkeypatch):
    broker, [(_, name)] = fleet(1)
    where = ("--broker", broker.settings.folder)
    servers = [x for n in range(5) for x in ("--server", f"host-{n}:1")]  # four fit
    assert limpet(capsys, "rotate", name, *servers, *where)[0] == USAGE
    monkeypatch.setattr(protocol, "REPEATS", 5)  # a kit that does not know better
    code, said = limpet(capsys, "rotate", name, *servers, *where)
    assert code == FAILED and "fields" in said["failed"][name]
    assert answers(broker, name)
    code, said = limpet(capsys, "rotate", name, *where)  # the next change works
    assert (code, said["applied"]) == (OK, [name])


def test_anchors_are_added_and_retired(fleet, capsys, tmp_path):
    broker, [(_, name)] = fleet(1)
    old = broker.settings.folder
    ca.make(tmp_path / "next", list(broker.settings.names))
    new = tmp_path / "next" / "ca.crt"
    where = (new, name, "--broker", old)
    assert limpet(capsys, "anchor", "retire", *where)[0] == REFUSED
    code, said = limpet(capsys, "anchor", "add", *where)
    assert (code, said["applied"]) == (OK, [name])
    # Retired too early: the device cannot log in without the old one, and keeps both.
    code, said = limpet(capsys, "anchor", "retire", *where, "--wait", 2)
    assert (code, said["waiting"]) == (NOT_ONLINE, [name])
    assert answers(broker, name)


SKETCH = """
import asyncio, limpet

async def main():
    async with limpet.Client(receive=4096) as client:
        while True:
            await asyncio.sleep(1)

asyncio.run(main())
"""


def rsa_ca(file):
    """A CA with RSA-4096: 1.3 KB, so that two are more than a device takes by itself."""
    key = rsa.generate_private_key(65537, 4096)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Next CA")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.DER))
    return file


def test_a_change_that_a_device_would_not_take_is_not_sent(
    sim_factory, broker_factory, capsys, tmp_path
):
    broker, board = broker_factory("embedded"), sim_factory()
    sketch = tmp_path / "sketch.py"
    sketch.write_text(SKETCH)
    name = online(board, broker, goods=bringup.Goods(sketch=sketch))
    file = rsa_ca(tmp_path / "next.der")
    add = ("anchor", "add", file, name, "--broker", broker.settings.folder)
    assert limpet(capsys, *add)[0] == NO_SPACE
    with KitClient(broker.settings) as kit:
        assert kit.retained(f"limpet/{name}/kit/set", 5) == {}
    with Ledger() as ledger:
        assert ledger.changes() == []
    code, said = limpet(capsys, *add, "--receive", 4096)
    assert (code, said["applied"]) == (OK, [name])


def test_wiped_over_the_link(fleet, capsys):
    broker, [(_, name), (_, other)] = fleet(2)
    with KitClient(broker.settings) as kit:
        for payload in (b"wipe", b"\x02"):
            kit.publish(f"limpet/{name}/cmd/wipe", payload)
    assert answers(broker, name)
    code, said = limpet(capsys, "wipe", name, "--yes", "--broker", broker.settings.folder)
    assert (code, said["applied"]) == (OK, [name])
    assert len(device_accounts(broker)) == 1 and answers(broker, other)
    with Ledger() as ledger:
        assert [unit.name for unit in ledger.units()] == [other]


def test_revoked_and_let_in_again(fleet, capsys):
    broker, [(_, name), (_, other)] = fleet(2)
    before = device_accounts(broker)
    with Watch(broker.settings, name) as watch:
        code, said = limpet(capsys, "revoke", name)
        assert (code, said["devices"]) == (OK, [name])
        assert said["live"] == [name]
        assert watch.answers(2) is None  # its live session has ended
    assert len(device_accounts(broker)) == 1 and answers(broker, other)
    code, said = limpet(capsys, "rotate", "--all", "--broker", broker.settings.folder)
    assert said["applied"] == [other]
    assert limpet(capsys, "revoke", "nobody")[0] != OK
    assert limpet(capsys, "revoke", name)[1]["live"] == []  # there was none any more
    code, said = limpet(capsys, "revoke", name, "--undo")
    assert code == OK and len(device_accounts(broker) & before) == 1


def test_a_wipe_is_not_taken_for_done_when_an_older_change_was(fleet, capsys):
    broker, [(board, name)] = fleet(1)
    where = ("--broker", broker.settings.folder, "--wait")
    board.kill()
    assert limpet(capsys, "rotate", name, *where, 0.2)[0] == NOT_ONLINE
    code, said = limpet(capsys, "wipe", name, "--yes", *where, 0.2)
    assert (code, said["applied"], said["waiting"]) == (NOT_ONLINE, [], [name])
    sim.start(board.name)
    code, said = limpet(capsys, "wipe", name, "--yes", *where, 60)
    assert (code, said["applied"]) == (OK, [name])
    with Ledger() as ledger:
        assert ledger.units() == []
    assert not device_accounts(broker)


def test_up_keeps_to_what_it_was_told(fleet, capsys, tmp_path):
    broker, [(board, _)] = fleet(1)
    up = ("up", f"sim:{board.name}", "--broker")
    assert limpet(capsys, *up, broker.settings.folder, "--name", "other")[0] == ENROLLED
    assert limpet(capsys, *up, tmp_path / "none")[0] == NO_BROKER
    assert not (tmp_path / "none").exists()


def test_a_blank_board_has_nothing_to_wipe(sim_factory, capsys):
    board = sim_factory()
    assert cli.main(["wipe", "--port", f"sim:{board.name}", "--yes"]) == OK
    assert "holds no credential: nothing to wipe" in capsys.readouterr().out


def test_wiped_by_cable(fleet, capsys):
    broker, [(board, name)] = fleet(1)
    code, said = limpet(capsys, "wipe", "--port", f"sim:{board.name}", "--yes")
    assert (code, said["name"]) == (OK, name)
    assert not device_accounts(broker)
    code, said = limpet(capsys, "up", f"sim:{board.name}", "--broker", broker.settings.folder)
    assert code == OK and said["enrolled"]


def test_a_broker_that_forges_replays_or_withholds_alters_nothing(fleet, capsys):
    broker, [(_, name)] = fleet(1)
    where = ("--broker", broker.settings.folder)
    topic = f"limpet/{name}/kit/set"
    with Ledger() as ledger:
        unit = ledger.named(name)
    vault = bytes.fromhex(unit.vault)
    own = protocol.control_key(kitkey.load().secret, vault)
    fields = protocol.encode([(protocol.SERVER, b"forged.example:8883")])
    forged = protocol.control_box(Secret(bytes(32)), vault, protocol.CHANGE, 50, fields)
    with KitClient(broker.settings) as kit:
        kit.subscribe(topic)
        assert limpet(capsys, "rotate", name, *where)[0] == OK
        replayed = kit.wait(lambda t, payload: len(payload) > 80, 5)[1]
        assert limpet(capsys, "rotate", name, *where)[0] == OK
        kit.subscribe(f"limpet/{name}/kit/ack")
        for box in (forged, forged[:-1], bytes(592), replayed):
            kit.publish(topic, box, retain=True)
        ack = kit.wait(
            lambda t, payload: (
                t.endswith("/ack")
                and protocol.read_ack(own, vault, payload).state == protocol.STALE
            ),
            20,
        )
        assert ack
        kit.publish(topic, b"", retain=True)
    assert answers(broker, name)
    with Ledger() as ledger:
        assert ledger.named(name).generation == 3


def test_a_killed_kit_leaves_nothing_open(fleet, capsys, monkeypatch):
    """Cut between its rows: the next run ends with one account that works."""
    broker, [(_, name)] = fleet(1)
    where = ("--broker", broker.settings.folder)
    for state in ("SENDING", "SENT"):
        real = Ledger.move

        def cut(self, change, to, *rest, state=state, real=real, **more):
            if to == state:
                raise KeyboardInterrupt  # as a kill: this row stays as it is
            return real(self, change, to, *rest, **more)

        monkeypatch.setattr(Ledger, "move", cut)
        cli.main(["rotate", name, *map(str, where)])
        monkeypatch.setattr(Ledger, "move", real)
        capsys.readouterr()
        code, said = limpet(capsys, "rotate", name, *where)
        assert (code, said["applied"]) == (OK, [name]), state
        assert len(device_accounts(broker)) == 1
        assert answers(broker, name)


def put_back(board, image):
    board.kill()
    board.image.write_bytes(image)
    sim.start(board.name)


def test_an_older_image_put_back_is_refused_and_the_kit_says_so(fleet, capsys):
    """No board could notice it: its account has ended, and the cable tells its generation."""
    broker, [(board, name)] = fleet(1)
    board.kill()
    image = board.image.read_bytes()
    sim.start(board.name)
    assert answers(broker, name)
    assert limpet(capsys, "rotate", name, "--broker", broker.settings.folder)[0] == OK
    put_back(board, image)
    with SerialLog(str(board.device)) as log:
        assert log.wait("REFUSED", 30)
    assert limpet(capsys, "status")[1]["units"][0]["older"] == 0
    code, said = limpet(capsys, "status", f"sim:{board.name}")
    assert (code, said["generation"], said["known_generation"]) == (OK, 1, 2)
    assert said["source"] == "soft" and f"limpet revoke {name}" in said["alert"]
    cli.main(["status"])
    assert "ALERT: " + said["alert"] in capsys.readouterr().out
    assert limpet(capsys, "ledger", "show", name)[1]["alert"] == said["alert"]
    with Ledger() as ledger:
        assert ledger.named(name).generation == 2


def test_a_flash_copied_to_another_board_does_not_open(fleet, sim_factory, capsys):
    """A record is bound to the chip's number: the copy has no account that it could use."""
    broker, [(board, name)] = fleet(1)
    other = sim_factory()
    put_back(other, board.image.read_bytes())
    with SerialLog(str(other.device)) as log:
        said = log.wait("UNPROVISIONED", 20)
    assert said and "another board's" in said
    assert answers(broker, name)


def test_an_older_image_that_may_still_log_in_is_reported_at_the_next_change(fleet, capsys):
    """A change of servers leaves the account: the older image comes online, and tells."""
    broker, [(board, name)] = fleet(1)
    board.kill()
    image = board.image.read_bytes()
    sim.start(board.name)
    server_now = f"127.0.0.1:{broker.settings.port}"
    where = ("--broker", broker.settings.folder)
    done = limpet(capsys, "rotate", name, "--server", server_now, *where)
    assert done[0] == OK and not done[1]["alerts"]
    put_back(board, image)
    assert answers(broker, name)
    code, said = limpet(capsys, "rotate", name, *where)
    assert code == OK and "generation 1" in said["alerts"][name]
    with Ledger() as ledger:
        assert (ledger.named(name).generation, ledger.named(name).older) == (2, 1)
    code, said = limpet(capsys, "rotate", name, *where)
    assert code == OK and not said["alerts"]  # it has gone on from there
    assert limpet(capsys, "ledger", "clear", name)[1]["cleared"]
    with Ledger() as ledger:
        assert not ledger.named(name).alert
    code, said = limpet(capsys, "status", f"sim:{board.name}")
    assert (code, said["unit"], said["alert"]) == (OK, name, None)
    assert said["board"]["scrub_due"] and answers(broker, name)  # its program runs again

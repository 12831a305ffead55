"""`limpet broker`: make a broker's folder, run the broker, look whether it is well."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

from .. import ca, paths, registry
from ..broker import (
    backup,
    client,
    given,
    matrix,
    mosquitto,
    rabbitmq,
    server,
    settings,
    state,
    timekeeper,
)
from ..broker.connect import ACCEPTED
from ..broker.files import write_private
from ..console import Console, ask, typed_secret
from ..errors import NO_BROKER, NOT_FIT, OK, USAGE, KitError
from ..ledger import Ledger
from . import action as add_action
from . import move, renew
from .ledger import free

HELP = "make and run the broker that boards log in to"
EPILOG = "example:  limpet broker init --host broker.local 192.168.1.20 && limpet broker run"
SOON_DAYS = 30
_FOLDER = "the broker's folder (default: broker in the kit's own folder)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(
        name: str, words: str, example: str, folder: bool = True
    ) -> argparse.ArgumentParser:
        sub = add_action(actions, name, words, example)
        if folder:
            sub.add_argument("folder", metavar="DIR", nargs="?", type=Path, help=_FOLDER)
        return sub

    init = action(
        "init",
        "make a broker: CA, server certificate, settings",
        "limpet broker init ~/broker --host broker.local 192.168.1.20",
    )
    init.add_argument(
        "--host",
        metavar="NAME",
        nargs="+",
        action="extend",
        help="names and addresses that boards will dial, the first is written into them",
    )
    init.add_argument("--port", type=_port, default=settings.PORT, help="(default: %(default)s)")
    init.add_argument("--rsa", action="store_true", help="RSA keys: faster for an RP2040 to check")
    init.add_argument(
        "--profile",
        choices=settings.KINDS["mosquitto"],
        help="what devices log in with (default: binary passwords; text with --embedded)",
    )
    init.add_argument("--embedded", action="store_true", help="do not use Mosquitto")
    init.add_argument(
        "--cluster",
        metavar="HOST",
        nargs="+",
        action="extend",
        help="use RabbitMQ, on these machines together (three, or one to begin with), by the "
        "names or IPv4 addresses under which they and the boards reach each other",
    )
    init.add_argument("--loopback", action="store_true", help="for programs on this machine only")
    init.add_argument("--yes", action="store_true", help="take the addresses found, do not ask")
    use = action(
        "use",
        "units for a broker that you have: Home Assistant's, a hosted one",
        "limpet broker use mqtt.example.org --ca ca.crt --accounts logins.txt ~/mine",
        folder=False,
    )
    use.add_argument("server", metavar="HOST[:PORT]", help=f"(port: {settings.PORT})")
    use.add_argument("folder", metavar="DIR", type=Path, help="the broker's folder, made here")
    use.add_argument(
        "--ca", metavar="FILE", type=Path, required=True, help="the one CA that boards shall trust"
    )
    use.add_argument(
        "--accounts",
        metavar="FILE",
        required=True,
        help="name:password lines, mode 0600 (- is stdin): the first is the kit's and may read "
        "and write limpet/#, each other one is given to one device; again with more: they are "
        "added",
    )
    begin = action("run", "run the broker until Ctrl-C", "limpet broker run ~/broker")
    check = action("check", "is it running and well?", "limpet broker check ~/broker --json")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    status = action(
        "status",
        "check, and: version, sessions, refused logins and failed handshakes by hour",
        "limpet broker status ~/broker",
    )
    status.add_argument("--json", action="store_true", help="print one JSON object")
    sync = action(
        "sync",
        "make the ledger's accounts the broker's, and see that it took them",
        "limpet broker sync ~/broker",
    )
    sync.add_argument(
        "--force", action="store_true", help="also if that drops more than 10 %% of the accounts"
    )
    sync.add_argument("--json", action="store_true", help="print one JSON object last")
    action(
        "homeassistant",
        "an account for Home Assistant; boards may announce themselves to it (MQTT discovery)",
        "limpet broker homeassistant ~/broker",
    )
    asked = action(
        "matrix",
        "which credentials do brokers really take? Logs in with every kind of byte",
        "limpet broker matrix   (the kinds on this machine)\n"
        "  limpet broker matrix --draw accounts.csv   (for the operator of another broker), then\n"
        "  limpet broker matrix broker.example:8883 --ca ca.crt --accounts accounts.csv",
        folder=False,
    )
    asked.add_argument("host", metavar="HOST[:PORT]", nargs="?", help="a broker that runs")
    asked.add_argument("--ca", metavar="FILE", type=Path, help="its CA (default: the system's)")
    asked.add_argument("--draw", metavar="FILE", type=Path, help="write the accounts it needs")
    asked.add_argument("--accounts", metavar="FILE", type=Path, help="accounts it was given")
    asked.add_argument("--json", action="store_true", help="print one JSON object last")
    move.arguments(action("move", move.HELP, move.EXAMPLE, folder=False))
    renew.arguments(action("renew", renew.HELP, renew.EXAMPLE))
    for name, words, example in (
        (
            "backup",
            "settings, accounts, CA, ledger and kit keys into one encrypted file",
            "limpet broker backup limpet.backup   (the passphrase is asked for, twice)\n"
            "  limpet broker backup limpet.backup ~/broker < passphrase.txt",
        ),
        (
            "restore",
            "bring back what `backup` wrote; overwrites nothing",
            "limpet broker restore limpet.backup && limpet broker sync && limpet broker run\n"
            "  limpet broker restore limpet.backup ~/broker < passphrase.txt",
        ),
    ):
        kept = action(name, words, example, folder=False)
        kept.add_argument("file", metavar="FILE", type=Path, help="the encrypted file")
        kept.add_argument("folder", metavar="DIR", nargs="?", type=Path, help=_FOLDER)
        kept.add_argument("--json", action="store_true", help="print one JSON object last")
    end = action("stop", "end a broker that runs in the background", "limpet broker stop ~/broker")
    for one in (begin, end):
        one.add_argument(
            "--node", metavar="HOST", help="which of a cluster's machines this is (default: the "
            "first)",
        )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    if args.action == "matrix":
        return compare(args)
    if args.action == "move":
        return move.run(args)
    folder = args.folder or paths.home() / "broker"
    if args.action == "init":
        return init(folder, args)
    if args.action == "use":
        return use(folder, args)
    if args.action == "restore":
        return restore(folder, Console(args.json), args.file)
    chosen = settings.load(folder, getattr(args, "node", None))
    if chosen.given and args.action not in ("check", "status"):
        raise KitError(
            f"{chosen.server} is your broker: it is not ours to run, sync or back up.", NO_BROKER
        )
    if args.action == "backup":
        return back_up(chosen, Console(args.json), args.file)
    if args.action == "run":
        return foreground(chosen)
    if args.action in ("check", "status"):
        return check(chosen, Console(args.json), more=args.action == "status")
    if args.action == "renew":
        return renew.run(chosen, Console(args.json))
    if args.action == "sync":
        return sync(chosen, Console(args.json), args.force)
    if args.action == "homeassistant":
        return homeassistant(chosen, Console())
    broker = server.open_broker(chosen)
    Console().line("stopped" if broker.running() else "it was not running")
    broker.stop()
    return OK


def init(folder: Path, args: argparse.Namespace) -> int:
    """Make the folder and say what comes next."""
    console = Console()
    hosts = args.cluster or []
    if hosts and (args.embedded or args.loopback):
        raise KitError("--cluster goes without --embedded and --loopback.", USAGE)
    names = args.host or hosts or _choose_names(args.loopback, args.yes)
    made = settings.create(
        folder,
        names,
        args.port,
        settings.RABBITMQ if hosts else "embedded" if args.embedded else "auto",
        "127.0.0.1" if args.loopback else None,
        args.rsa,
        profile=args.profile,
        hosts=hosts,
    )
    console.line(f"Made a broker in {made.folder}.")
    console.line(f"  runs on     {describe(made)}")
    console.line(
        f"  boards dial {', '.join(made.servers)}  (also valid: {', '.join(made.names[1:])})"
    )
    console.line(f"  certificate for {ca.days_left(made.folder):.0f} days, its CA for longer")
    if made.hosts:
        _tell_nodes(made, console)
    elif made.listen == "127.0.0.1":
        console.line("  only programs on this machine reach it: simulated boards, no real ones")
    else:
        console.line(
            f"  firewall    let TCP port {made.port} in from the boards' network, for instance: "
            f"sudo ufw allow {made.port}/tcp"
        )
        console.line(
            "  addresses   boards refuse a server whose name or address is not in its "
            "certificate. Give this machine a fixed address in your router (DHCP reservation), "
            "or have boards dial a name that stays."
        )
    console.line(f"Next: limpet broker run {made.folder}")
    return OK


def _tell_nodes(made: settings.Settings, console: Console) -> None:
    """How the machines of a cluster are set up."""
    console.line(f"  firewall    boards: TCP port {made.port}; the kit: {made.api_port}")
    console.line(
        f"              between the nodes alone: {made.node_port}, and 4369 (Erlang's epmd)"
    )
    for host in made.hosts[1:]:
        console.line(f"  copy        scp -pr {made.folder} {host}:   (it holds the CA's key)")
    for host in made.hosts:
        console.line(f"  on {host}: limpet broker run DIR --node {host}")


def use(folder: Path, args: argparse.Namespace) -> int:
    """Make the folder of a broker that is there, and say what comes next."""
    console = Console()
    host, port = settings.parse_server(args.server)
    made = given.use(folder, host, port, args.ca, given.read(args.accounts))
    console.line(f"The kit logs in at {made.server} as {made.account} (profile {made.profile}).")
    console.line(f"  folder      {made.folder}")
    console.line(f"  accounts    {given.left(made)} that no device has yet")
    console.line(
        "  yours       nothing is administered there: what an account may do, and its end, is "
        "up to you"
    )
    console.line(f"Next: limpet doctor {made.server} --broker {made.folder}")
    console.line(f"      limpet up PORT --broker {made.folder}")
    return OK


def describe(chosen: settings.Settings) -> str:
    """The program and what its passwords are like, in words."""
    if chosen.kind == "embedded":
        return "the embedded broker (amqtt), profile text: 43-character passwords, few boards"
    if chosen.hosts:
        number = ".".join(map(str, rabbitmq.version(rabbitmq.require())))
        nodes = f"{len(chosen.hosts)} nodes" if len(chosen.hosts) > 1 else "one node"
        return f"RabbitMQ {number}, {nodes}, profile {chosen.profile}"
    number = ".".join(map(str, mosquitto.version(mosquitto.require())))
    words = {
        "psk": "a shared key for each device, TLS without certificates",
        "x509": "a certificate for each device",
    }.get(chosen.profile, "unguessable passwords of any bytes")
    return f"Mosquitto {number}, profile {chosen.profile}: {words}"


def foreground(chosen: settings.Settings) -> int:
    """Run until Ctrl-C or SIGTERM; SIGHUP reads the accounts again."""
    broker = server.open_broker(chosen)
    wanted: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def forward(number: int, frame: FrameType | None) -> None:
        hang_up = number == signal.SIGHUP and sys.stdin is not None and sys.stdin.isatty()
        if number == signal.SIGHUP and not hang_up:
            broker.reload()
            return
        wanted.append(number)
        broker.signal(signal.SIGTERM if len(wanted) == 1 else signal.SIGKILL)

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in caught:
        signal.signal(number, interrupt)
    broker.start(log=False)
    for number in caught:
        signal.signal(number, forward)
    with timekeeper.Timekeeper(chosen.alone):
        console = Console()
        console.line(f"{chosen.server} is up: {describe(chosen)}. Ctrl-C stops it.")
        while (code := broker.wait()) is None and not wanted:
            console.warn("the node was cut off and could not come back; it is started anew")
            try:
                broker.start(log=False)
            except KitError:
                if not wanted:
                    raise
    if not wanted:
        raise KitError(f"The broker ended by itself, with code {code}.", NO_BROKER)
    return OK


def sync(chosen: settings.Settings, console: Console, force: bool) -> int:
    """Export the ledger's accounts; OK also when the broker does not run."""
    began = time.monotonic()
    with Ledger() as ledger:
        missing, surplus = registry.unsynced(ledger, chosen)
        taken = registry.sync(ledger, chosen, force)
        count = sum(1 for _ in ledger.accounts(chosen.kit))
    took = time.monotonic() - began
    console.line(
        f"{count} accounts of devices: {len(missing)} new or changed, {len(surplus)} gone"
    )
    if taken:
        console.line(f"the broker took them after {took:.2f} s")
    else:
        console.warn(
            f"the broker does not run; they count from: limpet broker run {chosen.folder}"
        )
    console.result(
        {
            "ok": True,
            "accounts": count,
            "changed": len(missing),
            "gone": len(surplus),
            "taken": taken,
            "seconds": round(took, 3),
        }
    )
    return OK


def homeassistant(chosen: settings.Settings, console: Console) -> int:
    """Let Home Assistant and the boards meet, and say what to enter there."""
    chosen = settings.admit_homeassistant(chosen)
    with Ledger() as ledger:
        taken = registry.sync(ledger, chosen)
    host = chosen.names[0] if chosen.kit_port == chosen.port else chosen.kit_address
    console.line("In Home Assistant: Settings, Devices & services, Add integration, MQTT:")
    console.line(f"  broker       {host}, port {chosen.kit_port}")
    console.line(f"  user name    {chosen.home_account}, also as client id")
    console.line(f"  password     is in {chosen.home_password_file}")
    console.line(
        f"  advanced     broker certificate validation: custom, {chosen.folder / 'ca.crt'}"
    )
    console.line("It may watch and command every board of this broker, and nothing else.")
    if not taken:
        console.warn(f"The broker does not run. Start it: limpet broker run {chosen.folder}")
    return OK


def compare(args: argparse.Namespace) -> int:
    """The table of what brokers take: those of this machine, or the one that was named."""
    console = Console(args.json)
    if args.draw:
        free(args.draw)
        matrix.save(matrix.draw(), args.draw)
        console.line(f"Drew accounts into {args.draw}. Have the broker know them, without rights,")
        console.line(f"then: limpet broker matrix HOST:PORT --ca FILE --accounts {args.draw}")
        console.result({"ok": True, "file": str(args.draw)})
        return OK
    columns = {}
    with console.progress("logging in") as advance:
        if args.host:
            if not args.accounts:
                raise KitError(
                    "Which accounts does it have? Draw some for its operator with --draw FILE, "
                    "and name that file with --accounts FILE.",
                    USAGE,
                )
            where = settings.parse_server(args.host)
            named = matrix.Server(*where, client.trusting(args.ca))
            columns[args.host] = matrix.ask(named, matrix.load(args.accounts), advance)
        else:
            for kind, name in matrix.installed().items():
                columns[name] = matrix.of_kind(kind, advance)
    console.line(matrix.table(columns).rstrip())
    found = {name: matrix.profile(answers) for name, answers in columns.items()}
    for name, best in found.items():
        words = f"profile {best}" if best else "no credential of this kit is safe there"
        console.line(f"{name}: {words}")
    fit = all(found.values())
    console.result({"ok": fit, "brokers": columns, "profiles": found})
    return OK if fit else NOT_FIT


def back_up(chosen: settings.Settings, console: Console, file: Path) -> int:
    """One encrypted file of this broker and of the kit on this machine."""
    free(file)
    passphrase = typed_secret(f"passphrase (not shown, {backup.SHORTEST} characters or more)")
    entries = backup.gather(chosen)
    write_private(file.absolute(), backup.seal(entries, passphrase))
    keys = sum("/" not in name and name.endswith(".key") for name in entries)
    console.line(f"{file} holds the broker in {chosen.folder}, the ledger, and kit keys: {keys}.")
    console.line("Keep the passphrase elsewhere: without it nobody can open the file.")
    if not keys:
        console.warn("There is no kit key here; boards that were enrolled elsewhere need theirs.")
    console.result({"ok": True, "file": str(file), "files": sorted(entries), "kit_keys": keys})
    return OK


def restore(folder: Path, console: Console, file: Path) -> int:
    """The broker of a backup in `folder`, ledger and kit keys in the kit's own folder."""
    backup.check(file)
    backup.vacant(folder)
    passphrase = typed_secret("passphrase (not shown)", twice=False)
    entries = backup.unseal(file, passphrase)
    made = backup.restore(entries, folder)
    console.line(f"Restored the broker in {made.folder}, ledger and kit keys in {paths.home()}.")
    console.line(
        "Boards go on dialling "
        f"{made.server}, which must lead to this machine. What was enrolled or rotated after the "
        "backup is not known here and has to be enrolled anew."
    )
    console.line(f"Next: limpet broker sync {made.folder} && limpet broker run {made.folder}")
    console.result({"ok": True, "folder": str(made.folder), "files": sorted(entries)})
    return OK


def check(chosen: settings.Settings, console: Console, more: bool = False) -> int:
    """Say how the broker is; `more` adds version, sessions and refused logins."""
    if chosen.given:
        return check_given(chosen, console)
    running, why = server.open_broker(chosen).running(), ""
    accepted = False
    try:
        if running:
            kit = chosen.kit_accounts[-1]
            accepted = client.login(chosen, kit, chosen.kit_password()) == ACCEPTED
            why = "" if accepted else "it refuses the kit's account"
    except KitError as e:
        why = str(e)
    with Ledger() as ledger:
        missing, surplus = registry.unsynced(ledger, chosen)
    left = ca.days_left(chosen.folder)
    nodes = state.nodes(chosen) if running else {}
    fine = running and accepted and left > 0 and state.APART not in nodes.values()
    said = {
        "ok": fine,
        "folder": str(chosen.folder),
        "server": chosen.server,
        "kind": chosen.kind,
        "profile": chosen.profile,
        "running": running,
        "login": accepted,
        "days_left": round(left, 1),
        "unsynced": len(missing) + len(surplus),
        **({"nodes": nodes} if nodes else {}),
    }
    console.line(f"{chosen.server}: {'running' if running else 'not running'}, {chosen.kind}")
    console.line(f"login of the kit: {'accepted' if accepted else why or 'not tried'}")
    console.line(f"certificate: {left:.0f} days left")
    for host, how in nodes.items():
        console.line(f"node {host}: {how}")
    if more:
        said.update(_more(chosen, console, accepted))
    if not running:
        console.warn(f"Start it with: limpet broker run {chosen.folder}")
    for host in (host for host, how in nodes.items() if how == state.APART):
        console.warn(
            f"The node {host} is a broker of its own, which knows no device. Stop it, remove its "
            f"node-{chosen.hosts.index(host) + 1} there, and start it while the others run."
        )
    if missing or surplus:
        console.warn(
            f"The broker lacks {len(missing)} accounts of the ledger and has {len(surplus)} too "
            f"many. Bring it into step with: limpet broker sync {chosen.folder}"
        )
    if left < SOON_DAYS:
        console.warn(
            f"The server certificate in {chosen.folder} ends soon or has ended. Make it anew "
            f"with: limpet broker renew {chosen.folder}"
        )
    console.result(said)
    return OK if fine else NO_BROKER


def check_given(chosen: settings.Settings, console: Console) -> int:
    """Say how a broker is that is not ours: what the kit can see of it."""
    given.hear(chosen)
    left, days = given.left(chosen), ca.days_left(chosen.folder, "ca.crt")
    console.line(f"{chosen.server}: your broker, it is not ours to run")
    console.line(f"login of the kit: accepted, as {chosen.account}")
    console.line(f"accounts that no device has yet: {left}")
    console.line(f"its CA: {days:.0f} days left")
    console.result(
        {
            "ok": True,
            "folder": str(chosen.folder),
            "server": chosen.server,
            "kind": chosen.kind,
            "profile": chosen.profile,
            "login": True,
            "accounts_left": left,
            "ca_days_left": round(days, 1),
        }
    )
    return OK


def _more(chosen: settings.Settings, console: Console, accepted: bool) -> dict[str, object]:
    """What only `status` says."""
    version, sessions = state.told(chosen) if accepted else (None, None)
    failed = state.failures(chosen)
    console.line(f"version: {version or 'not told'}")
    console.line(
        f"sessions: {'not told' if sessions is None else sessions}, the kit's own among them"
    )
    if failed is None:
        console.line(
            "refused logins: no log is kept (limpet broker run writes it to the terminal)"
        )
        return {"version": version, "sessions": sessions, "refused": None, "handshakes": None}
    for what, hours in (
        ("refused logins", failed.refused),
        ("failed TLS handshakes", failed.handshakes),
    ):
        total = "not told" if hours is None else sum(hours.values())
        console.line(f"{what} in {state.HOURS} hours: {total}")
        for hour, count in (hours or {}).items():
            console.line(f"  {hour.replace('T', ' ')} h  {count}")
    return {"version": version, "sessions": sessions, **failed._asdict()}


def _choose_names(loopback: bool, yes: bool) -> list[str]:
    """The names boards will dial: asked for on a terminal, with what this machine has on offer."""
    if loopback:
        return list(settings.LOOPBACK)
    found = addresses()
    if yes and found:
        return found
    if not sys.stdin.isatty():
        raise KitError(
            "Which address will boards dial? Say it with --host NAME..., or --loopback for "
            "simulated boards on this machine only.",
            USAGE,
        )
    offers = "".join(f"  {number}  {name}\n" for number, name in enumerate(found, 1))
    question = (
        "Which names or addresses will boards dial? The first is written into them.\n"
        f"{offers}  0  this machine only (simulated boards)\n"
        "numbers or names, separated by spaces: "
    )
    while True:
        answer = ask(question).replace(",", " ").split()
        if not answer:
            raise KitError("No address was chosen; nothing was made.", USAGE)
        if answer == ["0"]:
            return list(settings.LOOPBACK)
        names = [found[int(word) - 1] if word in _numbers(found) else word for word in answer]
        try:
            for name in names:
                ca.general_name(name)
        except KitError as e:
            question = f"{e}\nnumbers or names, separated by spaces: "
        else:
            return names


def addresses() -> list[str]:
    """This machine's address in its network, `name.local`, and its full name, as far as known."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved (RFC 5737); UDP: nothing is sent
            found.append(str(probe.getsockname()[0]))
        except OSError:
            pass
    name = socket.gethostname()
    found += [name.split(".")[0] + ".local", *([name] if "." in name else [])]
    return [
        n for n in dict.fromkeys(found) if _fits(n) and not n.startswith(("127.", "localhost"))
    ]


def _fits(name: str) -> bool:
    try:
        return bool(ca.general_name(name))
    except KitError:
        return False


def _numbers(found: list[str]) -> set[str]:
    return {str(number) for number in range(1, len(found) + 1)}


def _port(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if not 0 < number < 65536:
        raise argparse.ArgumentTypeError("a number from 1 to 65535")
    return number

"""`limpet web`: serve the web page, and say who may log in to it."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import paths, registry
from ..broker import server, settings
from ..console import Console, typed_secret
from ..errors import NO_BROKER, OK, USAGE, KitError
from ..secret import Secret
from ..web import people, serve
from ..web.people import People, Person
from . import action
from .ledger import when

HELP = "serve the web page that shows and commands devices; say who may log in"
EPILOG = """examples:
  limpet web user add anna --devices lamp-1 lamp-2    who may log in
  limpet web                                          until Ctrl-C; then https://HOST:8443/

The page's certificate is the broker's own: browsers trust it once ca.crt of the broker's folder
is among their authorities."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    parser.add_argument(
        "--broker", metavar="DIR", type=Path, help="the broker's folder (default: the kit's own)"
    )
    parser.add_argument("--port", type=int, default=serve.PORT, help="(default: %(default)s)")
    parser.add_argument("--listen", metavar="ADDRESS", help="(default: the broker's)")
    parser.add_argument(
        "--hours",
        type=float,
        default=serve.LIFE_S / 3600,
        help="that a log-in lasts (default: %(default).0f)",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    user = actions.add_parser("user", help="people who may log in")
    users = user.add_subparsers(dest="user", metavar="ACTION", required=True)
    add = _user(users, "add", "a new person", "limpet web user add anna --devices lamp-1 lamp-2")
    change = _user(
        users,
        "change",
        "another password or other devices",
        "limpet web user change anna --every-device",
    )
    for sub in (add, change):
        sub.epilog = f"{sub.epilog}\n\nThe password is asked for without echo, or read from stdin."
        which = sub.add_mutually_exclusive_group(required=sub is add)
        which.add_argument(
            "--devices", metavar="DEVICE", nargs="+", help="the person's devices, by name"
        )
        which.add_argument(
            "--every-device",
            action="store_true",
            help="all devices, also later ones",
        )
    change.add_argument("--password", action="store_true", help="ask for a new password")
    _user(users, "remove", "lock a person out, live pages too", "limpet web user remove anna")
    listed = action(users, "list", "all people and their devices", "limpet web user list")
    listed.add_argument("--json", action="store_true", help="print one JSON list")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    if args.action is None:
        return _serve(args)
    console = Console(args.json)
    seated: list[Path] = []
    with People() as ledger:
        if args.user == "list":
            return _list(console, ledger.people())
        if args.user == "add":
            ledger.add_person(args.name, _password(), None if args.every_device else args.devices)
            words = f"{args.name} may log in"
        elif args.user == "change":
            if not (args.password or args.devices or args.every_device):
                raise KitError("Say what is to change: limpet web user change --help", USAGE)
            password = _password() if args.password else None
            seated = ledger.change_person(args.name, password, args.devices, args.every_device)
            words = f"{args.name} was changed and has to log in again"
        else:
            seated = ledger.remove_person(args.name)
            words = f"{args.name} is out"
        console.line(words)
        for folder in seated:
            registry.sync(ledger, settings.load(folder))
    console.result({"ok": True, "name": args.name})
    return OK


def _serve(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    if not 0 < args.port < 65536 or not 0 < args.hours <= 24 * 30:
        raise KitError("--port is 1 to 65535, --hours more than 0 and 720 at most.", USAGE)
    console = Console()
    chosen = settings.load(args.broker or paths.home() / "broker")
    if chosen.given:
        raise KitError(
            f"{chosen.server} is your broker: the page needs one whose accounts the kit writes.",
            NO_BROKER,
        )
    if not server.open_broker(chosen).running():
        raise KitError("The broker does not run. Start it with: limpet broker run", NO_BROKER)
    with People() as ledger:
        nobody = not ledger.people()
    host = f"[{chosen.names[0]}]" if ":" in chosen.names[0] else chosen.names[0]
    console.line(f"https://{host}:{args.port}/  until Ctrl-C")
    console.line(f"a browser trusts it with {chosen.folder / 'ca.crt'} among its authorities")
    if nobody:
        console.warn("nobody may log in yet: limpet web user add NAME --every-device")
    serve.serve(chosen, args.listen or chosen.listen, args.port, args.hours * 3600)
    return OK


def _list(console: Console, found: list[Person]) -> int:
    for person in found:
        devices = "every device" if person.devices is None else " ".join(person.devices)
        console.line(f"{person.name:<20} {devices}")
    if not found:
        console.line("Nobody yet. Let somebody in with: limpet web user add NAME --every-device")
    console.result(
        [
            {
                "name": person.name,
                "devices": None if person.devices is None else list(person.devices),
                "created": when(person.created),
            }
            for person in found
        ]
    )
    return OK


def _password() -> Secret:
    return typed_secret(f"password (not shown, {people.SHORTEST} characters or more)")


def _user(
    users: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    words: str,
    example: str,
) -> argparse.ArgumentParser:
    sub = action(users, name, words, example)
    sub.add_argument("name", metavar="NAME", help="3 to 32 of a-z, 0-9 and -")
    sub.add_argument("--json", action="store_true", help="print one JSON object last")
    return sub

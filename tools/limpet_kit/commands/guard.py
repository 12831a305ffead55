"""`limpet guard`: who guesses at the broker's door is kept out, by fail2ban and nftables."""

from __future__ import annotations

import argparse
import ipaddress
import time
from pathlib import Path

from .. import paths
from ..broker import accounts, client, export, mosquitto, rabbitmq_api, server, settings, state
from ..broker.settings import Settings
from ..console import Console
from ..errors import FAILED, OK, REFUSED, KitError
from ..guard import alerts, files, filters, jail, messengers, thresholds
from ..guard.owner import as_owner
from ..secret import Secret
from . import action as add_action

HELP = "ban addresses that guess passwords at the broker (fail2ban, nftables)"
EPILOG = """examples:
  sudo limpet guard install ~/broker --allow 192.168.1.0/24 --command '~/tell-me.sh'
  sudo limpet guard test ~/broker
  sudo limpet guard unban 203.0.113.7"""
_LOG_S = 5.0  # for a refused login to stand in the log
_LAST = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, words: str, example: str) -> argparse.ArgumentParser:
        sub = add_action(actions, name, words, example)
        if name not in ("alert", "fuse"):
            sub.add_argument(
                "--fail2ban", metavar="DIR", type=Path, default=jail.FOLDER, help="its folder"
            )
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    def folder(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("folder", metavar="DIR", nargs="?", type=Path, help="the broker's folder")
        sub.add_argument("--node", metavar="HOST", help="which node of RabbitMQ this machine is")

    install = action(
        "install",
        f"ban for good at {thresholds.REFUSALS} refused logins in {thresholds.WINDOW_S // 60} min",
        "sudo limpet guard install ~/broker --allow 192.168.1.0/24",
    )
    folder(install)
    install.add_argument(
        "--allow", metavar="ADDR", nargs="+", action="extend", default=[], type=_network,
        help="addresses or networks that are never banned",
    )  # fmt: skip
    install.add_argument("--command", help="a shell command to run at an alert (LIMPET_ALERT_*)")
    install.add_argument("--mail", metavar="ADDR", help="send alerts there by mail")
    install.add_argument(
        "--smtp",
        metavar="HOST:PORT",
        default=messengers.SMTP,
        help="which takes the mail, without a login (default: %(default)s)",
    )
    folder(action("status", "who is banned, the last alerts", "sudo limpet guard status ~/broker"))
    unban = action("unban", "let addresses in again", "sudo limpet guard unban 203.0.113.7")
    unban.add_argument("address", metavar="ADDR", nargs="+", type=_address)
    folder(
        action(
            "test", "does it see a refused login, and alert?", "sudo limpet guard test ~/broker"
        )
    )
    alert = action(
        "alert",
        "what fail2ban calls: tell the owner",
        "limpet guard alert ~/broker --what test --address 192.0.2.7 --count 10 --seconds 600",
    )
    folder(alert)
    alert.add_argument("--what", choices=alerts.KINDS, required=True)
    who = alert.add_mutually_exclusive_group(required=True)
    who.add_argument("--address", type=_address)
    who.add_argument("--account")
    alert.add_argument("--count", required=True, type=int)
    alert.add_argument("--seconds", required=True, type=int)

    folder(
        action(
            "fuse",
            "what fail2ban asks: does the broker know no device, so that nobody is to be banned?",
            "limpet guard fuse ~/broker",
        )
    )


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    console = Console(args.json)
    if args.action == "unban":
        return unban(console, args.fail2ban, args.address)
    chosen = settings.load(args.folder or paths.home() / "broker", args.node)
    if args.action == "alert":
        told = alerts.alert(
            chosen, args.what, args.count, args.seconds, args.address or "", args.account or ""
        )
        console.result({"ok": True, **told})
        return OK
    if args.action == "fuse":
        blown = _knows_no_device(chosen)
        console.line("it knows no device" if blown else "it knows devices")
        console.result({"ok": True, "blown": blown})
        return OK if blown else FAILED
    if args.action == "install":
        return install(console, chosen, args)
    if args.action == "status":
        return status(console, chosen, args.fail2ban)
    return test(console, chosen, args.fail2ban)


def install(console: Console, chosen: Settings, args: argparse.Namespace) -> int:
    """Write fail2ban's files, have the broker log what they need, load them."""
    if chosen.kind not in ("mosquitto", settings.RABBITMQ):
        raise KitError(
            "The guard reads the log of Mosquitto or RabbitMQ; this broker is the embedded one.",
            REFUSED,
        )
    if chosen.kit_port != chosen.port:
        raise KitError(
            f"With profile {chosen.profile} a stranger fails in TLS, and Mosquitto's log names no "
            "address for that. There is no password to guess either.",
            REFUSED,
        )
    version = () if chosen.hosts else mosquitto.version(mosquitto.require())
    written = files.render(chosen, version, args.allow, args.fail2ban)
    if _knows_no_device(chosen):
        raise KitError(
            "The broker knows no device yet, so it refuses every one, and the guard would ban "
            "them. Enrol one first (limpet up), or bring the ledger in: limpet broker sync",
            REFUSED,
        )
    jail.require()
    files.write(written, args.fail2ban)
    with as_owner(chosen.folder):
        messengers.configure(chosen.folder, args.command, args.mail, args.smtp)
        state.log_of(chosen).parent.mkdir(mode=0o700, exist_ok=True)
        state.log_of(chosen).touch(mode=0o600)
        broker = server.open_broker(chosen)
        if not chosen.hosts and broker.running():
            mosquitto.prepare(chosen)
            broker.reload()
    loaded = jail.load(args.fail2ban, files.jails(chosen))
    console.line(
        f"Guard of port {chosen.port}: {thresholds.REFUSALS} refused logins in "
        f"{thresholds.WINDOW_S // 60} min ban an address for good (IPv6: its /64)."
    )
    console.line(f"  alerts      {chosen.folder / alerts.LOG}, topic {messengers.TOPIC}")
    console.line(f"  log         {state.log_of(chosen)} grows; see the guard's README")
    if not loaded:
        console.warn("fail2ban does not run yet. Start it with: sudo systemctl start fail2ban")
    console.result({"ok": loaded, "loaded": loaded, "refusals": thresholds.REFUSALS})
    return OK if loaded else FAILED


def status(console: Console, chosen: Settings, fail2ban: Path) -> int:
    """Say who is banned, who is known, and what was told last."""
    held = {name: jail.banned(fail2ban, name) for name in files.jails(chosen)}
    held.setdefault(files.SHUT, [])
    told = alerts.last(chosen.folder, _LAST)
    for jail_name, what in ((files.BANNED, "banned"), (files.SHUT, "shut")):
        for address in held[jail_name]:
            console.line(f"{what:<11} {address}")
    console.line(
        f"{len(held[files.BANNED])} banned, {len(held[files.SHUT])} shut out for a day, "
        f"{len(held[files.GOOD])} known sites"
    )
    for one in told:
        console.line(f"{one['at']}  {alerts.words(one)}")
    console.result(
        {
            "ok": True,
            "banned": held[files.BANNED],
            "shut": held[files.SHUT],
            "spared": held[files.KNOWN],
            "known": held[files.GOOD],
            "alerts": told,
        }
    )
    return OK


def unban(console: Console, fail2ban: Path, addresses: list[str]) -> int:
    """Release addresses."""
    freed = [address for address in addresses if jail.unban(fail2ban, address)]
    for address in addresses:
        console.line(f"{address} {'may come again' if address in freed else 'was not banned'}")
    console.result({"ok": True, "freed": freed})
    return OK


def test(console: Console, chosen: Settings, fail2ban: Path) -> int:
    """The filter on known lines, a refused login of our own, an alert; bans nobody."""
    version = None if chosen.hosts else mosquitto.version(mosquitto.require())
    jail.tell(fail2ban, "status", files.BANNED)
    wrong = [line for line, who in filters.samples(version) if jail.counted(line, fail2ban) != who]
    if wrong:
        raise KitError(f"The filter reads this line wrongly: {wrong[0]}")
    console.line(
        f"filter      {len(filters.samples(version))} lines, forged ones among them: right"
    )
    log = state.log_of(chosen)
    before = log.stat().st_size
    with as_owner(chosen.folder):
        client.login(chosen.alone, "guard-test", Secret(b"wrong"))
    if not _logged(log, before, fail2ban):
        raise KitError("A refused login does not stand in the broker's log. Restart the broker.")
    console.line("log         names the address of a refused login")
    with as_owner(chosen.folder):
        alerts.alert(chosen, "test", 0, 0, chosen.address)
    console.line(f"alert       sent: {chosen.folder / alerts.LOG}, topic {messengers.TOPIC}")
    console.result({"ok": True})
    return OK


def _knows_no_device(chosen: Settings) -> bool:
    if not chosen.hosts:
        return not any(accounts.is_devices(name) for name in export.read(chosen.folder))
    with rabbitmq_api.Api(chosen) as api:
        return not any(accounts.is_devices(user["name"]) for user in api.get("users?columns=name"))


def _logged(log: Path, since: int, fail2ban: Path) -> bool:
    end = time.monotonic() + _LOG_S
    while time.monotonic() < end:
        with open(log, "rb") as file:
            file.seek(since)
            lines = file.read().decode("utf-8", "replace").splitlines()
        if any(jail.counted(line, fail2ban) for line in lines if "CONN" in line or "auth" in line):
            return True
        time.sleep(0.1)
    return False


def _address(text: str) -> str:
    try:
        alerts.network(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no IP address") from None
    return text


def _network(text: str) -> str:
    try:
        found = ipaddress.ip_network(text, strict=False)
        longest = 64 if found.version == 6 else 32  # of IPv6 a /64 is what is counted
        return str(found.supernet(new_prefix=longest) if found.prefixlen > longest else found)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no address and no network") from None

"""Accounts on their way into a broker's folder: the two files in which Mosquitto and the embedded
broker read them, and from which rabbitmq_api.py tells its nodes what changed.

`passwords` holds `NAME:$7$ROUNDS$SALT$HASH` lines (mosquitto_passwd's format: PBKDF2-HMAC-SHA512,
12 bytes of salt, 64 bytes of hash, base64); `acl` holds `user NAME` and `topic ACCESS FILTER`
lines, ACCESS being read, write or readwrite (mosquitto.conf(5), acl_file). Mosquitto quits on a
file it does not understand, so everything is checked before a byte is written. Accounts without a
password lie in files of their own (keyed.py).

100,000 accounts are 40 MB of text. They are compared as text, and only what differs is taken
apart and checked: 0.65 s for one account more, instead of 2.1 (measured, without the broker).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from ..errors import FAILED, REFUSED, KitError
from ..secret import Secret
from . import keyed
from .accounts import PROBE_PREFIX, Account, check, check_verifier, is_devices
from .files import write_private

PASSWORDS = "passwords"
ACL = "acl"
_BETWEEN, _TOPIC = "\n\n", "\ntopic "  # the rules of two accounts; two rules of one
_FEW_LOST = 2  # may always go
_FEW = 20  # names that are found sooner one by one


class Export:
    """Accounts that are to be those of a folder, beside what its files hold now.

    `changed` are those that the files lack or have otherwise; `leaving` those that the files alone
    have, by name, one of them for a cut export that had written the other. Probes are none of
    either.
    """

    def __init__(self, folder: Path, listed: Iterable[Account]) -> None:
        self._folder = folder
        # As text: to keep 100,000 objects has Python look for garbage again and again.
        self._names: list[str] = []
        self._logins: list[str] = []
        self._rules: list[str] = []
        for account in listed:
            self._names.append(account.name)
            self._logins.append(_login(account))
            self._rules.append(_rules(account))
        proved = _keyed(folder)
        self._proves = bool(proved)
        self._there = [*_items(_text(folder / PASSWORDS), "\n"), *proved]
        logins, new_logins = _apart(self._there, self._logins)
        rules, new_rules = _apart(_blocks(folder), self._rules)
        self.changed = [self._account(place) for place in sorted(new_logins | new_rules)]
        names = set(self._names)
        known = _accounts(folder, logins, rules)
        ruled = {_ruled(block) for block in rules if "\n" in block}
        self._lost = {name for name in {*known, *ruled} - names if is_devices(name)}
        self.leaving = {
            name: known.get(name, Account(name, "", ""))
            for name in {*known, *ruled}
            if name not in names and not name.startswith(PROBE_PREFIX)
        }

    def write(
        self,
        more: Iterable[Account] = (),
        force: bool = False,
        gone: Iterable[str] = (),
        fresh: Iterable[Secret] = (),
    ) -> None:
        """Replace the files by the listed accounts and `more`, of which a probe may be one.

        Raises `KitError` and changes nothing when an account is not well-formed or occurs twice,
        or (without `force`) when too many accounts would vanish at once: an empty or stale ledger
        must not lock a fleet out. Two may always go, and beyond that 10 % of those that are in the
        file; those of the kit, of probes and of web pages do not count, nor those whose names are
        in `gone`. `fresh` are shared keys that no file holds yet.
        """
        more = list(more)
        for account in [*self.changed, *more]:  # the others were checked when they were written
            check(account)
        if not force:
            self._check_loss(set(gone))
        names = [*self._names, *(account.name for account in more)]
        if len(set(names)) != len(names):
            raise KitError("An account occurs twice in the export; nothing was written.", FAILED)
        logins = [*self._logins, *map(_login, more)]
        proved = {}
        if self._proves or any(keyed.is_keyed(a.verifier) for a in [*self.changed, *more]):
            kept = [login.removeprefix(f"{n}:") for n, login in zip(names, logins, strict=True)]
            proved = {n: v for n, v in zip(names, kept, strict=True) if keyed.is_keyed(v)}
            logins = [login for login in logins if _named(login) not in proved]
        # Passwords first: whoever is cut off here leaves new accounts without rights, never the
        # other way round, and the next export completes it.
        keyed.write(self._folder, proved, fresh)
        _replace(self._folder / PASSWORDS, logins, "\n")
        _replace(self._folder / ACL, [*self._rules, *map(_rules, more)], _BETWEEN)

    def _check_loss(self, gone: set[str]) -> None:
        lost = len(self._lost - gone)
        if lost <= _FEW_LOST:
            return
        there = max(lost, sum(map(is_devices, self._there)) - len(self._lost & gone))
        allowed = max(_FEW_LOST, there // 10)
        if lost > allowed:
            raise KitError(
                f"This export would drop {lost} of {there} accounts from {self._folder}, more "
                f"than the {allowed} that may go at once. Is it the right ledger? Nothing was "
                "written. If it is right: limpet broker sync --force",
                REFUSED,
            )

    def _account(self, place: int) -> Account:
        name = self._names[place]
        acl = self._rules[place].removeprefix(f"user {name}").replace(_TOPIC, "\n")
        return Account(name, self._logins[place].removeprefix(f"{name}:"), acl.removeprefix("\n"))


def write(folder: Path, listed: Iterable[Account], force: bool = False) -> None:
    """`Export.write` of these accounts and no others."""
    Export(folder, listed).write(force=force)


def read(folder: Path, only: Collection[str] | None = None) -> dict[str, Account]:
    """All accounts of the files by name, or `only` some; who has no ACL may do nothing.

    Raises `KitError` on a line that is not ours.
    """
    if only is None:
        logins = [*_items(_text(folder / PASSWORDS), "\n"), *_keyed(folder)]
        return _accounts(folder, logins, _blocks(folder))
    logins = [*_picked(_text(folder / PASSWORDS), "\n", only), *_keyed(folder)]
    rules = _picked(_text(folder / ACL), _BETWEEN, only)
    return _accounts(folder, [login for login in logins if _named(login) in only], rules)


def read_acl(folder: Path, only: Collection[str] | None = None) -> dict[str, str]:
    """Account name to its `access filter` lines, as the file says. `only` of these names."""
    if only is None:
        return _acl(folder, _blocks(folder))
    return _acl(folder, _picked(_text(folder / ACL), _BETWEEN, only))


def read_passwords(folder: Path, only: Collection[str]) -> dict[str, str]:
    """Account name to verifier, as the file says, of those of these names that have a password."""
    found = _picked(_text(folder / PASSWORDS), "\n", only)
    return {name: account.verifier for name, account in _accounts(folder, found, ()).items()}


def changed(before: Path, after: Path) -> tuple[set[str], dict[str, Account]]:
    """Who has a password in the folder `before` that `after` lacks or has otherwise; and accounts
    with a password in `after` that `before` lacks or has otherwise."""
    old_logins, new_logins = _differing(before / PASSWORDS, after / PASSWORDS, "\n")
    _, new_rules = _differing(before / ACL, after / ACL, _BETWEEN)
    named, ruled = set(map(_named, new_logins)), set(map(_ruled, new_rules))
    found = _accounts(after, new_logins, new_rules)
    if half := named ^ ruled:
        found.update(read(after, half))
    return set(map(_named, old_logins)), found


def _login(account: Account) -> str:
    return f"{account.name}:{account.verifier}"


def _rules(account: Account) -> str:
    if not account.acl:
        return f"user {account.name}"
    return f"user {account.name}\n{account.acl}".replace("\n", _TOPIC)


def _named(login: str) -> str:
    return login.partition(":")[0]


def _ruled(block: str) -> str:
    return block.partition("\n")[0].removeprefix("user ")


def _accounts(folder: Path, logins: Iterable[str], blocks: Iterable[str]) -> dict[str, Account]:
    acl = _acl(folder, blocks)
    found = {}
    for login in logins:
        name, _, verifier = login.partition(":")
        if not keyed.is_keyed(verifier):
            check_verifier(verifier)
        found[name] = Account(name, verifier, acl.get(name, ""))
    return found


def _acl(folder: Path, blocks: Iterable[str]) -> dict[str, str]:
    found = {}
    for block in blocks:
        user, *lines = block.split(_TOPIC)
        if not user.startswith("user ") or block.count("\n") != len(lines):
            raise KitError(f"{folder / ACL} holds a line that the kit did not write.", FAILED)
        found[user.removeprefix("user ")] = "\n".join(lines)
    return found


def _keyed(folder: Path) -> list[str]:
    return [f"{name}:{verifier}" for name, verifier in keyed.read(folder).items()]


def _blocks(folder: Path) -> list[str]:
    """The rules of a folder: an item an account."""
    return _items(_text(folder / ACL), _BETWEEN)


def _items(text: str, mark: str) -> list[str]:
    """What lies between the marks: an item an account."""
    return list(filter(None, text.strip("\n").split(mark)))


def _picked(text: str, mark: str, names: Collection[str]) -> list[str]:
    """The items of these accounts; of few, each is found sooner than all are taken apart."""
    name_of, head, foot = (_named, "", ":") if mark == "\n" else (_ruled, "user ", "\n")
    if len(names) > _FEW:
        return [item for item in _items(text, mark) if name_of(item) in names]
    text = f"{mark}{text}{mark}"
    places = [text.find(f"{mark}{head}{name}{foot}") for name in names]
    starts = [place + len(mark) for place in places if place >= 0]
    return [text[start : text.index(mark, start)] for start in starts]


def _differing(before: Path, after: Path, mark: str) -> tuple[set[str], set[str]]:
    """Items that the one file has and the other has not, and the other way round."""
    old, new, between = _bytes(before), _bytes(after), mark.encode()
    begin, end = _alike(old, new)
    begin = old.rfind(between, 0, begin) + 1
    rest = old.find(between, len(old) - end)
    tail = len(old) - rest if rest >= 0 else 0
    one = set(_items(_decoded(old[begin : len(old) - tail], before), mark))
    other = set(_items(_decoded(new[begin : len(new) - tail], after), mark))
    return one - other, other - one


def _apart(old: list[str], new: list[str]) -> tuple[set[str], set[int]]:
    """Items of `old` that `new` has not, and where in `new` those are that `old` has not."""
    begin, end = _alike(old, new)
    there = set(old[begin : len(old) - end])
    middle = new[begin : len(new) - end]
    places = {begin + n for n, item in enumerate(middle) if item not in there}
    return there.difference(middle), places


def _alike(one: Sequence[object], other: Sequence[object]) -> tuple[int, int]:
    """How many items two sequences begin with alike, and with how many of the rest they end."""
    one_end, other_end = len(one), len(other)
    most = min(one_end, other_end)
    begin = _reach(most, lambda low, high: one[low:high] == other[low:high])
    end = _reach(
        most - begin,
        lambda low, high: (
            one[one_end - high : one_end - low] == other[other_end - high : other_end - low]
        ),
    )
    return begin, end


def _reach(most: int, same: Callable[[int, int], bool]) -> int:
    """How far, of `most`, all is the same; `same(low, high)` compares a part."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if same(low, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _text(path: Path) -> str:
    return _decoded(_bytes(path), path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _decoded(text: bytes, path: Path) -> str:
    try:
        return text.decode("ascii")
    except UnicodeDecodeError:
        raise KitError(f"{path} was not written by the kit: it is not ASCII.", FAILED) from None


def _replace(path: Path, items: list[str], mark: str) -> None:
    write_private(path, (mark.join(items) + mark).encode("ascii") if items else b"")

"""What an export changes is found in the text, and is what a comparison of all accounts finds."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from limpet_kit.broker import accounts, export
from limpet_kit.broker.accounts import Account
from limpet_kit.secret import Secret

VERIFIERS = [accounts.verifier(Secret(b"x")) for _ in range(2)] + ["serial:1f", "serial:2f"]
NAMES = [f"a{n}" for n in range(12)] + ["a", "kit-x-1", "probe-1", "web-1"]
RULES = ["", "read a", "read a\nwrite a/+", accounts.device_acl("lamp-1")]
LISTS = st.lists(
    st.builds(Account, st.sampled_from(NAMES), st.sampled_from(VERIFIERS), st.sampled_from(RULES)),
    unique_by=lambda account: account.name,
)


def _passwords(listed):
    return [account for account in listed if account.verifier in VERIFIERS[:2]]


def _named(listed):
    return {account.name: account for account in listed}


@settings(max_examples=300, deadline=None)
@given(LISTS, LISTS, st.integers(0, 20))
def test_an_export_finds_what_it_changes(before, after, alike):
    """Certificates are left out of `before`: they are made by an authority (test_ca.py)."""
    before = _passwords(before)
    after = [*before[:alike], *(a for a in after if a.name not in _named(before[:alike]))]
    old, new = _named(before), _named(after)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        export.write(folder, before, force=True)
        found = export.Export(folder, after)
        assert _named(found.changed) == {n: a for n, a in new.items() if old.get(n) != a}
        assert found.leaving == {
            n: a for n, a in old.items() if n not in new and not n.startswith("probe-")
        }
        assert export.read(folder) == old
        for some in (NAMES[:3], NAMES[10:12], ["a", "b"], NAMES + [f"b{n}" for n in range(30)]):
            assert export.read(folder, some) == {n: a for n, a in old.items() if n in some}


@settings(max_examples=300, deadline=None)
@given(LISTS, LISTS, st.integers(0, 20))
def test_two_folders_are_compared_without_taking_all_apart(before, after, alike):
    before, after = _passwords(before), _passwords(after)
    after = [*before[:alike], *(a for a in after if a.name not in _named(before[:alike]))]
    old, new = _named(before), _named(after)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        export.write(Path(one), before, force=True)
        export.write(Path(other), after, force=True)
        leaving, found = export.changed(Path(one), Path(other))
        assert leaving == {
            n for n, a in old.items() if n not in new or new[n].verifier != a.verifier
        }
        assert found == {n: a for n, a in new.items() if old.get(n) != a}

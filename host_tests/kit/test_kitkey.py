"""Which of several kit keys is a unit's."""

import pytest
from limpet_kit import kitkey, paths
from limpet_kit.errors import KitError


def test_a_line_key_is_enough(home):
    line = kitkey.load(make=True, file=paths.home() / "line.key")
    assert not kitkey.path().exists()
    assert kitkey.of(line.id, "lamp-1").id == line.id


def test_the_right_one_of_several(home):
    line, own = (kitkey.load(True, paths.home() / f"{stem}.key") for stem in ("line", "kit"))
    assert line.id != own.id
    assert [kitkey.of(key.id, "lamp-1").id for key in (line, own)] == [line.id, own.id]
    with pytest.raises(KitError, match="another kit key"):
        kitkey.of("0" * 16, "lamp-3")


def test_none_at_all(home):
    with pytest.raises(KitError, match="missing"):
        kitkey.of("0" * 16, "lamp-1")

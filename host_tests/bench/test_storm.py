"""The storm at a fiftieth of its size: the same N/R and the same share that may wait."""

import pytest
from bench import storm

SMALL = {"devices": 2_000, "rate": 25.0}  # 100,000 at 1,250/s
WAIT = 20  # 1,000 of 100,000


def small(policy, down, backlog, **more):
    case = storm.Case(policy, down=down, backlog=backlog, **SMALL, **more)
    return case, storm.simulate(case)


@pytest.mark.parametrize(("backlog", "most"), [(0, 1.1), (WAIT, 1.7)])
@pytest.mark.parametrize("compute", [0.0, 1.3], ids=["at once", "RP2040"])
def test_our_fleet_is_back_in_time_and_nothing_is_paid_for_in_vain(backlog, most, compute):
    case, result = small("limpet", 5, backlog, compute=compute)
    assert result.back == case.devices
    assert result.ratio(case) <= most
    assert result.vain < 0.1


def test_a_cut_of_ten_seconds_never_comes_back():
    # The model must show the livelock, otherwise it proves nothing about our own cut.
    _, result = small("full jitter 1 .. 60 s, 10 s cut", 5, 0)
    assert result.all is None and result.vain > 5


def test_our_own_schedule_with_a_short_cut_never_comes_back_either(monkeypatch):
    monkeypatch.setattr(storm.Limpet, "cut", 10.0)
    case, result = small("limpet", 5, 0)
    assert result.all is None or result.ratio(case) > 2


def test_no_fleet_is_faster_than_the_broker():
    for policy in storm.POLICIES:
        case, result = small(policy, 5, 0)
        assert result.all is None or result.ratio(case) > 0.99


def test_a_short_blip_costs_a_second():
    assert storm.blip(1_000) <= storm.BLIP


def test_after_a_minute_nearly_all_are_back_soon():
    case, result = small("limpet", 60, 0)
    assert result.most is not None and result.most < 1.3 * case.devices / case.rate
    assert result.all is not None and result.all < 310  # the cap of the schedule

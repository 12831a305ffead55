"""The device's schedule after a refusal, held against the guard's threshold."""

import inspect

import limpet.retry as retry
import pytest
from limpet.client import Client
from limpet_kit.broker import settings
from limpet_kit.errors import REFUSED, KitError
from limpet_kit.guard import files, filters, thresholds

SOONEST = 0  # what `random` gives for the shortest wait
DAY_S = 86_400


def refusals(began, day=DAY_S):
    """Seconds at which a device is refused, at its fastest: both records at each try."""
    at, step, found = began, 1, []
    while at < day:
        found += [at] * thresholds.DEVICE_REFUSALS
        at += retry.refusal(step, lambda: SOONEST) / 1000
        step += 1
    return found


def most_at_once(times):
    times = sorted(times)
    return max(sum(1 for t in times if 0 <= t - first <= thresholds.WINDOW_S) for first in times)


def test_the_shortest_wait_is_the_device_s_own():
    assert retry.refusal(1, lambda: SOONEST) == thresholds.DEVICE_WAIT_S * 1000
    assert thresholds.DEVICE_WAIT_S > thresholds.WINDOW_S


@pytest.mark.parametrize("apart", [0, 1, 60, 599])
def test_four_refused_devices_of_one_site_do_not_trip_it(apart):
    assert thresholds.DEVICES == 4
    times = [t for device in range(thresholds.DEVICES) for t in refusals(device * apart)]
    assert most_at_once(times) < thresholds.REFUSALS


def test_four_sites_in_mid_rotation_do_not_trip_it():
    """Behind one address: each site's device has a new record that the broker does not know."""
    mid_rotation = [t for site in range(4) for t in refusals(site * 10)[:1]]  # the pending one
    assert most_at_once(mid_rotation) < thresholds.REFUSALS
    lost_both = [t for site in range(4) for t in refusals(site * 10)]
    assert most_at_once(lost_both) == 8 < thresholds.REFUSALS


def test_one_device_more_would():
    times = [t for _ in range(thresholds.DEVICES + 1) for t in refusals(0)]
    assert most_at_once(times) >= thresholds.REFUSALS


def test_devices_that_do_not_trust_the_server_do_not_trip_it():
    """Each at its fastest, all of them at one site where nobody ever logged in."""
    schedule, at, times = retry.Retry(lambda: SOONEST), 0, []
    while at < DAY_S:
        times.append(at)
        at += schedule.wait(retry.UNTRUSTED) / 1000
    assert most_at_once(times) == thresholds.UNTRUSTED_TRIES
    assert thresholds.UNTRUSTED_DEVICES == 74
    assert most_at_once(times * thresholds.UNTRUSTED_DEVICES) < thresholds.CONNECTIONS


def test_a_device_with_links_that_go_dead_is_no_clone():
    """It notices after 1.5 keep-alives, and logs in while the broker still holds the old link."""
    keepalive_s = inspect.signature(Client).parameters["keepalive"].default
    assert keepalive_s * 3 // 2 >= thresholds.DEAD_LINK_S
    assert thresholds.WINDOW_S // thresholds.DEAD_LINK_S < thresholds.TAKE_OVERS


@pytest.mark.parametrize("version", [(1, 6, 9), (2, 0, 10), (2, 0, 12), (2, 0, 20), (2, 1, 0)])
def test_versions_without_an_address_are_refused_with_words(version):
    with pytest.raises(KitError, match=r"does not log the address") as e:
        filters.refused(version)
    assert e.value.code == REFUSED


def test_a_folder_that_would_need_quoting_is_refused(tmp_path):
    made = settings.create(tmp_path / "a b", ["localhost"], kind="embedded")
    with pytest.raises(KitError, match="letters, digits") as e:
        files.render(made, (2, 0, 11), [], tmp_path)
    assert e.value.code == REFUSED

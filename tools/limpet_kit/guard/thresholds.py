"""How many refused logins of an address are too many, and how many an honest site can make.

One file for both, because they belong together: who changes the device's schedule
(lib/limpet/retry.py, `refusal`) sees here what the guard makes of it, and
host_tests/kit/test_guard_thresholds.py holds the two against each other.
"""

from __future__ import annotations

REFUSALS = 10  # of one address within WINDOW_S: it is banned at the tenth
WINDOW_S = 600

# What a refused device does: it tries its pending and its confirmed record, once each, and then
# waits for an hour or longer, times 0.8 to 1.2, over resets too.
DEVICE_REFUSALS = 2
DEVICE_WAIT_S = 3600 * 4 // 5

# Broken or revoked devices of one site (one address) that still do not ban it.
DEVICES = (REFUSALS - 1) // DEVICE_REFUSALS

KNOWN_S = 30 * 86400  # a site with a good login is known for this long
KNOWN_AGAIN_S = WINDOW_S  # a known site's refusals make one alert in this time

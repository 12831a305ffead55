"""How much of an address is too much, and how much an honest site can make. An address is, of
IPv6, the /64 that it lies in.

One file for both, because they belong together: who changes the device's schedule
(lib/limpet/retry.py, `refusal`) sees here what the guard makes of it, and
host_tests/kit/test_guard_thresholds.py holds the two against each other.
"""

from __future__ import annotations

REFUSALS = 10  # of one address within WINDOW_S: it is banned at the tenth
WINDOW_S = 600  # for all that is counted here

# What a refused device does: it tries its pending and its confirmed record, once each, and then
# waits for an hour or longer, times 0.8 to 1.2, over resets too.
DEVICE_REFUSALS = 2
DEVICE_WAIT_S = 3600 * 4 // 5

# Broken or revoked devices of one site (one address) that still do not ban it.
DEVICES = (REFUSALS - 1) // DEVICE_REFUSALS

# Connections of an address from which nobody ever logged in: scanners, handshakes that fail, and
# silence. They guess nothing, so the limit is higher and the address is shut out for a day only.
CONNECTIONS = 300
SHUT_S = 86_400
# A device that does not trust the server waits 1, 2, 4 ... minutes, times 0.8 at the shortest: so
# often does it come within WINDOW_S. Every site but a new one is known, and spared.
UNTRUSTED_TRIES = 4
UNTRUSTED_DEVICES = (CONNECTIONS - 1) // UNTRUSTED_TRIES

# Logins under an account that is logged in. A device does that to itself after a link that went
# dead without a word, and needs more than a minute to notice; two that share an account throw each
# other out every few seconds.
TAKE_OVERS = 20
DEAD_LINK_S = 60

KNOWN_S = 30 * 86400  # a site with a good login is known for this long
KNOWN_AGAIN_S = WINDOW_S  # a known site's refusals make one alert in this time

"""A RabbitMQ node that was cut off from the others and does not come back.

Cut off, it closes its listeners and waits until it reaches most of the nodes; then it starts again
within its process. Where the cut ends just as it is noticed, RabbitMQ 3.10.8 (Erlang 25) sometimes
stays half-way for ever, for one of two reasons that were seen: its management agent meets two
connections of one node, or Erlang's `global` waits for an answer that was lost (rabbitmq-server
issue 6034). Its process lives, and the other nodes take it for running. A new process comes up.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Settings

STUCK_S = 45.0  # that it may take to start again within its process; on a busy machine 20
_REACH_S = 1.0


class Stuck:
    """Watches the node of these settings, on its machine; `now` is the time in s."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._since: float | None = None

    def look(self) -> bool:
        """Whether it reached most of the nodes for STUCK_S, by each look, and did not listen."""
        if self._listens() or not self._reaches_most():
            self._since = None
            return False
        self._since = self._now() if self._since is None else self._since
        return self._now() - self._since >= STUCK_S

    def _listens(self) -> bool:
        """Asked of the kernel: a connection would be a line in the node's log."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._settings.bound, self._settings.port))
            except OSError as e:
                return e.errno == errno.EADDRINUSE
        return False

    def _reaches_most(self) -> bool:
        hosts = self._settings.hosts
        reached = 1
        for number, host in enumerate(hosts):
            if number != self._settings.node:
                try:
                    where = (host, self._settings.node_port)
                    socket.create_connection(where, _REACH_S).close()
                    reached += 1
                except OSError:
                    pass
        return 2 * reached > len(hosts)

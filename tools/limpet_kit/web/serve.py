"""The page's server: HTTPS with the broker's own certificate, on a port beside the broker's."""

from __future__ import annotations

import asyncio
import socket
import ssl

import uvicorn

from ..broker.settings import Settings
from ..errors import NO_BROKER, KitError
from . import bridge
from .app import Page

PORT = 8443
LIFE_S = 8 * 3600.0


def serve(settings: Settings, listen: str, port: int, life_s: float) -> None:
    """Serve until SIGINT or SIGTERM. Raises `KitError` when the port cannot be had."""
    page = Page(settings, life_s)
    config = uvicorn.Config(
        page.application(port),
        host=listen,
        port=port,
        ssl_certfile=settings.folder / "server.crt",
        ssl_keyfile=str(settings.folder / "server.key"),
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
        ws_max_size=bridge.LARGEST,
        ws_per_message_deflate=False,
        limit_concurrency=1000,
        timeout_graceful_shutdown=3,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
    )
    try:  # before anything begins, which would log everybody out of the page that has the port
        family = socket.getaddrinfo(listen, port, type=socket.SOCK_STREAM)[0][0]
        both = listen == "::" and socket.has_dualstack_ipv6()
        bound = socket.create_server((listen, port), family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as e:
        raise KitError(
            f"The web page cannot be served on {listen}, port {port}: {e}. Another port: "
            "limpet web --port N; another address: --listen",
            NO_BROKER,
        ) from None
    with bound:
        asyncio.run(page.begin())
        try:
            uvicorn.Server(config).run(sockets=[bound])
        except SystemExit:  # it has said why on stderr
            raise KitError("The web page could not be served.", NO_BROKER) from None

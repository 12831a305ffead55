"""The page's server: HTTPS with the broker's own certificate, on a port beside the broker's."""

from __future__ import annotations

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
    config = uvicorn.Config(
        Page(settings, life_s).application(port),
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
    try:
        uvicorn.Server(config).run()
    except SystemExit:  # it has said why on stderr
        raise KitError(
            f"The web page could not be served on {listen}, port {port}. Is the port taken? "
            "Another one: limpet web --port N",
            NO_BROKER,
        ) from None

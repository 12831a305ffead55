"""Limpet: an MQTT client that clings to the one server it has verified."""

import gc

__version__ = "0.1.0"


def Client(*args, **options):
    """`limpet.client.Client`, loaded when first asked for: enrolment does without its memory."""
    # In parts: what each leaves behind of its loading is the room of the next one. All at once
    # they leave 18 KB more in small holes.
    for part in ("vault", "trust", "link", "session", "keeper", "client"):
        gc.collect()
        __import__("limpet." + part)
    from .client import Client

    return Client(*args, **options)

"""Limpet: an MQTT client that clings to the one server it has verified."""

__version__ = "0.1.0"


def Client(*args, **options):
    """`limpet.client.Client`, loaded when first asked for: enrolment does without its memory."""
    from .client import Client

    return Client(*args, **options)

"""What is left of old secrets in a flash image."""

from limpet_kit.audit import canary

FRAGMENT = canary.FRAGMENT
_BLANK = b"\xff" * 256


def secrets_in(image, secrets):
    """Places where a secret, or 16 bytes from anywhere of it, lies raw, in hex or in base64."""
    known = [canary.Canary.of(f"secret {n}", value) for n, value in enumerate(secrets)]
    return canary.search(image, known)


def fragments_in(image, values):
    """Offsets in the image at which 16 bytes from anywhere of one of the values lie."""
    wanted = {v[i : i + FRAGMENT] for v in values for i in range(len(v) - FRAGMENT + 1)}
    return [
        at
        for page in range(0, len(image), 256)
        if image[page : page + 256] != _BLANK or image[page + 256 : page + 512] != _BLANK
        for at in range(page, page + 256)
        if image[at : at + FRAGMENT] in wanted
    ]

"""Does a certificate name the server we dialled (RFC 9525, 6.3 and 6.4). Pure, bytes only."""


def matches(pattern, host):
    """Whether a dNSName, in lower case, stands for `host`.

    Equal, or one whole left-most wildcard label with at least two labels behind it.
    """
    if pattern == host:
        return True
    if pattern[:2] != b"*." or b"*" in pattern[2:] or b"." not in pattern[2:-1]:
        return False
    dot = host.find(b".")
    return dot > 0 and host[dot:] == pattern[1:]


def address(host):
    """The 4 or 16 bytes of an IP address as text, as they stand in iPAddress; otherwise None."""
    if b":" in host:
        return _ipv6(host)
    parts = host.split(b".")
    if len(parts) != 4:
        return None
    try:
        return bytes([_number(part, 10, 255) for part in parts])
    except ValueError:
        return None


def _ipv6(host):
    head, gap, tail = host.partition(b"::")
    try:
        left = [_number(part, 16, 0xFFFF) for part in head.split(b":")] if head else []
        right = [_number(part, 16, 0xFFFF) for part in tail.split(b":")] if tail else []
    except ValueError:
        return None
    missing = 8 - len(left) - len(right)
    if missing < 0 or bool(missing) != bool(gap):
        return None
    return b"".join([group.to_bytes(2, "big") for group in left + [0] * missing + right])


def _number(text, base, highest):
    """Digits only: int() would take signs, spaces and underscores as well."""
    for c in text:
        if not (48 <= c <= 57 or (base == 16 and 97 <= c <= 102)):
            raise ValueError
    n = int(text, base)
    if n > highest or len(text) > 4:
        raise ValueError
    return n

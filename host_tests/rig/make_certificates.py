"""Writes host_tests/unit/certificates.py anew: `python host_tests/rig/make_certificates.py`.

MicroPython cannot make certificates, so its unit tests read these. The dates are fixed; the tests
bring their own clock.
"""

import base64
import hashlib
import textwrap
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from limpet_kit.attack.certificates import Identity, issue

OUT = Path(__file__).parents[1] / "unit" / "certificates.py"
BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
END = datetime(2027, 1, 1, tzinfo=timezone.utc)
HEAD = '''"""Certificates for the unit tests, made by rig/make_certificates.py: DER, 2026."""

from binascii import a2b_base64

'''


def made() -> dict[str, bytes]:
    def one(*arguments, **options) -> Identity:
        options.setdefault("begin", BEGIN)
        return issue(*arguments, **{"end": END, **options})

    host = ["broker.example"]
    tree = x509.NameConstraints([x509.DNSName("example")], None)
    root = one(ca=True, end=datetime(2050, 6, 1, tzinfo=timezone.utc))
    limited = one(ca=True, constraints=tree)
    between = one(issuer=root, ca=True, common_name="between")
    leaf = one(host, root)
    return {
        "root": root.der,
        "root_sha1": one(ca=True, key="rsa2048", hash="sha1").der,
        "limited": limited.der,
        "between": between.der,
        "leaf": leaf.der,
        "leaf_pin": hashlib.sha256(leaf.key_info).digest(),
        "rsa": one(host, root, key="rsa2048").der,
        "rsa1024": one(host, root, key="rsa1024").der,
        "p224": one(host, root, key="p224").der,
        "p384": one(host, root, key="p384").der,
        "p521": one(host, root, key="p521").der,
        "brainpool": one(host, root, key="brainpool256").der,
        "sha224": one(host, root, hash="sha224").der,
        "sha1": one(host, key="rsa2048", hash="sha1").der,
        "sha384": one(host, root, hash="sha384").der,
        "wildcard": one(["*.lan.example"], root).der,
        "top_level": one(["*.example"], root).der,
        "address": one(["192.0.2.7", "2001:db8::7"], root).der,
        "other": one(["broker.lan", "*.lan", "x" * 60 + ".lan", "fourth.lan"], root).der,
        "unnamed": one([], root, common_name="broker.example").der,
        "for_clients": one(host, root, usage=["client"]).der,
        "for_both": one(host, root, usage=["client", "server"]).der,
        "for_nothing": one(host, root, usage=[]).der,
    }


def main() -> None:
    parts = [HEAD]
    for name, der in made().items():
        lines = textwrap.wrap(base64.b64encode(der).decode(), 92)
        text = "\n".join(f'    b"{line}"' for line in lines)
        parts.append(f"{name.upper()} = a2b_base64(\n{text}\n)\n")
    OUT.write_text("".join(parts), "ascii")


if __name__ == "__main__":
    main()

"""Addresses in URLs and certificates."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote


def bracketed(host: str) -> str:
    """Return a host as a URL has it, an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def userinfo(user: str, password: str | None) -> str:
    """Return user and password as a URL has them, the password percent-encoded; empty without either."""
    secret = "" if password is None else f":{quote(password, safe='')}"
    return f"{user}{secret}@" if user or secret else ""


def subject_names(names: list[str]) -> str:
    """Return the value of a certificate's subjectAltName, as openssl takes it, for host names and addresses.

    Each appears once; those that mean all addresses are left out.
    """
    found = dict.fromkeys(name for name in names if name not in ("", "*", "0.0.0.0", "::"))
    return ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in found)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

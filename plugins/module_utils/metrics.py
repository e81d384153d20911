"""Rules that span several variables of the role metrics."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault, wrong


def faults(values: dict, inventory: dict) -> Iterator[Fault]:
    """Yield the faults of values that are each valid."""
    taken: dict[int, str] = {}
    for name, value in values.items():
        if name.endswith("_port") and (other := taken.setdefault(value, name)) != name:
            yield Fault(name, f"is {value}, which {other} already uses; expected another port")
    buckets = [float(one) for one in values["metrics_requests_buckets"]]
    if buckets != sorted(set(buckets)):
        yield wrong(
            "metrics_requests_buckets", values["metrics_requests_buckets"], "each number to be larger than the one before"
        )
    address = values["metrics_listen_address"]
    if not ipaddress.ip_address(address).is_loopback and not values["metrics_allowed_addresses"]:
        yield wrong("metrics_allowed_addresses", [], f"those that may read from {address}, for instance your Prometheus")

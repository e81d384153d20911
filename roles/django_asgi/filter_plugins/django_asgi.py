"""Filters of the role django_asgi."""

import hashlib
import hmac
import json


def release_name(parts, secrets, key):
    """Name a release by a digest of what it is made of.

    `parts` is anything that JSON can hold, `secrets` the app's secret variables, `key` the fleet's key (hex). Returns
    12 hexadecimal digits. The secrets enter through HMAC-SHA256 (RFC 2104), so without the key the name tells nothing
    about them.
    """
    public = json.dumps(parts, sort_keys=True).encode()
    private = hmac.new(key.encode(), json.dumps(secrets, sort_keys=True).encode(), hashlib.sha256).hexdigest()
    return hashlib.sha256(public + private.encode()).hexdigest()[:12]


class FilterModule:
    """The role's filters."""

    def filters(self):
        """The filters by name."""
        return {"django_asgi_release_name": release_name}

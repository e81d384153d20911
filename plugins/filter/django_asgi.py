"""Filters of the role django_asgi."""

import hashlib
import hmac
import json

from ansible_collections.django_asgi.site.plugins.module_utils.django_asgi import jobs


def release_name(parts, secrets, key):
    """Return the name of a release: a digest of its parts and secrets.

    `parts` is any JSON value, `secrets` the app's secret variables, `key` the fleet's key (hex). Returns
    12 hexadecimal digits. The secrets enter through HMAC-SHA256 (RFC 2104), so without the key the name reveals nothing
    about them.
    """
    public = json.dumps(parts, sort_keys=True).encode()
    private = hmac.new(key.encode(), json.dumps(secrets, sort_keys=True).encode(), hashlib.sha256).hexdigest()
    return hashlib.sha256(public + private.encode()).hexdigest()[:12]


def hosts_behind(fleet, releases, leader):
    """Return the names of the hosts on which a deploy has something to do.

    `fleet` is what each host has reported, `releases` the release that each should have (heterogeneous hosts have different
    ones), both by host name; `leader` is the host that should run what runs once in the fleet, empty for none.
    """
    return [
        name
        for name, host in fleet.items()
        if not host["serves"] or host["live"] != releases[name] or host["leader"] != (name == leader)
    ]


def fleet_key(fleet):
    """Return the key that names the fleet's releases: that of the first host with a release, or else of the first host.

    `fleet` is what each host has reported, by host name. Otherwise a new first host would rename every release.
    """
    keys = [host["key"] for host in sorted(fleet.values(), key=lambda host: not host["live"]) if host["key"]]
    return keys[0] if keys else ""


def way_back(fleet, wanted):
    """Return the target of a rollback of the whole fleet: {release, fault}, one of them empty.

    `fleet` is what each host has reported, by host name; `wanted` is the beginning of the release's id, or empty for the
    release before the live one. A fault is a sentence that names the hosts without that release, or with a different one.
    """
    found = {}
    for name, host in fleet.items():
        matches = [release for release in host["order"] if release.startswith(wanted)] if wanted else [host["previous"]]
        found[name] = matches[0] if len(matches) == 1 and matches[0] else ""
    if wanted and not all(found.values()):
        without = ", ".join(name for name, release in found.items() if not release)
        fault = f"No single release that begins with {wanted} has been live on {without}. {_releases_of(fleet)}"
        return {"release": "", "fault": fault}
    if not any(found.values()):
        return {"release": "", "fault": f"No host has a release before the live one. {_releases_of(fleet)}"}
    if len(set(found.values())) > 1:
        ways = "; ".join(f"{name} would return to {release or 'none'}" for name, release in found.items())
        return {
            "release": "",
            "fault": f"The hosts do not agree on the release before the live one: {ways}. Choose a release that all hosts have"
            f" with -e django_asgi_release=ID, or deploy to the hosts that lack it. {_releases_of(fleet)}",
        }
    return {"release": next(iter(found.values())), "fault": ""}


def deploy_warnings(of_bundle, staged, after=()):
    """Return what a deploy has found that its operator should know, each sentence once.

    `of_bundle` is what the bundle of the source has shown; `staged` what each host has answered to the step stage, by host name,
    empty if it staged nothing. A sentence that not every host has found names its hosts. `after` holds what has failed since the
    cut-over.
    """
    hosts = {}
    for name, answer in staged.items():
        for finding in answer.get("findings", []):
            hosts.setdefault(finding, []).append(name)
    found = [text if len(names) == len(staged) else f"{', '.join(names)}: {text}" for text, names in hosts.items()]
    return [*of_bundle, *found, *after]


def _releases_of(fleet):
    return " ".join(f"{name} has: {', '.join(host['order']) or 'none'}." for name, host in fleet.items())


class FilterModule:
    """The filters of the role django_asgi."""

    def filters(self):
        """The filters by name."""
        functions = (release_name, hosts_behind, fleet_key, way_back, deploy_warnings, jobs)
        return {function.__name__: function for function in functions}

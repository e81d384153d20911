"""Check the variables of the role nginx_site against each other and against the controller's files."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault, wrong
from ansible_collections.django_asgi.site.plugins.module_utils.sha512_crypt import salt_of, sha512_crypt

ADDRESS = re.compile(r"[0-9.]+|\[.*\]")
# Each takes two connections and four open files of an nginx worker; the kernel allows a process 1048576 files (fs.nr_open).
MOST_CONNECTIONS = 250000


def tls_mode(value: object) -> str:
    """Return off, self_signed, files or acme; YAML reads an unquoted off as false."""
    mode = str(value).lower()
    return "off" if mode in ("off", "false", "no") else mode


def certificate_names(names: list[str]) -> list[str]:
    """Return names as a certificate has them: nginx's .example.org stands for example.org and *.example.org."""
    return [one for name in names for one in ((name[1:], f"*{name}") if name.startswith(".") else (name,))]


def host_names(names: list[str]) -> list[str]:
    """Return, in lower case, the names of a certificate that an authority can sign; it signs no address over HTTP."""
    return [name.lower() for name in names if name != "_" and not ADDRESS.fullmatch(name)]


def long_connections(site: dict) -> int:
    """Return the number of WebSockets and event streams that a site admits, 0 for no limit.

    In: the site's `max_connections`, `max_long_connections` and `upstream_long_connections`, each 0 if unknown or not set.
    Unless it is set, a tenth of what the application holds stays free, because its workers are never filled quite evenly.
    """
    given, room = site["max_long_connections"], site["upstream_long_connections"]
    if given:
        return min(given, room or given)
    return -(-9 * (room or site["max_connections"]) // 10)


def htpasswd(users: dict[str, str], site: str) -> str:
    """Return the file of a site's users and hashed passwords, a line each; always the same text for the same users.

    The salt follows from the names, never from the password: a salt is public, and would be a quicker way to test guesses.
    """
    return "".join(f"{user}:{sha512_crypt(users[user], salt_of(site, user))}\n" for user in sorted(users))


def faults(values: dict, inventory: dict) -> Iterator[Fault]:
    """Yield the faults of values that are each valid; `inventory` has the `directory` of relative paths."""
    if values["nginx_site_protected_url"] and not values["nginx_site_protected_directory"]:
        expected = f"the directory of the files below {values['nginx_site_protected_url']}"
        yield wrong("nginx_site_protected_directory", "", expected)
    if values["nginx_site_proxy_protocol_enabled"] and not values["nginx_site_trusted_proxies"]:
        yield wrong("nginx_site_trusted_proxies", [], "the addresses that speak the PROXY protocol")
    yield from _of_connections(values)
    if values["nginx_site_worker_open_files"] < 2 * values["nginx_site_worker_connections"]:
        expected = "at least twice nginx_site_worker_connections"
        yield wrong("nginx_site_worker_open_files", values["nginx_site_worker_open_files"], expected)
    if (given := values["nginx_site_extra_template"]) and not _on_controller(Path(inventory["directory"]), given).is_file():
        yield wrong("nginx_site_extra_template", given, "a file on the controller")
    if values["nginx_site_health_allowed"] and not values["nginx_site_health_path"]:
        yield Fault("nginx_site_health_allowed", "has no meaning without nginx_site_health_path; expected both")
    yield from _of_names(values)
    yield from _of_tls(values, Path(inventory["directory"]))


def _of_connections(values: dict) -> Iterator[Fault]:
    """Yield the faults of the limits; those that follow from the number of workers `auto` are 0 here, and fit by themselves."""
    requests, given = values["nginx_site_max_connections"], values["nginx_site_max_long_connections"]
    room = values["nginx_site_upstream_long_connections"]
    if room and given > room:
        expected = (
            f"at most nginx_site_upstream_long_connections, {room}, because the application refuses what exceeds it "
            "(deploy.yml takes it from django_asgi_worker_long_connections and django_asgi_workers)"
        )
        yield wrong("nginx_site_max_long_connections", given, expected)
    long = long_connections({"max_connections": requests, "max_long_connections": given, "upstream_long_connections": room})
    if requests + long > MOST_CONNECTIONS:
        expected = (
            f"at most {MOST_CONNECTIONS} together with the long connections, {long}, because a single nginx worker may get all of "
            "them (deploy.yml takes both from django_asgi_worker_connections, django_asgi_worker_long_connections and django_asgi_workers)"
        )
        yield wrong("nginx_site_max_connections", requests, expected)


def _of_names(values: dict) -> Iterator[Fault]:
    """Yield the faults of the site's names, of which nginx would ignore all but the first that are equal."""
    served, redirected = values["nginx_site_server_names"], values["nginx_site_redirect_names"]
    found = [name.lower() for name in certificate_names(served)]
    for name in sorted({name for name in found if found.count(name) > 1}):
        yield Fault("nginx_site_server_names", f"has {name} more than once (.example.org includes example.org); expected it once")
    others = [name.lower() for name in certificate_names(redirected)]
    for name in sorted({name for name in others if name in found or others.count(name) > 1}):
        expected = "names that are neither in nginx_site_server_names nor twice in this list"
        yield wrong("nginx_site_redirect_names", name, expected, "has")
    for variable in ("nginx_site_redirect_names", "nginx_site_health_allowed"):
        if values[variable] and (served[0].startswith(("*", ".")) or served[0] == "_"):
            expected = f"a single name first, which {variable} needs, so neither a wildcard nor _"
            yield wrong("nginx_site_server_names", served[0], expected, "has")


def _of_tls(values: dict, directory: Path) -> Iterator[Fault]:
    given = values["nginx_site_server_names"] + values["nginx_site_redirect_names"]
    mode, names = tls_mode(values["nginx_site_tls"]), host_names(certificate_names(given))
    if mode == "files":
        yield from _of_pair(values, directory, names)
    elif mode == "acme":
        yield from _of_authority(values, directory, names)
    if mode != "off" and values["nginx_site_listen"] == values["nginx_site_listen_tls"]:
        yield wrong(
            "nginx_site_listen_tls", values["nginx_site_listen_tls"], "another port than nginx_site_listen, which HTTP uses"
        )
    for name in ("nginx_site_http3_enabled", "nginx_site_hsts_max_age"):
        if values[name] and mode == "off":
            yield Fault(name, "has no meaning without nginx_site_tls; expected both")
    for name in ("nginx_site_hsts_include_subdomains_enabled", "nginx_site_hsts_preload_enabled"):
        if values[name] and not values["nginx_site_hsts_max_age"]:
            yield Fault(name, "has no meaning without nginx_site_hsts_max_age; expected both")


def _of_authority(values: dict, directory: Path, names: list[str]) -> Iterator[Fault]:
    if not names:
        yield wrong(
            "nginx_site_server_names",
            values["nginx_site_server_names"],
            "a host name, because an authority signs no address over HTTP",
        )
    for name in names:
        if "*" in name:
            expected = "names that an authority can find over HTTP; get that certificate elsewhere and use nginx_site_tls: files"
            in_first = name in host_names(certificate_names(values["nginx_site_server_names"]))
            yield wrong(f"nginx_site_{'server' if in_first else 'redirect'}_names", name, expected, "has")
    if (given := values["nginx_site_acme_ca_file"]) and not _on_controller(directory, given).is_file():
        yield wrong("nginx_site_acme_ca_file", given, "a file on the controller")


def _of_pair(values: dict, directory: Path, names: list[str]) -> Iterator[Fault]:
    """Yield the faults of the user's own certificate and key, which must exist, match and fit the site. Neither is ever shown."""
    from cryptography import x509

    certificate = None
    variable, given = "nginx_site_tls_certificate_file", values["nginx_site_tls_certificate_file"]
    path = _on_controller(directory, given)
    if not given or not path.is_file():
        yield wrong(variable, given, "a file on the controller")
    else:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError:
            yield Fault(variable, f"is {path}, which holds no certificate in PEM; expected one, with its intermediates")
    if certificate:
        yield from _of_certificate(certificate, path, names)
    yield from _of_key(values, directory, certificate, path)


def _of_certificate(certificate: object, path: Path, names: list[str]) -> Iterator[Fault]:
    from cryptography import x509

    variable, now = "nginx_site_tls_certificate_file", datetime.datetime.now(datetime.UTC)
    # Before cryptography 42 the fields have no _utc; they have no zone, but are in UTC.
    until, since = (
        getattr(certificate, f"{field}_utc", None) or getattr(certificate, field).replace(tzinfo=datetime.UTC)
        for field in ("not_valid_after", "not_valid_before")
    )
    if until < now:
        yield Fault(variable, f"is {path}, whose certificate has expired; expected a valid one")
    elif since > now:
        yield Fault(variable, f"is {path}, whose certificate is not valid yet; expected a valid one")
    # Browsers read only the alternative names.
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        signed = {name.lower() for name in extension.value.get_values_for_type(x509.DNSName)}
    except x509.ExtensionNotFound:
        signed = set()
    for name in names:
        if not {name, re.sub("^[^.]+", "*", name)} & signed:
            expected = "expected one for all of nginx_site_server_names and nginx_site_redirect_names"
            yield Fault(variable, f"is {path}, whose certificate is not for {name}; {expected}")


def _of_key(values: dict, directory: Path, certificate: object, certificate_path: Path) -> Iterator[Fault]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    variable, given = "nginx_site_tls_key_file", values["nginx_site_tls_key_file"]
    path = _on_controller(directory, given)
    if not given or not path.is_file():
        yield wrong(variable, given, "a file on the controller")
        return
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except TypeError:
        yield Fault(
            variable,
            f"is {path}, which has a passphrase that nginx can't prompt for; expected a key without one: use ansible-vault",
        )
        return
    except (ValueError, UnsupportedAlgorithm):
        yield Fault(variable, f"is {path}, which holds no key in PEM; expected one")
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate and key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        yield Fault(variable, f"is {path}, which is not the key of the certificate in {certificate_path}; expected that one")


def _on_controller(directory: Path, path: str) -> Path:
    """Return the path on the controller; a relative one begins at the inventory."""
    return directory / Path(path).expanduser()

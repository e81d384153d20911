"""Check the variables of the role nginx_site against each other and against the controller's files."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault, wrong

ADDRESS = re.compile(r"[0-9.]+|\[.*\]")


def tls_mode(value: object) -> str:
    """Return off, self_signed, files or acme; YAML reads an unquoted off as false."""
    mode = str(value).lower()
    return "off" if mode in ("off", "false", "no") else mode


def host_names(server_names: list[str]) -> list[str]:
    """Return the names that an authority can sign; it signs no address over HTTP."""
    return [name.lower() for name in server_names if name != "_" and not ADDRESS.fullmatch(name)]


def faults(values: dict, inventory: dict) -> Iterator[Fault]:
    """Yield the faults of values that are each valid; `inventory` has the `directory` of relative paths."""
    if values["nginx_site_protected_url"] and not values["nginx_site_protected_directory"]:
        expected = f"the directory of the files below {values['nginx_site_protected_url']}"
        yield wrong("nginx_site_protected_directory", "", expected)
    if values["nginx_site_proxy_protocol_enabled"] and not values["nginx_site_trusted_proxies"]:
        yield wrong("nginx_site_trusted_proxies", [], "the addresses that speak the PROXY protocol")
    if values["nginx_site_max_long_connections"] > values["nginx_site_max_connections"]:
        yield wrong(
            "nginx_site_max_long_connections", values["nginx_site_max_long_connections"], "at most nginx_site_max_connections"
        )
    if values["nginx_site_worker_open_files"] < 2 * values["nginx_site_worker_connections"]:
        expected = "at least twice nginx_site_worker_connections"
        yield wrong("nginx_site_worker_open_files", values["nginx_site_worker_open_files"], expected)
    yield from _of_tls(values, Path(inventory["directory"]))


def _of_tls(values: dict, directory: Path) -> Iterator[Fault]:
    mode, names = tls_mode(values["nginx_site_tls"]), host_names(values["nginx_site_server_names"])
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
            yield wrong("nginx_site_server_names", name, expected, "has")
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
            yield Fault(
                variable, f"is {path}, whose certificate is not for {name}; expected one for all of nginx_site_server_names"
            )


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

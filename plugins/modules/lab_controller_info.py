"""Return the settings of this machine that lab hosts need."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_controller_info
short_description: Return the settings of this machine that lab hosts need
description:
  - Reads this machine's package mirror, apt options, pip indexes, proxies, certificates and limits. Changes nothing.
options:
  tools:
    description: Programs that must be on the search path.
    type: list
    elements: str
    default: []
author: The project's contributors
"""

EXAMPLES = r"""
- name: Read this machine's settings
  lab_controller_info:
    tools: [podman, ssh-keygen]
"""

RETURN = r"""
missing_tools:
  description: The programs in I(tools) that were not found.
  type: list
  returned: always
root:
  description: Whether this user is root, or can become root with sudo without a password.
  type: bool
  returned: always
mirror:
  description: Debian mirror of this machine, with keys C(main) and C(security); an empty text if there is none.
  type: dict
  returned: always
apt_options:
  description: apt options that concern downloading, as configuration lines.
  type: list
  returned: always
pip:
  description: Package indexes with an http address, with keys C(index_url) and C(extra_index_urls).
  type: dict
  returned: always
proxies:
  description: Proxy variables, by upper-case and lower-case name.
  type: dict
  returned: always
certificates:
  description: Certificate authorities that this machine trusts besides Debian's own set.
  type: list
  returned: always
limits:
  description: Hard limits of this process, with keys C(nofile) and C(nproc).
  type: dict
  returned: always
"""

import configparser
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Like the lab's program: Debian keeps iptables and runc outside a user's path.
SEARCH_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
# Options that name a file are left out: the file is not on the lab host.
APT_OPTION = re.compile(
    r'^(Acquire::(?:(?:https?|ftp)::.*?|Check-Valid-Until|Check-Date|Max-[\w-]+|Retries|ForceIPv[46])) "([^/"][^"]*)";$'
)


def apt_source_uris(text: str) -> list[tuple[str, str]]:
    """Return the (address, suite) pairs of one apt sources file, in either of apt's two formats."""
    pairs = []
    for line in text.splitlines():
        match = re.match(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+\S", line)
        if match:
            pairs.append((match[1], match[2]))
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Types|URIs|Suites|Enabled):[ \t]*(.*)$", stanza, re.MULTILINE))
        if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes").lower() != "no":
            pairs += [(uri, suite) for uri in fields.get("URIs", "").split() for suite in fields.get("Suites", "").split()]
    return pairs


def find_mirror(pairs: list[tuple[str, str]], codename: str) -> dict[str, str]:
    """Pick Debian's own archives out of (address, suite) pairs; codename is the machine's Debian release."""
    mirror = {"main": "", "security": ""}
    for uri, suite in pairs:
        if urlsplit(uri).scheme not in ("http", "https"):
            continue
        if suite == codename:
            mirror["main"] = mirror["main"] or uri
        elif suite == f"{codename}-security":
            mirror["security"] = mirror["security"] or uri
    return mirror


def read_mirror(root: Path = Path("/")) -> dict[str, str]:
    """Return the Debian mirror that the machine under root uses; empty texts on a machine that is not Debian."""
    try:
        release = dict(re.findall(r'^(\w+)="?([^"\n]*)', (root / "etc/os-release").read_text(), re.MULTILINE))
    except OSError:
        return {"main": "", "security": ""}
    if release.get("ID") != "debian":
        return {"main": "", "security": ""}
    apt = root / "etc/apt"
    files = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list")), *sorted(apt.glob("sources.list.d/*.sources"))]
    pairs = [pair for file in files if file.is_file() for pair in apt_source_uris(file.read_text())]
    return find_mirror(pairs, release.get("VERSION_CODENAME", ""))


def apt_options(dump: str) -> list[str]:
    """Return the lines of an `apt-config dump` that a lab host needs for downloading as this machine does."""
    return [f'{match[1]} "{match[2]}";' for match in map(APT_OPTION.match, dump.splitlines()) if match]


def pip_indexes(texts: list[str], environment: dict[str, str]) -> dict:
    """Merge pip.conf texts (least specific first) and PIP_ variables; local directories are left out, because a lab host lacks them."""
    settings: dict[str, str] = {}
    for text in texts:
        parser = configparser.RawConfigParser(strict=False)
        parser.read_string(text)
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update(parser.items(section))
    for name in ("index-url", "extra-index-url"):
        settings[name] = environment.get("PIP_" + name.upper().replace("-", "_"), settings.get(name, ""))
    indexes = {
        name: [url for url in settings[name].split() if url.startswith(("http://", "https://"))]
        for name in ("index-url", "extra-index-url")
    }
    return {"index_url": "".join(indexes["index-url"][:1]), "extra_index_urls": indexes["extra-index-url"]}


def extra_certificates(bundles: list[str], standard: list[str]) -> list[str]:
    """Return each certificate of the bundles that is in none of the standard texts, once."""
    known = {certificate for text in standard for certificate in CERTIFICATE.findall(text)}
    found = dict.fromkeys(certificate for text in bundles for certificate in CERTIFICATE.findall(text))
    return [certificate for certificate in found if certificate not in known]


def becomes_root() -> bool:
    """Return whether this user is root or can become root with sudo without a password."""
    if os.geteuid() == 0:
        return True
    return bool(shutil.which("sudo")) and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0


def read_texts(paths: list[Path]) -> list[str]:
    """Return the contents of the paths that are readable files."""
    texts = []
    for path in paths:
        try:
            texts.append(path.read_text())
        except (OSError, UnicodeDecodeError):
            continue
    return texts


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={"tools": {"type": "list", "elements": "str", "default": []}}, supports_check_mode=True)
    dump = ""
    if shutil.which("apt-config"):
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    home = Path.home()
    bundles = [Path("/etc/ssl/certs/ca-certificates.crt")]
    bundles += [Path(os.environ[name]) for name in CERTIFICATE_VARIABLES if os.environ.get(name)]
    module.exit_json(
        changed=False,
        missing_tools=[tool for tool in module.params["tools"] if not shutil.which(tool, path=SEARCH_PATH)],
        root=becomes_root(),
        mirror=read_mirror(),
        apt_options=apt_options(dump),
        pip=pip_indexes(
            read_texts([Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]), dict(os.environ)
        ),
        proxies={
            spelling: value
            for name in PROXY_VARIABLES
            for spelling in (name, name.upper())
            if (value := os.environ.get(name) or os.environ.get(name.upper()))
        },
        certificates=extra_certificates(
            read_texts(bundles), read_texts(sorted(Path("/usr/share/ca-certificates").rglob("*.crt")))
        ),
        limits={
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            "nproc": resource.getrlimit(resource.RLIMIT_NPROC)[1],
        },
    )


if __name__ == "__main__":
    main()

"""Plan what a site's run changes in the files that a host's sites share: main configuration, welcome page, catch-alls.

Several sites share a host, each with its own inventory. A site records its wishes for the host as comments in its own file, so
that another site's run respects them; the highest limit wins.
"""

from __future__ import annotations

import re

from ansible_collections.django_asgi.site.plugins.module_utils.nginx_site import (
    MOST_CONNECTIONS,
    certificate_names,
    long_connections,
)

MAIN_CONFIG = "/etc/nginx/nginx.conf"
STOCK_LINK = "/etc/nginx/sites-enabled/default"
STOCK_FILE = "/etc/nginx/sites-available/default"
KEEPS_MAIN_CONFIG = "# keeps: the host's own nginx.conf"
KEEPS_STOCK_SITE = "# keeps: Debian's welcome page"
CONNECTIONS = "# connections: {}"
ANSWERS_BY_ADDRESS = "# answers: health checks by address on port {}"
CATCH_ALL = re.compile(r"/nginx_site-catch-all-[0-9]+[.]conf$")
# What nginx has without a directive: its own default, and systemd's soft limit of open files.
NGINX_CONNECTIONS, NGINX_OPEN_FILES = 512, 1024
# Besides the two connections of each proxied client, nginx needs some itself.
SPARE_CONNECTIONS = 1024


def plan(nginx: dict, site: dict) -> dict:
    """Return the plan for the host's shared files.

    In: the facts of the module nginx_site_info, and the site's variables without prefix, `tls_wanted` among them.
    Out: `other_sites`; `main_config_wanted`, `main_config_is_ours`, `worker_connections`, `worker_open_files`;
    `main_config_lacks`, what is too low in a main configuration that stays, a text each; `stock_unwanted`; `catch_all` (HTTP) and
    `tls_catch_all` (HTTPS), each with `addresses`, `is_mine`, `wanted`; as links `catch_alls_unwanted`, and `tls_catch_alls_kept` for those that this site wrote; `health_rival`, another site that answers health checks by address;
    `name_rivals`, what other sites serve of this one's names and ports, a text each.
    """
    files = _files(nginx["configuration"])
    own = f"/etc/nginx/sites-enabled/{site['name']}.conf"
    others = _other_sites(files, site["name"])
    texts = "".join(text for path, text in files.items() if path != own)
    found = _main_config(nginx, site, files, others, texts)
    found["stock_unwanted"] = (
        nginx["present"]
        and not site["stock_site_enabled"]
        and KEEPS_STOCK_SITE not in texts
        and nginx["stock_link"] == STOCK_FILE
        and nginx["from_debian"]
        and STOCK_FILE not in nginx["changed_files"]
    )
    links = {"catch_all": catch_all_link(site["listen"]), "tls_catch_all": catch_all_link(site["listen_tls"])}
    aside = {*links.values(), *([STOCK_LINK] if found["stock_unwanted"] else [])}
    taken = _default_servers({path: text for path, text in files.items() if path not in aside})
    for key, port, is_on in (("catch_all", site["listen"], True), ("tls_catch_all", site["listen_tls"], site["tls_wanted"])):
        addresses = _free_addresses(int(port), site["ipv6_enabled"], taken)
        keeper = re.search("# Kept by site: ([a-z0-9-]+)", files.get(links[key], ""))
        found[key] = {
            "addresses": addresses,
            "is_mine": not keeper or keeper[1] not in others,
            "wanted": bool(is_on and site["catch_all_enabled"] and addresses),
        }
    # The catch-all of a previous port, if no other site could need it; and the current port's, if it is not wanted.
    former = [path for path in files if CATCH_ALL.search(path) and path not in links.values()]
    unwanted = [link for key, link in links.items() if link in files and found[key]["is_mine"] and not found[key]["wanted"]]
    kept = re.compile(rf"^# Kept by site: {re.escape(site['name'])}$", re.MULTILINE)
    return found | {
        "other_sites": others,
        "health_rival": next(iter(_answering_by_address(files, site)), ""),
        "name_rivals": _serving_the_same(files, site),
        "catch_alls_unwanted": ([] if others else former) + unwanted,
        "tls_catch_alls_kept": [
            path for path, text in files.items() if CATCH_ALL.search(path) and kept.search(text) and " ssl_protocols " in text
        ],
    }


def abilities(nginx: dict, site: dict) -> dict:
    """Return the features of a host's nginx: `tls`, `http2_is_a_directive`, `http3`, `curves`; and `reuseport` for this site's QUIC.

    nginx accepts reuseport only once for an address, whichever site has it.
    """
    own = f"/etc/nginx/sites-enabled/{site['name']}.conf"
    quic = re.compile(rf"^[^#]*listen [^;]*\b{site['listen_tls']} quic[^;]* reuseport", re.MULTILINE)
    others = (text for path, text in _files(nginx["configuration"]).items() if path != own)
    version = _version(re.findall("nginx/([0-9.]+)", nginx["build"])[:1])
    openssl = _version(re.findall("OpenSSL ([0-9.]+)", nginx["build"])[-1:])
    return {
        # ssl_reject_handshake and ssl_conf_command.
        "tls": version >= (1, 19, 4),
        "http2_is_a_directive": version >= (1, 25, 1),
        "http3": "http_v3_module" in nginx["build"],
        "curves": ("X25519MLKEM768:" if openssl >= (3, 5) else "") + "X25519:prime256v1:secp384r1",
        "reuseport": "" if any(map(quic.search, others)) else " reuseport",
    }


def catch_all_link(port: int | str) -> str:
    """Return the link of the catch-all of a port."""
    return f"/etc/nginx/sites-enabled/nginx_site-catch-all-{port}.conf"


def _files(configuration: str) -> dict[str, str]:
    """Return the text of each file that nginx reads, comments included."""
    return dict(re.findall(r"(?s)# configuration file (\S+):\s(.*?)(?=# configuration file /|\Z)", configuration))


def _other_sites(files: dict[str, str], name: str) -> list[str]:
    marks = (re.search("^# nginx_site: ([a-z][a-z0-9-]*)$", text, re.MULTILINE) for text in files.values())
    return [mark[1] for mark in marks if mark and mark[1] != name]


def wishes(site: dict) -> list[str]:
    """Return the comments for the site's file: what it keeps and needs of the host, and what only one site can have."""
    kept = [] if site["main_config_enabled"] else [KEEPS_MAIN_CONFIG]
    kept += [KEEPS_STOCK_SITE] if site["stock_site_enabled"] else []
    kept += [CONNECTIONS.format(admitted)] if (admitted := _admitted(site)) else []
    return kept + ([ANSWERS_BY_ADDRESS.format(site["listen"])] if site["health_by_address"] else [])


def _answering_by_address(files: dict[str, str], site: dict) -> list[str]:
    """Return the other sites that answer health checks by address on the port; nginx would give all of them to the first."""
    mark = ANSWERS_BY_ADDRESS.format(site["listen"])
    return _other_sites({path: text for path, text in files.items() if mark in text.splitlines()}, site["name"])


def _serving_the_same(files: dict[str, str], site: dict) -> list[str]:
    """Return `site: name on port 80` for each that this site and another one serve; nginx sends all requests to one of the two."""
    ports = {str(site["listen"]), *([str(site["listen_tls"])] if site["tls_wanted"] else [])}
    own = {name.lower() for name in certificate_names(site["names"])}
    found = set()
    for text in files.values():
        for rival in _other_sites({"": text}, site["name"]):
            for server in re.split(r"(?m)^server \{", text)[1:]:
                words = " ".join(re.findall(r"server_name ([^;]*);", server)).lower().split()
                names = own.intersection(certificate_names(words))
                shared = ports.intersection(re.findall(r"listen (?:[^ ;]*:)?([0-9]+)[ ;]", server))
                found |= {f"{rival}: {name} on port {port}" for name in names for port in shared}
    return sorted(found)


def _main_config(nginx: dict, site: dict, files: dict[str, str], others: list[str], texts: str) -> dict:
    text = files.get(MAIN_CONFIG, "")
    is_ours = "# nginx_site: " in text
    untouched = nginx["from_debian"] and MAIN_CONFIG not in nginx["changed_files"]
    wanted = nginx["present"] and site["main_config_enabled"] and KEEPS_MAIN_CONFIG not in texts and (is_ours or untouched)
    kept = text if is_ours and others else ""
    # A single nginx worker may get all connections of all sites, each with one to the application.
    admitted = _admitted(site) + sum(map(int, re.findall(rf"(?m)^{CONNECTIONS.format('([0-9]+)')}$", texts)))
    needed = 2 * min(admitted, MOST_CONNECTIONS) + SPARE_CONNECTIONS if admitted else 0
    usual = {"worker_connections": NGINX_CONNECTIONS, "worker_rlimit_nofile": NGINX_OPEN_FILES}
    staying = {} if wanted else {name: _number(name, text) or least for name, least in usual.items()}
    return {
        "main_config_lacks": [f"{name} is {number}; expected {needed}" for name, number in staying.items() if number < needed],
        "main_config_wanted": wanted,
        "main_config_is_ours": is_ours,
        "worker_connections": max(site["worker_connections"], needed, _number("worker_connections", kept)),
        "worker_open_files": max(site["worker_open_files"], 2 * needed, _number("worker_rlimit_nofile", kept)),
    }


def _admitted(site: dict) -> int:
    """Return the number of requests and long connections that a site admits; 0 without a limit."""
    return site["max_connections"] + long_connections(site)


def _number(directive: str, text: str) -> int:
    found = re.search(rf"{directive} ([0-9]+)", text)
    return int(found[1]) if found else 0


def _default_servers(files: dict[str, str]) -> set[str]:
    """Return the addresses that have a default server, in nginx's several spellings."""
    bare = (re.sub("#.*", "", text) for text in files.values())
    return {address for text in bare for address in re.findall(r"\blisten\s+(\S+)\s[^;]*\bdefault(?:_server)?\b", text)}


def _free_addresses(port: int, ipv6: bool, taken: set[str]) -> list[str]:
    """Return the addresses of a port without a default server; nginx's files may omit port 80."""
    bare = port == 80
    four = {str(port), f"*:{port}", f"0.0.0.0:{port}", *(("*", "0.0.0.0") if bare else ())}
    six = {f"[::]:{port}", *(("[::]",) if bare else ())}
    return ([] if four & taken else [str(port)]) + ([f"[::]:{port}"] if ipv6 and not six & taken else [])


def _version(found: list[str]) -> tuple[int, ...]:
    return tuple(int(part) for part in found[0].split(".")) if found else (0,)

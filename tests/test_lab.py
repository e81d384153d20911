"""The lab: which settings of the machine it reads, what it writes to a host, and which packages setup finds missing."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "roles/lab"
sys.path.insert(0, str(ROOT / "tools"))

import setup
from rendering import argument_specs, defaults, evaluate


def load_module():
    spec = importlib.util.spec_from_file_location("lab_controller_info", ROOT / "plugins/modules/lab_controller_info.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


info = load_module()
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----"
DEB822 = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

# Security
Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security

Types: deb
URIs: http://other.example/apps
Suites: stable
"""
CONTROLLER = {
    "certificates": [CERTIFICATE.format("AAAA")],
    "apt_options": ['Acquire::Check-Valid-Until "false";'],
    "pip": {"index_url": "https://pip.example/simple", "extra_index_urls": ["https://more.example/simple"]},
    "proxies": {"http_proxy": "http://proxy.example:3128"},
}
BARE_CONTROLLER = {"certificates": [], "apt_options": [], "pip": {"index_url": "", "extra_index_urls": []}, "proxies": {}}


def test_mirror_is_read_from_either_format_of_apt_sources():
    one_line = (
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main\n"
        "# deb http://no.example/debian bookworm main\n"
        "deb http://mirror.example/debian-security bookworm-security main\n"
    )
    expected = {"main": "http://mirror.example/debian", "security": "http://mirror.example/debian-security"}
    assert info.find_mirror(info.apt_source_uris(DEB822), "bookworm") == expected
    assert info.find_mirror(info.apt_source_uris(one_line), "bookworm") == expected


def test_mirror_leaves_out_disabled_stanzas_and_local_directories():
    disabled = DEB822.replace("Types: deb\nURIs: http://mirror", "Enabled: no\nTypes: deb\nURIs: http://mirror")
    assert info.find_mirror(info.apt_source_uris(disabled), "bookworm")["main"] == ""
    assert info.find_mirror([("file:/srv/debian", "bookworm"), ("cdrom://x", "bookworm")], "bookworm")["main"] == ""


def test_mirror_of_a_machine_that_is_not_debian_is_empty(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=ubuntu\nVERSION_CODENAME="noble"\n')
    assert info.read_mirror(tmp_path) == {"main": "", "security": ""}
    assert info.read_mirror(tmp_path / "nowhere") == {"main": "", "security": ""}


def test_mirror_is_read_below_a_root(tmp_path):
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    (tmp_path / "etc/apt/sources.list.d/debian.sources").write_text(DEB822)
    assert info.read_mirror(tmp_path)["main"] == "http://mirror.example/debian"


def test_apt_options_are_those_of_downloading_that_name_no_file():
    dump = (
        'Acquire "";\nAcquire::Check-Valid-Until "false";\nAcquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::https::CAInfo "/etc/ssl/own.pem";\nAcquire::Languages:: "none";\nDir::Etc "etc/apt";\n'
    )
    assert info.apt_options(dump) == [
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://proxy.example:3128";',
    ]


def test_pip_indexes_keep_only_http_addresses_and_the_environment_wins():
    texts = [
        "[global]\nindex-url = https://one.example/simple\nextra-index-url = file:///opt/simple\n  https://two.example/simple\n"
    ]
    assert info.pip_indexes(texts, {}) == {
        "index_url": "https://one.example/simple",
        "extra_index_urls": ["https://two.example/simple"],
    }
    assert info.pip_indexes(texts, {"PIP_INDEX_URL": "https://three.example"})["index_url"] == "https://three.example"
    assert info.pip_indexes([], {}) == {"index_url": "", "extra_index_urls": []}


def test_certificates_are_those_beyond_the_standard_set():
    own, standard = CERTIFICATE.format("own"), CERTIFICATE.format("standard")
    assert info.extra_certificates([f"{standard}\n{own}\n", own], [standard]) == [own]


def render(template, **variables):
    """Render a template of the lab with exactly these variables, because the role's own need a running lab."""
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(comment=lambda text: f"# {text}", to_json=json.dumps)
    return environment.from_string((LAB / "templates" / template).read_text()).render(lab_mirror="", **variables)


def provisioning(controller, tmp_path):
    script = render(
        "provision.sh.j2",
        __lab_controller=controller,
        __lab_key={"public_key": "ssh-ed25519 AAAA lab"},
        __lab_hosts={"one": {"address": "10.1.2.10"}, "two": {"address": "10.1.2.11"}},
    )
    (tmp_path / "script").write_text(script)
    subprocess.run(["sh", "-n", tmp_path / "script"], check=True)
    return script


def test_provisioning_hands_every_setting_over(tmp_path):
    script = provisioning(CONTROLLER, tmp_path)
    for expected in [
        "10.1.2.11 two\n",
        "echo 'ssh-ed25519 AAAA lab' >~root/.ssh/authorized_keys\n",
        'Acquire::Check-Valid-Until "false";\n',
        "index-url = https://pip.example/simple\nextra-index-url = https://more.example/simple\n",
        '[[index]]\nurl = "https://pip.example/simple"\ndefault = true\n',
        "http_proxy=http://proxy.example:3128\n",
        "/lab-1.crt <<'END'\n-----BEGIN CERTIFICATE-----\nAAAA\n",
    ]:
        assert expected in script


def test_provisioning_of_a_machine_without_settings_writes_none(tmp_path):
    script = provisioning(BARE_CONTROLLER, tmp_path)
    for absent in ["apt.conf.d", "pip.conf", "uv.toml", "/etc/environment", "ca-certificates"]:
        assert absent not in script


@pytest.mark.parametrize(
    ("units", "restarted"), [("ssh.service", "ssh"), ("sshd.service", "sshd"), ("ssh.service sshd.service", "ssh")]
)
def test_provisioning_restarts_the_ssh_server_by_the_name_that_the_host_has(tmp_path, units, restarted):
    script = provisioning(BARE_CONTROLLER, tmp_path)
    systemctl = f'case "$1" in cat) case " {units} " in *" $2 "*) ;; *) exit 1 ;; esac ;; *) echo "$*" >>{tmp_path}/calls ;; esac'
    for name, text in {"systemctl": systemctl, "ssh-keygen": ":"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    # What comes before it writes to /etc.
    subprocess.run(["sh", "-euc", script[script.index("ssh-keygen -A") :]], env=environment, check=True)
    assert (tmp_path / "calls").read_text() == f"enable --quiet {restarted}.service\nrestart {restarted}.service\n"


def test_the_environment_chooses_the_image_of_all_hosts(monkeypatch):
    monkeypatch.delenv("LAB_IMAGE", raising=False)
    assert evaluate("lab", "lab_image") == ""
    monkeypatch.setenv("LAB_IMAGE", "localhost/ubuntu:24.04")
    assert evaluate("lab", "__lab_defaults.image") == "localhost/ubuntu:24.04"
    assert evaluate("lab", "lab_image", lab_image="localhost/own:1") == "localhost/own:1"


def test_inventory_holds_plain_values_only(tmp_path):
    text = render(
        "lab.yml.j2",
        __lab_reached={"one": {"ssh": 2201, "http": 8080, "https": 8443, "key": "ssh-ed25519 BBBB"}},
        __lab_hosts={"one": {"address": "10.1.2.10", "name": "asgi-lab-x-one"}},
        __lab_keys=str(tmp_path / "a clone"),
        ansible_managed="managed",
    )
    host = yaml.safe_load(text)["all"]["hosts"]["one"]
    assert host["ansible_port"] == 2201
    assert host["ansible_ssh_private_key_file"] == f"{tmp_path}/a clone/id_ed25519"
    assert (host["lab_http_port"], host["lab_https_port"], host["lab_address"]) == (8080, 8443, "10.1.2.10")
    assert "{{" not in text


def test_argument_specs_and_defaults_name_the_same_variables():
    specs = argument_specs("lab")
    assert specs.keys() == defaults("lab").keys()
    plain = {name: value for name, value in defaults("lab").items() if "{{" not in str(value)}
    assert {name: specs[name]["default"] for name in plain} == plain


def test_podman_wrapper_is_valid_shell_and_executable():
    wrapper = LAB / "files/podman"
    subprocess.run(["sh", "-n", wrapper], check=True)
    assert wrapper.stat().st_mode & 0o111


def test_setup_knows_which_packages_are_missing(monkeypatch):
    output = "podman installed\nchromium config-files\n"
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: subprocess.CompletedProcess(args, 1, output, ""))
    assert setup.missing_packages(["podman", "chromium", "runc"]) == ["chromium", "runc"]


def test_setup_pins_uv_before_it_is_used():
    assert "\nuv==" in (ROOT / "requirements.txt").read_text()

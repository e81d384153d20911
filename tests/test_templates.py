"""The role's templates, rendered without a host: gunicorn's configuration and the two units."""

import configparser
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rendering import evaluate, render

ROLE = "django_asgi"
GUNICORN, SERVICE, SOCKET = "gunicorn.conf.py.j2", "app.service.j2", "app.socket.j2"
SECRET = "hunter2-the-secret"


@pytest.fixture
def gunicorn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """A function that renders gunicorn.conf.py and returns what gunicorn would read from it."""
    worker = SimpleNamespace(DrainingUvicornWorker=type("DrainingUvicornWorker", (), {}))
    monkeypatch.setitem(sys.modules, "draining_worker", worker)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    release = tmp_path / "0123456789ab"
    release.mkdir()

    def read(**variables: object) -> dict:
        worker.DrainingUvicornWorker.CONFIG_KWARGS = None
        path = release / "gunicorn.conf.py"
        path.write_text(render(ROLE, GUNICORN, **variables))
        return runpy.run_path(str(path)) | {"kwargs": worker.DrainingUvicornWorker.CONFIG_KWARGS}

    return read


def units(template: str, **variables: object) -> dict[str, dict[str, list[str]]]:
    """A unit's sections: each option with all its values, as systemd reads them."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in render(ROLE, template, **variables).splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            current = sections.setdefault(match[1], {})
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, f"{line!r} is no assignment"
            current.setdefault(name, []).append(value)
    return sections


def seconds(unit: dict, name: str) -> int:
    """A time of a service in seconds."""
    return int(unit["Service"][name][0])


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("module", "shop.asgi:app", "wsgi_app"),
        ("timeout", 41, "timeout"),
        ("keepalive", 42, "keepalive"),
        ("max_requests", 43, "max_requests"),
        ("max_requests_jitter", 44, "max_requests_jitter"),
        ("log_level", "debug", "loglevel"),
        ("worker_connections", 45, "worker_connections"),
        ("worker_class", "shop.workers.Own", "worker_class"),
    ],
)
def test_each_variable_lands_in_gunicorns_setting(gunicorn: object, variable: str, value: object, setting: str) -> None:
    assert gunicorn()[setting] != value
    assert gunicorn(**{f"django_asgi_{variable}": value})[setting] == value


def test_gunicorn_gives_the_worker_more_time_than_the_worker_takes(gunicorn: object, role: Path) -> None:
    margin = int(re.search(r"ARBITER_MARGIN_SECONDS = (\d+)", (role / "files/draining_worker.py").read_text())[1])
    assert evaluate(ROLE, "__django_asgi_graceful_margin") == margin
    assert gunicorn(django_asgi_graceful_timeout=60)["graceful_timeout"] == 60 + margin


def test_gunicorn_runs_the_project_inside_the_release(gunicorn: object) -> None:
    settings = gunicorn(django_asgi_project_dir="backend", django_asgi_name="shop")
    release = settings["release"]
    assert settings["chdir"] == f"{release}/src/backend"
    assert settings["proc_name"] == "shop@0123456789ab"
    assert sys.path[0] == str(release)


def test_gunicorn_trusts_the_edge_and_opens_no_control_socket(gunicorn: object) -> None:
    settings = gunicorn()
    assert settings["forwarded_allow_ips"] == "*"
    assert settings["control_socket_disable"] is True
    assert settings["errorlog"] == "-"
    assert settings["worker_tmp_dir"] == "/dev/shm"


@pytest.mark.parametrize("name", ["bind", "workers", "daemon", "user", "accesslog", "preload_app"])
def test_gunicorn_is_not_told_what_systemd_or_the_edge_decides(gunicorn: object, name: str) -> None:
    assert name not in gunicorn()


def test_the_roles_worker_is_configured_and_a_users_own_is_not(gunicorn: object) -> None:
    kwargs = gunicorn()["kwargs"]
    assert (kwargs["loop"], kwargs["http"], kwargs["lifespan"]) == ("uvloop", "httptools", "off")
    assert kwargs["access_log"] is kwargs["server_header"] is False
    own = render(ROLE, GUNICORN, django_asgi_worker_class="shop.workers.Own")
    assert "draining_worker" not in own
    assert gunicorn(django_asgi_worker_class="shop.workers.Own")["kwargs"] is None


def test_the_handler_for_sync_views_is_part_of_a_release_only_if_it_is_used(
    gunicorn: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = []
    monkeypatch.setitem(sys.modules, "one_hop", SimpleNamespace(install=lambda threads: installed.append(threads)))
    assert "post_fork" not in gunicorn()
    assert "one_hop.py" not in evaluate(ROLE, "__django_asgi_files")
    used = {"django_asgi_sync_views": "one_hop", "django_asgi_threads": "5"}
    gunicorn(**used)["post_fork"](None, None)
    assert installed == [5]
    assert "class OneHopHandler" in evaluate(ROLE, "__django_asgi_files", **used)["one_hop.py"]


def test_odd_values_stay_text_in_gunicorns_configuration(gunicorn: object) -> None:
    odd = 'a"; raise SystemExit  # \\'
    assert gunicorn(django_asgi_module=odd)["wsgi_app"] == odd


@pytest.mark.parametrize("graceful", [1, 30, 3600])
def test_systemd_waits_longer_than_gunicorn_and_gunicorn_longer_than_the_worker(gunicorn: object, graceful: int) -> None:
    unit = units(SERVICE, django_asgi_graceful_timeout=graceful)
    assert graceful < gunicorn(django_asgi_graceful_timeout=graceful)["graceful_timeout"] < seconds(unit, "TimeoutStopSec")


def test_the_gates_time_ends_before_systemds() -> None:
    assert seconds(units(SERVICE, django_asgi_gate_timeout=70), "TimeoutStartSec") > 70


def test_gunicorn_replaces_a_hung_worker_before_systemd_kills_all() -> None:
    assert seconds(units(SERVICE, django_asgi_timeout=50), "WatchdogSec") > 50


def test_numbers_given_as_text_count_as_numbers(gunicorn: object) -> None:
    given = {"django_asgi_timeout": "40", "django_asgi_graceful_timeout": "50", "django_asgi_gate_timeout": "60"}
    as_numbers = {name: int(value) for name, value in given.items()}
    for template in (SERVICE, GUNICORN):
        assert render(ROLE, template, **given) == render(ROLE, template, **as_numbers)
    assert gunicorn(**given)["graceful_timeout"] == 55


def test_the_service_runs_the_release_as_the_apps_own_user() -> None:
    service = units(SERVICE, django_asgi_name="shop", django_asgi_project_dir="backend")["Service"]
    release = "/opt/shop/releases/%i"
    assert (service["User"], service["Group"]) == (["shop"], ["shop"])
    assert service["WorkingDirectory"] == [f"{release}/src/backend"]
    assert service["EnvironmentFile"] == [f"{release}/environment", f"{release}/secrets"]
    assert service["ExecStart"] == [f"{release}/venv/bin/python -m gunicorn --config {release}/gunicorn.conf.py"]
    assert service["StateDirectory"] == ["%p"]


def test_the_service_is_ready_when_a_worker_says_so_and_never_gives_up() -> None:
    unit = units(SERVICE)
    assert unit["Service"]["Type"] == ["notify"]
    assert unit["Service"]["NotifyAccess"] == ["all"]
    assert unit["Service"]["Restart"] == ["always"]
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert unit["Unit"]["Requires"] == ["%p@%i.socket"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("CapabilityBoundingSet", ""),
    ],
)
def test_the_service_is_locked_in(option: str, value: str) -> None:
    assert units(SERVICE)["Service"][option] == [value]


def test_only_root_and_the_edge_may_connect() -> None:
    socket = units(SOCKET, django_asgi_socket_group="edge")["Socket"]
    assert socket["SocketMode"] == ["0660"]
    assert socket["SocketUser"] == ["root"]
    assert socket["SocketGroup"] == ["edge"]
    assert socket["RemoveOnStop"] == ["yes"]
    assert int(socket["Backlog"][0]) >= 1024


def test_nothing_listens_on_tcp(gunicorn: object) -> None:
    socket = units(SOCKET)["Socket"]
    assert socket["ListenStream"] == ["/run/%p/%i.sock"]
    assert [name for name in socket if name.startswith("Listen")] == ["ListenStream"]
    assert "Listen" not in render(ROLE, SERVICE)
    assert "--bind" not in render(ROLE, SERVICE)


@pytest.mark.parametrize("template", [GUNICORN, SERVICE, SOCKET])
def test_no_secret_and_no_variable_of_the_app_is_in_a_file_that_others_read(template: str) -> None:
    text = render(ROLE, template, django_asgi_secrets={"TOKEN": SECRET}, django_asgi_env={"COLOUR": "bright-blue"})
    assert SECRET not in text
    assert "bright-blue" not in text


@pytest.mark.parametrize("template", [GUNICORN, SERVICE, SOCKET])
def test_every_template_says_that_ansible_made_it_and_leaves_nothing_open(template: str) -> None:
    text = render(ROLE, template)
    assert text.startswith("#")
    assert "Ansible managed" in text.splitlines()[1]
    assert "{{" not in text
    assert "{%" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())


@pytest.mark.parametrize("template", [SERVICE, SOCKET])
def test_units_hold_nothing_but_comments_sections_and_assignments(template: str) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str
    parser.read_string(render(ROLE, template))
    assert parser.sections()[0] == "Unit"
    assert parser.sections()[-1] == "Install"


@pytest.mark.parametrize("template", [GUNICORN, SERVICE, SOCKET])
def test_rendering_twice_gives_the_same_text(template: str) -> None:
    assert render(ROLE, template) == render(ROLE, template)


def test_the_environment_is_text_as_django_reads_it() -> None:
    given = {"DEBUG": False, "PORT": 5432, "RATE": 0.5, "NAME": "shop", "EMPTY": ""}
    expected = {"DEBUG": "False", "PORT": "5432", "RATE": "0.5", "NAME": "shop", "EMPTY": ""}
    assert evaluate(ROLE, "__django_asgi_env", django_asgi_env=given) == {"TMPDIR": "/var/tmp", **expected}
    assert evaluate(ROLE, "__django_asgi_secrets", django_asgi_secrets=given) == expected


def test_uploads_are_spooled_to_disk_unless_the_inventory_says_otherwise() -> None:
    assert evaluate(ROLE, "__django_asgi_manifest.env.TMPDIR") == "/var/tmp"
    assert evaluate(ROLE, "__django_asgi_manifest.env.TMPDIR", django_asgi_env={"TMPDIR": "/srv/spool"}) == "/srv/spool"


def summary(workers: object, after: dict[str, list[str]] | None = None, **variables: object) -> list[str]:
    """Return the lines that the play prints at its end; `web1` and `web2` have just staged the release, `web3` had it already.

    `after` holds, by host, the warnings of the commands that follow the cut-over.
    """
    staged = {
        "web1": {"worker_count": 2, "worker_count_why": "one for each of 2 cores"},
        "web2": {"worker_count": 1, "worker_count_why": "1 of 160 MiB each fit in 500 MiB beside 256 MiB for the rest"},
    }
    names = ("web1", "web2", "web3")
    reported = {"serves": False, "live": None, "leader": False}
    hosts = {name: {"__django_asgi_host": reported, "__django_asgi_release": "a" * 12} for name in names}
    hosts |= {name: hosts[name] | {"__django_asgi_staged": answer} for name, answer in staged.items()}
    hosts |= {name: hosts[name] | {"__django_asgi_after": {"warnings": said}} for name, said in (after or {}).items()}
    given = {"ansible_play_hosts": list(hosts), "ansible_play_hosts_all": list(hosts), "hostvars": hosts, **variables}
    given |= {"__django_asgi_release": "a" * 12, "__django_asgi_host": reported, "django_asgi_workers": workers, "groups": {}}
    return evaluate(ROLE, "__django_asgi_summary", **given).splitlines()


def test_the_play_says_how_many_workers_auto_has_chosen_and_why() -> None:
    assert summary("auto") == [
        "Release aaaaaaaaaaaa is live on web1, web2, web3.",
        "Workers on web1: 2, one for each of 2 cores.",
        "Workers on web2: 1, 1 of 160 MiB each fit in 500 MiB beside 256 MiB for the rest.",
    ]


def test_the_play_says_nothing_of_workers_that_were_asked_for() -> None:
    assert summary(2) == ["Release aaaaaaaaaaaa is live on web1, web2, web3."]


@pytest.mark.parametrize(
    ("leader", "expected"),
    [
        ("", ["Warning: 'warm' failed."]),
        ("web2", []),
        ("web9", ["Warning: django_asgi_after_commands did not run, because web9 is not a host of this run."]),
    ],
)
def test_the_play_warns_of_commands_after_the_cut_over_that_failed_or_had_no_host(leader: str, expected: list[str]) -> None:
    after = {"web1": ["'warm' failed."], "web2": []}
    commands = {"django_asgi_after_commands": ["warm"], "django_asgi_leader_host": leader}
    assert summary(2, after, **commands)[1:] == expected
    assert summary(2, after, **commands, __django_asgi_kind="rollback")[1:] == []


def test_the_commands_that_complete_a_release_are_part_of_its_name() -> None:
    given = {"django_asgi_prepare_commands": "manage.py compilemessages"}
    assert evaluate(ROLE, "__django_asgi_manifest.prepare_commands", **given) == ["manage.py compilemessages"]
    assert evaluate(ROLE, "__django_asgi_manifest.prepare_commands") == []


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (0, []),
        (2, ["Left out, as .gitignore says: .env, dist/ (django_asgi_source_include takes some all the same)."]),
        (4, ["Left out, as .gitignore says: .env, dist/ and 2 more (django_asgi_source_include takes some all the same)."]),
    ],
)
def test_the_play_prints_what_gitignore_has_left_out(count: int, line: list[str]) -> None:
    left_out = {"count": count, "names": [".env", "dist/"][:count]}
    assert summary(2, __django_asgi_bundle={"left_out": left_out, "warnings": []})[1:] == line


@pytest.mark.parametrize(("given", "path"), [("", ""), ("keys/shop", "/srv/site/keys/shop"), ("/etc/key", "/etc/key")])
def test_the_path_of_the_key_for_git_starts_at_the_inventory(given: str, path: str) -> None:
    assert evaluate(ROLE, "__django_asgi_git_key", django_asgi_git_key=given, inventory_dir="/srv/site") == path


@pytest.mark.parametrize(("workers", "expected"), [(4, 4), ("4", 4), ("auto", "auto")], ids=["number", "text", "auto"])
def test_the_number_of_workers_is_a_number_or_auto(workers: object, expected: object) -> None:
    assert evaluate(ROLE, "__django_asgi_manifest.workers", django_asgi_workers=workers) == expected


@pytest.mark.parametrize(("workers", "expected"), [(4, 2000), ("2", 1000), ("auto", 0)])
def test_the_edge_gets_the_connections_of_all_workers(workers: object, expected: int) -> None:
    given = {"django_asgi_workers": workers, "django_asgi_worker_connections": 500}
    assert evaluate(ROLE, "django_asgi_exports.max_connections", **given) == expected
    assert evaluate(ROLE, "django_asgi_exports.long_connections", **given) == expected
    more = {**given, "django_asgi_worker_long_connections": 1500}
    assert evaluate(ROLE, "django_asgi_exports.long_connections", **more) == 3 * expected


@pytest.mark.parametrize(
    ("given", "files"),
    [
        ({}, 65536),
        ({"django_asgi_worker_connections": 40000}, 81024),
        ({"django_asgi_worker_long_connections": 60000}, 65536),
        ({"django_asgi_worker_connections": 60000, "django_asgi_worker_long_connections": 50000}, 111024),
        ({"django_asgi_limit_nofile": 1024}, 3024),
    ],
)
def test_a_worker_may_open_files_for_all_its_connections(given: dict[str, int], files: int) -> None:
    assert f"\nLimitNOFILE={files}\n" in render(ROLE, "app.service.j2", **given)


def test_a_release_is_named_by_its_workers_long_connections() -> None:
    assert "LONG_CONNECTIONS = 1000\n" in render(ROLE, GUNICORN)
    assert "LONG_CONNECTIONS = 70\n" in render(ROLE, GUNICORN, django_asgi_worker_long_connections=70)
    assert "long_connections.py" in evaluate(ROLE, "__django_asgi_files.keys() | list")


def test_a_path_prefix_reaches_the_app_the_edge_and_the_release() -> None:
    given = {"django_asgi_path_prefix": "/shop"}
    assert '"root_path": "/shop",' in render(ROLE, GUNICORN, **given)
    assert "root_path" not in render(ROLE, GUNICORN)
    assert evaluate(ROLE, "django_asgi_exports.path_prefix", **given) == "/shop"
    assert evaluate(ROLE, "__django_asgi_manifest.path_prefix", **given) == "/shop"


def test_the_edge_gets_the_live_links_socket_and_both_static_directories() -> None:
    name = {"django_asgi_name": "shop"}
    assert evaluate(ROLE, "django_asgi_exports.socket", **name) == "/opt/shop/live/socket"
    assert evaluate(ROLE, "django_asgi_exports.static_directories", **name) == [
        "/opt/shop/live/static",
        "/opt/shop/static-pool",
    ]
    assert evaluate(ROLE, "django_asgi_exports.media_directory", **name) == ""
    media = evaluate(ROLE, "django_asgi_exports.media_directory", django_asgi_media_url="/media/", **name)
    assert media == "/var/lib/shop/media"


@pytest.mark.parametrize(("collected", "directories"), [(True, ["/opt/shop/live/static", "/opt/shop/static-pool"]), (False, [])])
def test_the_edge_serves_static_files_only_if_they_are_collected(collected: bool, directories: list[str]) -> None:
    given = {"django_asgi_name": "shop", "django_asgi_collectstatic": collected}
    assert evaluate(ROLE, "django_asgi_exports.static_directories", **given) == directories


def printed(hosts: list[str], **variables: object) -> str:
    """What a deploy to some hosts prints; the inventory has web1 and web2, and release b replaces release a."""
    reported = {"live": "a", "serves": True, "leader": False, "order": ["a"], "previous": None, "key": ""}
    of_host = {"__django_asgi_host": reported, "__django_asgi_release": variables.pop("release", "b")}
    play = {
        "inventory_hostname": hosts[0],
        "ansible_play_hosts": hosts,
        "ansible_play_hosts_all": hosts,
        "hostvars": dict.fromkeys(["web1", "web2"], of_host),
        "groups": {"app": ["web1", "web2"]},
    }
    return evaluate(ROLE, "__django_asgi_summary", **play, **of_host, **variables)


TIMER = {"name": "digest", "command": "manage.py digest", "calendar": "daily"}
ONCE = {"name": "relay", "command": "manage.py relay", "hosts": "one"}


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"django_asgi_timers": [TIMER]}, "web1 is not a host of this run, so what it runs for the fleet (digest) stays"),
        ({"django_asgi_processes": [ONCE], "django_asgi_leader_host": "web1"}, "web1 is not a host of this run"),
        ({"django_asgi_celery_app": "shop", "django_asgi_celery_beat_host": "web1"}, "(beat) stays with its former release"),
    ],
)
def test_a_run_without_the_host_that_runs_what_the_fleet_runs_once_warns(variables: dict, names: str) -> None:
    (warning,) = re.findall("Warning: (.*)", printed(["web2"], **variables))
    assert names in warning
    assert warning.endswith("Run the same play with --limit web1 too.")


@pytest.mark.parametrize(
    ("hosts", "variables"),
    [
        (["web1", "web2"], {"django_asgi_timers": [TIMER]}),
        (["web2"], {"django_asgi_timers": [TIMER], "django_asgi_leader_host": "web2"}),
        (["web2"], {"django_asgi_processes": [ONCE | {"hosts": "all"}]}),
        (["web2"], {"django_asgi_timers": [TIMER], "release": "a"}),
    ],
    ids=["all-hosts", "the-leader", "nothing-runs-once", "nothing-to-do"],
)
def test_no_warning_if_nothing_stays_behind(hosts: list[str], variables: dict) -> None:
    assert "Warning" not in printed(hosts, **variables)


def test_the_address_that_a_deploy_prints_has_the_path_prefix() -> None:
    given = {"django_asgi_edge_address": "http://127.0.0.1:8080", "django_asgi_edge_names": ["shop.example.org"]}
    assert "Its address, as the hosts see it: http://shop.example.org:8080\n" in printed(["web1"], **given)
    below = printed(["web1"], **given, django_asgi_path_prefix="/shop")
    assert "Its address, as the hosts see it: http://shop.example.org:8080/shop/\n" in below

"""asgictl's metrics: what they report about a host, in a format that Prometheus reads."""

import json
import math
import re
import stat
from pathlib import Path

import pytest
from asgictl import metrics as module
from asgictl.app import App
from asgictl.deploy import Deploy
from asgictl.jobs import note_end
from asgictl.metrics import FAMILIES, Sample, exposition, metrics
from fake_host import A, B, C, Systemd, deploy, put_release

LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? (\S+)')


def read(text: str) -> dict[tuple[str, ...], float]:
    """The samples of a text by name and sorted labels; fails on a line that the format does not allow."""
    samples = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            name, labels, value = LINE.fullmatch(line).groups()
            key = (name, *sorted(re.findall(r'[a-z]+="(?:[^"\\]|\\.)*"', labels or "")))
            assert key not in samples, f"twice: {line}"
            samples[key] = float(value)
    return samples


def values(app: App, name: str, **labels: str) -> list[float]:
    """The values of the samples of `name` that have these labels."""
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    return [value for key, value in read(metrics([app])).items() if key[0] == name and wanted <= set(key)]


def value(app: App, name: str, **labels: str) -> float:
    """The value of the one sample of `name` that has these labels."""
    (found,) = values(app, name, **labels)
    return found


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The workers of each instance."""
    found = [{"pid": 11, "memory_mib": 60, "age_seconds": 5}, {"pid": 12, "memory_mib": 70, "age_seconds": 6}]
    monkeypatch.setattr(module.Instance, "workers", lambda _instance: found)
    return found


def test_a_host_without_apps_has_no_metrics() -> None:
    assert metrics([]) == ""


def test_before_the_first_deploy_there_is_a_problem_and_nothing_else_is_wrong(app: App, systemd: Systemd) -> None:
    assert value(app, "asgi_collect_success") == 1
    assert value(app, "asgi_problems") == 1
    assert value(app, "asgi_retiring_instances") == 0
    assert value(app, "asgi_deploy_lock_age_seconds") == 0
    assert values(app, "asgi_live_release_info") == []
    assert values(app, "asgi_last_deploy_success") == []
    assert values(app, "asgi_deploys_total") == [0] * 6, "a counter exists before it counts"


def test_the_live_release_is_told_with_its_source(app: App, systemd: Systemd, workers: list[dict]) -> None:
    deploy(app, A)
    systemd.connections[A] = 7
    assert value(app, "asgi_live_release_info", release=A, source="/home/me/shop", version="HEAD") == 1
    assert value(app, "asgi_instance_up", release=A, state="live") == 1
    assert value(app, "asgi_instance_connections", release=A, state="live") == 7
    assert value(app, "asgi_workers_wanted", release=A) == 2
    assert value(app, "asgi_workers", release=A, state="live") == 2
    assert value(app, "asgi_worker_memory_bytes", release=A, pid="12") == 70 * 1024 * 1024
    assert value(app, "asgi_worker_age_seconds", release=A, pid="12") == 6
    assert value(app, "asgi_problems") == 0
    assert value(app, "asgi_last_deploy_success") == 1


def test_a_live_instance_that_failed_is_down(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    systemd.states[f"shop@{A}.service"] = "failed"
    assert value(app, "asgi_instance_up", state="live") == 0
    assert value(app, "asgi_problems") == 1


def test_a_live_release_that_is_gone_from_disk_is_a_problem_and_no_crash(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    (app.releases / A).rename(app.home / "gone")
    assert value(app, "asgi_collect_success") == 1
    assert value(app, "asgi_problems") == 1
    assert value(app, "asgi_live_release_info", source="") == 1


def test_a_retiring_instance_is_told_with_its_deadline(app: App, systemd: Systemd, workers: list[dict]) -> None:
    app.policy_file.write_text(json.dumps({"retire_seconds": 40}))
    deploy(app, A)
    systemd.connections[A] = 3
    deploy(app, B)
    assert value(app, "asgi_retiring_instances") == 1
    assert value(app, "asgi_instance_connections", release=A, state="retiring") == 3
    assert value(app, "asgi_workers", release=A, state="retiring") == 2
    replaced = module.load(app).until(A)
    assert value(app, "asgi_instance_retire_deadline_timestamp_seconds", release=A) == replaced + 40
    systemd.let_retire()
    assert value(app, "asgi_retiring_instances") == 0
    assert values(app, "asgi_instance_retire_deadline_timestamp_seconds") == []


def test_a_failed_deploy_is_the_last_one_until_the_next(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    steps = Deploy(app, "next")
    steps.begin(B, "bob@desk")
    steps.abort("The gate said no.")
    assert value(app, "asgi_deploys_total", kind="deploy", outcome="failed") == 1
    assert value(app, "asgi_deploys_total", kind="deploy", outcome="succeeded") == 1
    assert value(app, "asgi_last_deploy_success") == 0
    assert value(app, "asgi_last_deploy_duration_seconds", outcome="failed") >= 0
    deploy(app, C)
    assert value(app, "asgi_last_deploy_success") == 1
    assert value(app, "asgi_deploys_total", kind="deploy", outcome="succeeded") == 2


def test_the_end_of_a_retirement_is_no_deploy(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    module.history.record(app, kind="retire", outcome="stopped", release=A, seconds=1, closed=0)
    assert sum(values(app, "asgi_deploys_total")) == 1
    assert value(app, "asgi_last_deploy_success") == 1


def test_the_age_of_a_deploy_that_is_under_way(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    Deploy(app, "next").begin(A, "bob@desk")
    since = module.load(app).attempt.since
    monkeypatch.setattr(module.time, "time", lambda: since + 4000)
    assert value(app, "asgi_deploy_lock_age_seconds") == pytest.approx(4000)


def test_an_app_that_cannot_be_read_takes_no_other_down(app: App, systemd: Systemd, capsys: pytest.CaptureFixture) -> None:
    deploy(app, A)
    broken = App("blog", app.root)
    broken.home.mkdir()
    (broken.home / "state.json").write_text("[")
    broken.policy_file.write_text("{")
    samples = read(metrics([broken, app]))
    assert samples["asgi_collect_success", 'app="blog"'] == 0
    assert samples["asgi_collect_success", 'app="shop"'] == 1
    assert 'app="blog"' in str(samples)
    assert "asgictl: blog: JSONDecodeError" in capsys.readouterr().err


@pytest.mark.parametrize("value", ['a "quoted" word', "back\\slash", "two\nlines", "snow ☃", "{a=b},"])
def test_any_text_can_be_a_label(app: App, systemd: Systemd, value: str) -> None:
    deploy(app, A, source={"address": value, "version": ""})
    (key,) = [key for key in read(metrics([app])) if key[0] == "asgi_live_release_info"]
    (source,) = [label for label in key if label.startswith("source=")]
    unescaped = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), source[8:-1])
    assert unescaped == value


def test_each_family_is_announced_once_and_holds_together(app: App, systemd: Systemd, workers: list[dict]) -> None:
    for release in (A, B):
        systemd.connections[release] = 1
        deploy(app, release)
    (app.units / "shop.tidy.timer").touch()
    note_end(app, "tidy")
    lines = metrics([app, App("blog", app.root)]).splitlines()
    heads = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert heads == [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert heads == list(FAMILIES), "every family has a sample here"
    order = [line.split("{")[0] for line in lines if not line.startswith("#")]
    assert list(dict.fromkeys(order)) == heads
    assert order == sorted(order, key=heads.index)


def test_names_end_in_their_unit_and_counters_in_total() -> None:
    for name, (kind, text) in FAMILIES.items():
        assert re.fullmatch(r"asgi(_[a-z]+)+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert "\n" not in text
        assert not re.search(r"milli|minutes|hours|mib|kilo", name)


def test_a_sample_without_labels_has_no_braces() -> None:
    assert str(Sample("asgi_problems", math.inf)) == "asgi_problems inf"
    assert exposition([Sample("asgi_problems", 1)]).endswith("\nasgi_problems 1")


def test_a_file_is_replaced_whole_and_readable_for_the_exporter(app: App, systemd: Systemd, tmp_path: Path) -> None:
    put_release(app, C)
    file = tmp_path / "asgi.prom"
    file.write_text("before")
    file.chmod(0o600)
    assert str(file) in metrics([app], str(file))
    assert file.read_text() == metrics([app]) + "\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]
    metrics([], str(file))
    assert file.read_text() == ""

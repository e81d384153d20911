"""Deploys, good and bad, under continuous traffic that must not be affected."""

import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from variants import BROKEN, broken, variant, with_migration

testinfra_hosts = ["ansible://app"]


def test_five_deploys_in_a_row(playbook, watch, tmp_path):
    with watch.window("five deploys"):
        for number in range(5):
            before = watch.leaves()
            playbook("release", django_asgi_source=str(variant(tmp_path, f"deploy-{number}")))
            assert watch.live() != before
    watch.assert_alone()


def test_a_change_of_workers_and_of_environment(playbook, watch, site):
    with watch.window("workers"):
        playbook("release", django_asgi_workers=3)
    assert len(watch.status()["live"]["workers"]) == 3
    with watch.window("environment"):
        playbook("release", django_asgi_env={"ALLOWED_HOSTS": "sample.test", "GREETING": "Hello"})
    assert len(watch.status()["live"]["workers"]) == 2


def test_back_and_forward_again(playbook, watch):
    newest, before = watch.live(), watch.status()["previous"]
    with watch.window("rollback"):
        playbook("rollback")
    assert watch.live() == before
    further = watch.status()["previous"]
    with watch.window("second rollback"):
        playbook("rollback")
    assert watch.live() == further, "going back twice goes further back"
    with watch.window("forward"):
        playbook("rollback", django_asgi_release=newest[:6])
    assert watch.live() == newest
    watch.assert_alone()


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_release_gets_no_traffic(how, playbook, watch, tmp_path):
    before, known = watch.live(), watch.host.check_output("asgictl releases")
    with watch.window(f"broken {how}"):
        # Only what hangs waits for the timeout; every other release fails earlier.
        seconds = {"django_asgi_gate_timeout": 5} if how.startswith("hang") else {}
        output = playbook("release", fails=True, django_asgi_source=str(broken(tmp_path, how)), **seconds)
    reason = {
        "import": "config.asgi:application can't be imported",
        "start": "RuntimeError: broken on purpose",
        "health": "the answer was 500",
        "hanging-import": "config.asgi:application was not imported within 5 s",
        "hanging-start": "did not serve within 5 s",
        "websocket": "WebSocket /ws/chat/",
        "dependencies": "no-such-package-of-ours",
    }[how]
    assert reason in output
    assert f"Release {before} goes on serving" in output
    assert watch.live() == before
    assert watch.host.check_output("asgictl releases").splitlines()[-1].split()[0] == known.splitlines()[-1].split()[0]
    watch.assert_clean()


def test_a_failing_migration_stops_the_deploy(playbook, watch, tmp_path):
    before = watch.live()
    source = with_migration(tmp_path, "failing", "raise RuntimeError('fails on purpose')")
    with watch.window("failing migration"):
        output = playbook("release", fails=True, django_asgi_source=str(source))
    assert "RuntimeError: fails on purpose" in output
    assert watch.live() == before
    watch.assert_clean()


def test_a_full_disk_stops_the_deploy(playbook, watch, tmp_path):
    before = watch.live()
    source = variant(tmp_path, "large")
    (source / "large.bin").write_bytes(os.urandom(8 << 20))
    free = int(watch.host.check_output("df --output=avail --block-size=1M /opt").split()[1])
    watch.host.check_output("fallocate --length=%sM /opt/filler", str(free - 4))
    try:
        with watch.window("full disk"):
            output = playbook("release", fails=True, django_asgi_source=str(source))
    finally:
        watch.host.check_output("rm /opt/filler")
    assert "No space left on device" in output
    assert watch.live() == before
    watch.assert_clean()
    with watch.window("after the full disk"):
        playbook("release", django_asgi_source=str(source))
    assert watch.live() != before


def test_a_controller_killed_at_each_step_in_turn_leaves_nothing_to_clean(playbook, watch, tmp_path):
    # Each run gets past the step at which the previous run was killed.
    for task in (
        "Stage the release",
        "Migrate the database",
        "Start the release beside the live one",
        "Switch the traffic",
        "Retire the old release",
    ):
        source = str(variant(tmp_path, f"killed-at-{re.sub('[^a-z]', '-', task.lower())}"))
        with watch.window(f"killed: {task}"):
            run = playbook.start("release", django_asgi_source=source)
            assert any(line.startswith("TASK") and task in line for line in run.stdout), f"the run ended before {task}"
            os.killpg(run.pid, signal.SIGKILL)
            assert run.wait() == -signal.SIGKILL
        watch.judge()
    with watch.window("after all of them"):
        playbook("release", django_asgi_source=str(variant(tmp_path, "after-all-of-them")))
    watch.assert_clean()


def overlapping(runs: list[subprocess.Popen], task: str) -> list[str]:
    """Return the outputs of runs that are sure to overlap: the first to begin `task` is paused until another one has ended."""
    held: list[subprocess.Popen] = []

    def read(run: subprocess.Popen) -> str:
        output = ""
        for line in run.stdout:
            output += line
            if task in line and not held:
                held.append(run)
                os.killpg(run.pid, signal.SIGSTOP)
        run.wait()
        for other in held:
            if other.poll() is None:
                os.killpg(other.pid, signal.SIGCONT)
        return output

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, runs))


def test_of_two_deploys_at_once_exactly_one_proceeds(playbook, watch, tmp_path):
    before = watch.live()
    with watch.window("two at once"):
        runs = [playbook.start("release", django_asgi_source=str(variant(tmp_path, name))) for name in ("one", "other")]
        outputs = overlapping(runs, "Stage the release")
    codes = [run.returncode for run in runs]
    assert sorted(code == 0 for code in codes) == [False, True], "\n".join(outputs)
    loser = outputs[codes.index(max(codes))]
    assert re.search(r"@\S+ has been deploying sample \(release [0-9a-f]{12}\) since", loser)
    assert "django_asgi_lock_takeover" in loser
    assert watch.live() != before
    watch.assert_alone()


def test_assets_of_an_earlier_release_are_still_there(playbook, watch, site, tmp_path):
    old = re.search(r'/static/[^"]+\.[0-9a-f]{12}\.css', site.get("/").text)[0]
    source = variant(tmp_path, "other-style")
    for style in source.rglob("*.css"):
        style.write_text(style.read_text() + "\n/* another style */\n")
    with watch.window("other style"):
        playbook("release", django_asgi_source=str(source))
    new = re.search(r'/static/[^"]+\.[0-9a-f]{12}\.css', site.get("/").text)[0]
    assert new != old
    assert "another style" in site.get(new).text
    assert "another style" not in site.get(old).raise_for_status().text


def test_a_rollback_that_would_lose_migrations_is_refused(playbook, watch, tmp_path):
    before = watch.live()
    with watch.window("migration"):
        playbook("release", django_asgi_source=str(with_migration(tmp_path, "colourful")))
    migrated = watch.live()
    with watch.window("refused rollback"):
        output = playbook("rollback", fails=True)
    assert "showcase.0002_colour" in output
    assert watch.live() == migrated
    with watch.window("forced rollback"):
        playbook("rollback", django_asgi_force=True)
    assert watch.live() == before
    watch.assert_clean()


def test_the_history_tells_what_happened(playbook, watch):
    output = playbook("status")
    assert watch.live() in output
    entries = watch.status()["history"]
    assert {entry["outcome"] for entry in entries} <= {"succeeded", "failed", "stopped", "died"}
    assert all(entry["time"] and entry["release"] for entry in entries)
    count = "grep --count rollback /var/log/asgictl/sample.jsonl"
    rollbacks = int(watch.host.check_output(count))
    with watch.window("one more"):
        playbook("rollback", django_asgi_release=watch.status()["previous"], django_asgi_force=True)
    assert int(watch.host.check_output(count)) == rollbacks + 1

"""Labs of several clones on one machine do not disturb each other, and make clean reports only what it did."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from labs import Clone, as_root, free_port, greeting

BIN = Path(sys.executable).parent


@contextmanager
def watched(clone: Clone) -> Iterator[None]:
    """Connect to the clone's host all the while, and check that it is the same one in the end."""
    container, failures, over = clone.container()["Id"], [], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if (answer := greeting(clone.port)) != f"{clone.name}-one":
                failures.append(f"{time.time()}: {answer or 'nobody'} answers")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert not failures, f"{failures}\n{clone.report()}"
    assert clone.boot() == []
    assert clone.container()["Id"] == container


@pytest.fixture(scope="module")
def clones(make_clone) -> tuple[Clone, Clone]:
    """Two clones."""
    return make_clone("left"), make_clone("right")


def test_two_labs_boot_at_once_from_nothing(clones):
    with ThreadPoolExecutor() as pool:
        told = list(pool.map(Clone.boot, clones))
    assert sum("built" in line for lines in told for line in lines) <= 1, f"an image was built twice: {told}"
    subnets = {clone.container()["NetworkSettings"]["Networks"][clone.name]["Gateway"] for clone in clones}
    assert len(subnets) == 2


def cleaned(clone: Clone) -> None:
    """Clean a clone's lab."""
    done = clone.clean()
    assert done.returncode == 0, done.stderr
    assert clone.traces() == []


def killed(clone: Clone) -> None:
    """Kill all processes of a clone's lab, as the kernel or an impatient user does."""
    as_root("kill", f"-{int(signal.SIGKILL)}", clone.first())


@pytest.mark.parametrize("order", [(cleaned,), (killed,), (killed, cleaned), (killed, Clone.boot, cleaned)], ids=str)
def test_what_is_done_to_one_lab_does_not_touch_the_other(clones, order: tuple[Callable[[Clone], None], ...]):
    left, right = clones
    right.boot()
    left.boot()
    with watched(right):
        for step in order:
            step(left)
        left.boot()


def test_the_rules_of_a_dead_lab_do_not_stand_before_a_live_ones(clones):
    left, right = clones
    left.boot()
    killed(left)
    assert left.rules(), "this test is about rules that stay"
    port, right.port = right.port, left.port
    try:
        right.boot()
    finally:
        right.port = port
    assert left.rules() == []


def test_a_port_that_somebody_else_listens_on_is_named(clones, make_clone):
    right = clones[1]
    right.boot()
    third = make_clone("third")
    third.port = right.port
    with watched(right), pytest.raises(AssertionError, match=f"Port {right.port} of this machine is in use"):
        third.boot()
    # Its port belongs to the other lab, which keeps listening there.
    assert third.clean().returncode == 0
    assert not third.lab.exists()


def test_clean_without_root_keeps_what_it_cannot_take_away(clones):
    left = clones[0]
    left.boot()
    with watched(left):
        done = left.clean(*(() if os.geteuid() else ("setpriv", "--reuid=65534", "--clear-groups")))
        if os.geteuid():
            pytest.fail("this test must run as root")
    assert done.returncode == 1
    assert "sudo make clean" in done.stderr
    assert (left.directory / ".lab" / left.ident).exists()


def test_clean_names_what_it_cannot_take_away(clones):
    left = clones[0]
    left.boot()
    stubborn = left.lab / "stubborn"
    as_root("touch", stubborn)
    as_root("chattr", "+i", stubborn)
    try:
        done = left.clean()
    finally:
        as_root("chattr", "-i", stubborn)
    assert done.returncode == 1
    assert f"directory {left.lab}" in done.stderr
    assert (left.directory / ".lab" / left.ident).exists()
    cleaned(left)


def test_clean_takes_what_a_killed_run_of_these_tests_has_left(make_clone, room):
    (room / "rest").mkdir()
    (room / "rest/base.tar").symlink_to(room / "base.tar")
    user, left = make_clone("user"), Clone(room / "rest/left", room / "rest/state", free_port())
    left.boot()
    (user.directory / ".lab").mkdir()
    (user.directory / ".lab/lab-tests").symlink_to(room / "rest")
    cleaned = user.clean()
    assert cleaned.returncode == 0, cleaned.stderr
    assert f"removed lab {left.name}" in cleaned.stdout
    assert left.traces() == []
    assert not (room / "rest").exists()


def test_the_last_clean_takes_what_labs_share(clones, clone, make_clone):
    for each in (*clones, clone, make_clone("fourth")):
        cleaned(each)
    assert not clone.state.exists(), sorted(map(str, clone.state.glob("*/*")))


def test_the_playbook_heals_a_lab_too_and_clean_takes_it_away(clone, room):
    """Boot and clean the lab with the role, as make demo and molecule do."""
    shim = room / "bin/mmdebstrap"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\nfor word; do case $word in *.tar) exec cp {room}/base.tar "$word";; esac; done\n')
    shim.chmod(0o755)
    environment = {**clone.environment, "PATH": f"{shim.parent}:{os.environ['PATH']}"}

    def play() -> dict:
        command = [BIN / "ansible-playbook", "playbooks/lab.yml"]
        done = subprocess.run(command, cwd=clone.directory, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        listing = subprocess.run(
            [BIN / "ansible-inventory", "--host", "one"],
            cwd=clone.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(listing.stdout)

    def reached(variables: dict) -> str:
        configuration = Path(variables["ansible_ssh_private_key_file"]).with_name("ssh_config")
        done = subprocess.run(["ssh", "-F", configuration, "one", "hostname"], capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr

    clone.boot()
    killed(clone)
    assert reached(play()) == "one"
    cleaned(clone)
    assert not clone.state.exists(), sorted(map(str, clone.state.glob("*/*")))
    assert not (clone.directory / "inventory/lab/lab.yml").exists()

"""Whatever state a lab is left in, its next boot succeeds without help, and make clean leaves nothing of it."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from labs import Clone, as_root, wait_until


def inside(clone: Clone, *command: str) -> None:
    """Run a command of this machine in the lab's namespaces."""
    namespaces = f"/proc/{clone.first()}/ns"
    as_root("nsenter", f"--mount={namespaces}/mnt", f"--pid={namespaces}/pid", "--", *command)


def kill(clone: Clone, number: int, signal_number: int = signal.SIGKILL) -> None:
    """Send a signal to a process of the lab, by its number in the lab's namespace."""
    inside(clone, "kill", f"-{int(signal_number)}", str(number))


def end(clone: Clone) -> None:
    """Kill the lab's first process, and wait until the kernel has ended all others."""
    first = clone.first()
    as_root("kill", "-9", first)
    wait_until(lambda: not Path("/proc", first).exists())


def removed_by_half(clone: Clone) -> None:
    """podman's data about the container and half of its files are gone; the host runs."""
    as_root("find", clone.lab / "storage/overlay-containers" / clone.container()["Id"], "-xdev", "-type", "f", "-delete")
    clone.execute("rm -rf /usr/bin")


def unknown_to_podman(clone: Clone) -> None:
    """The host runs, but podman has no record of it."""
    as_root("find", clone.lab / "storage/libpod", clone.lab / "storage", "-maxdepth", "1", "-name", "*.db", "-delete")
    as_root("find", clone.lab / "storage", "-maxdepth", "1", "-name", "db.sql*", "-delete")


def without_conmon(clone: Clone) -> None:
    """The host runs, but its supervisor was killed."""
    kill(clone, clone.container()["State"]["ConmonPid"])


def conmon_alone(clone: Clone) -> None:
    """The host was killed, and its supervisor hangs."""
    state = clone.container()["State"]
    kill(clone, state["ConmonPid"], signal.SIGSTOP)
    kill(clone, state["Pid"])


def address_held(clone: Clone) -> None:
    """The container is gone, but its address is still assigned to it."""
    leases = Path("/proc", clone.first(), "root", "run/containers/networks/ipam.db")
    as_root("cp", leases, clone.lab / "kept")
    clone.podman("rm", "--force", "--time", "0", f"{clone.name}-one")
    as_root("cp", clone.lab / "kept", leases)


def rules_left(clone: Clone) -> None:
    """The container is gone; the rule for its port leads to an unused address and precedes any new rule."""
    address = clone.container()["NetworkSettings"]["Networks"][clone.name]["IPAddress"]
    lines = [line.replace(f"--to-destination {address}:", f"--to-destination {address}9:") for line in clone.rules()]
    clone.podman("rm", "--force", "--time", "0", f"{clone.name}-one")
    # A chain's name, a digest, may begin with A too.
    nat = [re.sub("^-A", "-I", line) for line in lines if "--dport" in line or line.startswith(":")]
    as_root("iptables-restore", "--noflush", "--wait", "10", input="\n".join(["*nat", *nat, "COMMIT", ""]))


def unreachable(clone: Clone) -> None:
    """The host runs; somebody flushed the machine's rules and removed the bridge."""
    for line in clone.rules():
        table = "filter" if "NETAVARK_FORWARD" in line or "ISOLATION" in line else "nat"
        if line.startswith("-A"):
            text = f"*{table}\n-D{line.removeprefix('-A')}\nCOMMIT\n"
            as_root("iptables-restore", "--noflush", "--wait", "10", input=text)
    as_root("ip", "link", "delete", f"asgilab{clone.ident}")


def image_gone(clone: Clone) -> None:
    """The store of base images was removed below the running host."""
    as_root("rm", "-rf", clone.state / "images")


def image_damaged(clone: Clone) -> None:
    """The store of base images lists an image whose files are gone."""
    as_root(
        "find",
        clone.state / "images/overlay",
        "-mindepth",
        "3",
        "-maxdepth",
        "3",
        "-name",
        "usr",
        "-exec",
        "rm",
        "-rf",
        "{}",
        "+",
    )


def namespace_gone(clone: Clone) -> None:
    """Every process of the lab was killed; its rules and addresses are still there."""
    end(clone)


def machine_restarted(clone: Clone) -> None:
    """Only the files are left, and another process has the number of the lab's first process."""
    unreachable(clone)
    end(clone)
    as_root("sh", "-c", f"printf 1 >{clone.lab}/first")


def files_gone(clone: Clone) -> None:
    """The lab's files were removed below the running host, which keeps creating new ones."""
    for part in (clone.lab, clone.state / "networks", clone.state / "locks"):
        as_root("rm", "-rf", "--one-file-system", part, check=False)
    assert not (clone.lab / "first").exists()


STATES = [
    removed_by_half,
    unknown_to_podman,
    without_conmon,
    conmon_alone,
    address_held,
    rules_left,
    unreachable,
    image_gone,
    image_damaged,
    namespace_gone,
    machine_restarted,
    files_gone,
]


def test_a_sound_lab_is_left_alone(clone):
    clone.boot()
    container = clone.container()["Id"]
    assert clone.boot() == []
    assert clone.container()["Id"] == container


def test_a_sound_host_beside_a_broken_one_is_kept(make_clone):
    pair = make_clone("pair")
    pair.hosts = ["one", "two"]
    pair.boot()
    container = pair.container("two")["Id"]
    kill(pair, pair.container()["State"]["ConmonPid"])
    told = pair.boot()
    assert [line for line in told if "started" in line] == [f"started {pair.name}-one"], told
    assert pair.container("two")["Id"] == container
    assert pair.clean().returncode == 0
    assert pair.traces() == []


def test_a_machine_with_cgroup_v2(make_clone):
    """The lab uses /sys/fs/cgroup if that is cgroup v2; here a mount namespace stands for such a machine."""
    modern = make_clone("modern")
    script = 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
    modern.program = ["unshare", "--mount", "sh", "-c", script, "sh", *modern.program]
    modern.boot()
    assert modern.boot() == []
    end(modern)
    assert any("started" in line for line in modern.boot())
    assert modern.clean().returncode == 0
    assert modern.traces() == []


@pytest.fixture
def another(clone) -> Iterator[None]:
    """Another clone's lab, which keeps the base images, so that the test need not build them each time."""
    directory = clone.state / "labs/0123abcd"
    as_root("mkdir", "-p", directory)
    yield
    as_root("rm", "-rf", directory)


@pytest.mark.parametrize("break_it", STATES, ids=lambda state: state.__name__)
def test_the_next_boot_gets_through_and_clean_leaves_nothing(clone, another, break_it: Callable[[Clone], None]):
    clone.boot()
    break_it(clone)
    told = clone.boot()
    assert any("started" in line for line in told), f"the broken host was considered sound: {told}\n{clone.report()}"
    break_it(clone)
    cleaned = clone.clean()
    assert cleaned.returncode == 0, cleaned.stderr
    assert clone.traces() == []
    assert not (clone.directory / ".lab").exists()

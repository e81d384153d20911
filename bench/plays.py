"""A release's plays, as multiples of `ansible <host> -m ping`: what is left is the time of the network, of Ansible's own start, and
of the machine.
"""

from collections.abc import Callable
from pathlib import Path

from lab_apps import APPS, SOURCE, LabApps

PLAYS = {
    "release_unchanged": "`release.yml`, nothing changed",
    "release_code": "`release.yml`, changed code",
    "deploy_unchanged": "`deploy.yml`, nothing changed",
}


def measure(apps: LabApps, rounds: int, show: Callable[[str], None]) -> list[dict[str, float]]:
    """Return the seconds of the ping and of each play, for each round; `show` gets a line of progress."""
    app = next(iter(APPS))
    apps.play(app, "release")
    found = []
    for number in range(rounds):
        change(SOURCE, number)
        found.append(
            {
                "ping": apps.ansible(app, "ansible", "app", "-m", "ansible.builtin.ping"),
                "release_code": apps.play(app, "release"),
                "release_unchanged": apps.play(app, "release"),
                "deploy_unchanged": apps.play(app, "deploy"),
            }
        )
        show(f"round {number + 1}: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found[-1].items()))
    return found


def change(source: Path, number: int) -> None:
    """Change the project's code, and nothing that its environment depends on."""
    (source / "measured/version.py").write_text(f'"""The round that is measured."""\n\nROUND = {number}\n')

"""The command line, for operators and for the role."""

import argparse
import json
import os
import select
import signal
import sys
import threading
from pathlib import Path

from asgictl import facts, text
from asgictl import plan as plans
from asgictl.app import App, installed_apps
from asgictl.as_app import end_with_caller
from asgictl.compiled import compile_archive
from asgictl.deploy import Deploy, roll_back
from asgictl.errors import Refused
from asgictl.jobs import note_end
from asgictl.metrics import metrics
from asgictl.prepare import report_of
from asgictl.release import Release
from asgictl.retire import retire
from asgictl.status import releases, status
from asgictl.systemd import BESIDE

# A third of the live release's share of a busy processor (sched(7)).
STAGING_NICENESS = 5
DESCRIPTION = "Inspect, roll back and manage the Django ASGI apps on this host."
EPILOG = """
examples:
  asgictl status                     what is live, what is retiring, what is wrong
  asgictl releases                   the releases that you can roll back to
  asgictl rollback                   back to the release before the live one
  asgictl rollback 3f2a              to the release whose id begins with 3f2a
  asgictl inspect                    what was found of the project: databases, files, warnings
  asgictl maintenance on             show visitors the maintenance page, until 'off'
  asgictl logs -f                    follow the log of every instance
  asgictl manage createsuperuser     run manage.py in the live release's environment
  asgictl run celery --app config inspect active
                                     run another program of that environment
  asgictl --env DJANGO_SUPERUSER_PASSWORD manage createsuperuser --noinput --username ann --email ann@example.org

If the host has several apps, choose one: asgictl --app NAME status.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; the help omits those that only the role calls."""
    top = argparse.ArgumentParser(
        prog="asgictl", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--app", help="the app's name; optional if the host has only one app")
    top.add_argument("--json", action="store_true", help="print JSON instead of text")
    top.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="pass this variable of yours on to manage and run; may be repeated",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    of_status = commands.add_parser("status", help="show the live and the retiring releases, workers, deploys, problems")
    of_status.add_argument("--quick", action="store_true", help="don't check the database for pending migrations")
    commands.add_parser("releases", help="list the releases on disk, oldest deploy first")
    rollback = commands.add_parser("rollback", help="return to the previous release, or to the one named")
    rollback.add_argument("release", nargs="?", help="a release's id, or its first characters")
    rollback.add_argument("--force", action="store_true", help="even if the database holds newer migrations")
    rollback.add_argument("--take-over", action="store_true", help="even if a deploy holds the lock; only if that deploy is dead")
    rollback.add_argument("--edge", default="", metavar="URL", help="wait until this edge answers from the release")
    inspect = commands.add_parser("inspect", help="show what was found of the live release's project, or of the named one's")
    inspect.add_argument("release", nargs="?", help="a release's id, or its first characters")
    closed = commands.add_parser("maintenance", help="show visitors the maintenance page, or open the site again")
    closed.add_argument("state", nargs="?", choices=["on", "off"], help="default: print the current state")
    logs = commands.add_parser("logs", help="show the log of every instance; further arguments go to journalctl")
    logs.add_argument("arguments", nargs=argparse.REMAINDER)
    manage = commands.add_parser("manage", help="run manage.py in the live release's environment, as the app's user")
    manage.add_argument("arguments", nargs=argparse.REMAINDER)
    ran = commands.add_parser("run", help="run a program of the live release's environment, as the app's user")
    ran.add_argument("arguments", nargs=argparse.REMAINDER)
    measure = commands.add_parser("metrics", help="print the metrics of every app on the host, for Prometheus")
    measure.add_argument("--output", default="", metavar="FILE", help="write them to this file instead")
    retiring = commands.add_parser("retire")
    retiring.add_argument("release")
    ended = commands.add_parser("ended")
    ended.add_argument("timer")
    commands.add_parser("call")
    compiling = commands.add_parser("compile")
    compiling.add_argument("digest")
    return top


def command_line(arguments: list[str]) -> list[str]:
    """Return `arguments` with `--` after `logs`, `manage` or `run`, so that the parser leaves an option after these alone."""
    for command in ("logs", "manage", "run"):
        after = arguments.index(command) + 1 if command in arguments else len(arguments)
        if arguments[after:] and arguments[after] not in ("-h", "--help", "--"):
            return [*arguments[:after], "--", *arguments[after:]]
    return arguments


def the_app(name: str | None) -> App:
    """The app `name`, or the host's only app; Refused if there is none."""
    apps = installed_apps()
    if name is None and len(apps) == 1:
        name = apps[0]
    if not apps:
        raise Refused("This host has no app yet; run playbooks/deploy.yml.")
    if name not in apps:
        there = ", ".join(apps)
        wrong = f"several apps ({there}); choose one with --app" if name is None else f"no app {name}; it has {there}"
        raise Refused(f"This host has {wrong}.")
    return App(name)


def call(app: App, request: dict) -> dict:
    """Run a step of a deploy for the role; `request` is {"do": step, "token": …, …the step's arguments}."""
    do, token = request.pop("do"), request.pop("token", "")
    if do == "facts":
        return facts.host_facts(app, **request)
    if do == "plan":
        return plans.plan(app, **request)
    if do == "status":
        facts_of_status = status(app)
        return {"changed": False, "text": text.status(facts_of_status), **facts_of_status}
    if do == "stage":
        # The live release's visitors come first.
        os.nice(STAGING_NICENESS)
    return {"changed": False} | getattr(Deploy(app, token), do)(**request)


def read_request(descriptor: int) -> dict:
    """Read a request: its length in bytes on a line of its own, then so much JSON. What follows is left to be read, a bundle."""
    length = b""
    while not length.endswith(b"\n"):
        # One by one, so that nothing of the bundle is read.
        length += os.read(descriptor, 1) or b"\n"
    text = b""
    while more := os.read(descriptor, int(length) - len(text)):
        text += more
    return json.loads(text)


def watch_caller() -> None:
    """End this process, as SIGTERM does, when nobody reads its output any more: after Ctrl-C, or without a network."""
    output = select.poll()
    # What it waits for is an error or a hang-up, which need not be named (poll(2)).
    output.register(1, 0)

    def watch() -> None:
        output.poll()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def run(options: argparse.Namespace) -> object:
    """Run the command; return what to print: a dict or list (as JSON or text), or a str (as it is)."""
    if options.command == "call":
        return call(App(options.app), read_request(sys.stdin.fileno()))
    if options.command == "compile":
        compile_archive(Path(sys.argv[0]), options.digest)
        return {}
    if options.command == "metrics":
        return metrics([the_app(name) for name in ([options.app] if options.app else installed_apps())], options.output)
    app = the_app(options.app)
    if options.command == "status":
        return status(app, options.quick)
    if options.command == "releases":
        return releases(app)
    if options.command == "rollback":
        target = options.release and app.release_named(options.release)
        return roll_back(app, target, options.edge, options.force, options.take_over)
    if options.command == "maintenance":
        return maintenance(app, options.state)
    if options.command == "retire":
        return retire(app, options.release)
    if options.command == "ended":
        return note_end(app, options.timer)
    if options.command == "logs":
        os.execvp(
            "journalctl",
            ["journalctl", f"--unit={app.name}@*", f"--unit={app.name}{BESIDE}*", *(passed_on(options) or ["--lines=100"])],
        )
    named = app.release_named(options.release) if options.command == "inspect" and options.release else app.live()
    if not named:
        raise Refused(f"{app.name} has no live release on this host yet; run playbooks/deploy.yml.")
    if options.command == "inspect":
        return report_of(Release(app, named))
    release, arguments = Release(app, named), passed_on(options)
    if options.command == "run" and not arguments:
        raise Refused("'asgictl run' needs a program, such as celery or python.")
    command = release.manage_command(*arguments) if options.command == "manage" else release.command(*arguments)
    return run_as_app(release, command, options.env)


def maintenance(app: App, state: str | None) -> dict:
    """Close the site (`on`), open it (`off`) or neither; return its state. The edge checks the file on every request."""
    before = app.maintenance_file.exists()
    if state == "on":
        app.maintenance_file.touch(0o644)
    elif state == "off":
        app.maintenance_file.unlink(missing_ok=True)
    closed = app.maintenance_file.exists()
    return {"app": app.name, "maintenance": closed, "changed": closed != before}


def passed_on(options: argparse.Namespace) -> list[str]:
    """The arguments that are passed on to another program."""
    return options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments


def run_as_app(release: Release, command: list[str], names: list[str]) -> str:
    """Replace this process with a command of the release, run as the app's user on this terminal; does not return.

    Of the caller's environment it gets the variables `names`; Refused if one is not set.
    """
    settings = release.process_settings()
    if missing := [name for name in names if name not in os.environ]:
        raise Refused(f"{', '.join(missing)} is not set here, so it can't be passed on; with sudo: sudo NAME=value asgictl …")
    settings["env"] |= {name: os.environ[name] for name in names}
    os.chdir(settings["cwd"])
    os.umask(settings["umask"])
    if os.geteuid() == 0:
        # Its own terminal: through root's, the app could type into root's shell (ioctl_tty(2), TIOCSTI).
        command = ["/usr/sbin/runuser", f"--user={release.app.name}", *(["--pty"] if os.isatty(0) else []), "--", *command]
    os.execve(command[0], command, settings["env"])


def main() -> int:
    """Run the command line; exit code 0 on success, 1 if refused, 2 for a wrong command line."""
    # With a hardened host's umask, the app and the edge could not read their files.
    os.umask(0o022)
    options = parser().parse_args(command_line(sys.argv[1:]))
    if options.command in ("call", "rollback"):
        end_with_caller()
    if options.command == "call":
        watch_caller()
    as_json = options.json or options.command == "call"
    try:
        result = run(options)
    except Refused as refused:
        if options.command == "call":
            # The caller may still be sending a bundle, and could not read the answer before all of it has been taken.
            while os.read(sys.stdin.fileno(), 1 << 16):
                pass
        if as_json:
            print(json.dumps({"failed": True, "msg": refused.with_cause(), "details": refused.details, **refused.facts}))
        else:
            print(f"asgictl: {refused.with_cause()}", *([refused.details] if refused.details else []), sep="\n", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"asgictl: {error}. Run it as root: sudo asgictl …", file=sys.stderr)
        return 1
    print(json.dumps(result) if as_json else text.render(options.command, result))
    return 0

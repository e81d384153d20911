"""The benchmark's own apps on the lab host: deployed by the role, measured, and removed with everything that was put there.

Two apps have the same project; they differ in `django_asgi_sync_views`. What the benchmark generates is in .lab/bench.
"""

import io
import json
import secrets
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
WORK = ROOT / ".lab/bench"
SOURCE = WORK / "project"
# django_asgi_sync_views by the name of the app.
APPS = {"bench": "per_call", "bench-one-hop": "one_hop"}
HOME = "/var/lib/asgi-bench"
# The other servers at their newest versions. gunicorn 27.0.1 requires a newer gunicorn_h1c than there is, so its own parser is measured.
OTHERS = ["granian", "daphne"]
# An environment with a release's packages and the others, as the app's user: sh -s -- <directory> <app> <package>...
INSTALL = """set -eu
cd "$1"
app=$2
shift 2
uv=$(ls -d /usr/local/lib/uv/*/bin/uv | tail -n 1)
release=$(readlink -f "/opt/$app/live")
install -d -o "$app" -g "$app" /run/asgi-bench venv
as_app() {
    setpriv --reuid="$app" --regid="$app" --init-groups env HOME="/var/cache/$app" UV_CACHE_DIR="/var/cache/$app/uv" \\
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$@" < /dev/null
}
as_app "$uv" pip freeze --quiet --python "$release/venv/bin/python" > packages.txt
as_app "$uv" venv --quiet --clear --python "$(readlink -f "$release/venv/bin/python")" venv
as_app "$uv" pip install --quiet --python venv/bin/python --requirement packages.txt "$@"
"""
STYLE = "".join(
    f".column-{width} {{ width: {width}px; margin: 0 auto; padding: 0 {width % 7}px; }}\n" for width in range(100, 320)
)


class BenchError(Exception):
    """Something that keeps the benchmark from measuring; the text reports what, and what to do."""


class LabApps:
    """The apps on the lab host that `make demo` has booted; raises BenchError if there is none."""

    def __init__(self) -> None:
        listed = subprocess.run([BIN / "ansible-inventory", "--list"], capture_output=True, text=True, check=True, cwd=ROOT)
        inventory = json.loads(listed.stdout)
        self.host = inventory["app"]["hosts"][0]
        variables = inventory["_meta"]["hostvars"][self.host]
        if "lab_container" not in variables:
            raise BenchError("there is no lab host; run `make demo` first")
        # The rest of the inventory is the demo's.
        self.connection = {name: value for name, value in variables.items() if name.startswith("ansible_")}
        self.ssh_config = Path(variables["ansible_ssh_private_key_file"]).with_name("ssh_config")

    def write(self) -> None:
        """Write the source and an inventory for each app."""
        shutil.rmtree(WORK, ignore_errors=True)
        shutil.copytree(ROOT / "bench/project", SOURCE, ignore=shutil.ignore_patterns("__pycache__"))
        # The same versions as the sample project's.
        shutil.copy(ROOT / "sample_app/requirements.txt", SOURCE)
        style = SOURCE / "measured/static/measured/site.css"
        style.parent.mkdir(parents=True)
        style.write_text(STYLE)
        for app, sync_views in APPS.items():
            variables = {
                "django_asgi_name": app,
                "django_asgi_source": str(SOURCE),
                "django_asgi_module": "measured.asgi:application",
                "django_asgi_settings_module": "measured.settings",
                "django_asgi_health_path": "/async/",
                "django_asgi_websocket_path": "/ws/echo/",
                "django_asgi_workers": 1,
                "django_asgi_sync_views": sync_views,
                "django_asgi_env": {"ALLOWED_HOSTS": f"{app}.localhost"},
                "django_asgi_secrets": {"SECRET_KEY": secrets.token_urlsafe(50)},
                "nginx_site_server_names": [f"{app}.localhost"],
            }
            inventory = self.inventory(app)
            inventory.parent.mkdir()
            inventory.touch(mode=0o600)
            inventory.write_text(
                json.dumps({"all": {"children": {"app": {"hosts": {self.host: self.connection}, "vars": variables}}}})
            )

    def inventory(self, app: str) -> Path:
        """Return the path of an app's inventory."""
        return WORK / app / "hosts.yml"

    def ansible(self, app: str, program: str, *arguments: str) -> float:
        """Run one of Ansible's programs on an app's inventory; return the seconds that it took, raise BenchError if it fails."""
        begun = time.monotonic()
        command = [BIN / program, "-i", self.inventory(app), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            raise BenchError(f"{tail}\n`{program} {' '.join(arguments)}` failed for the app {app}; its last lines are above")
        return time.monotonic() - begun

    def play(self, app: str, name: str, *arguments: str) -> float:
        """Run a playbook for an app; return the seconds that it took."""
        return self.ansible(app, "ansible-playbook", f"playbooks/{name}.yml", *arguments)

    def on_host(self, command: str, text: str | bytes = "") -> str:
        """Run a shell command on the host with `text` as its input; return its output, raise BenchError if it fails."""
        text = text.encode() if isinstance(text, str) else text
        done = subprocess.run(["ssh", "-F", self.ssh_config, self.host, command], input=text, capture_output=True, check=False)
        if done.returncode:
            raise BenchError(f"{done.stderr.decode()}\na command on the lab host failed: {command}")
        return done.stdout.decode()

    def prepare(self) -> None:
        """Deploy the apps, and install the other servers beside the same packages in an environment of the app's user."""
        for app in APPS:
            self.play(app, "deploy")
        app = next(iter(APPS))
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in (ROOT / "bench/host").glob("*.py"):
                archive.add(path, f"host/{path.name}")
        self.on_host(f"rm -rf {HOME} && mkdir -p {HOME} && tar -xC {HOME}", packed.getvalue())
        self.on_host(f"sh -s -- {HOME} {app} {' '.join(map(shlex.quote, OTHERS))}", INSTALL)

    def measure(self, rounds: int, requests: int, connections: int) -> Iterator[dict]:
        """Yield the measurements, each as host/__main__.py prints it."""
        apps = {sync_views: app for app, sync_views in APPS.items()}
        order = {"rounds": rounds, "requests": requests, "connections": connections, "apps": apps}
        command = ["ssh", "-F", self.ssh_config, self.host, "python3", "-B", f"{HOME}/host"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with process:
            process.stdin.write(json.dumps(order))
            process.stdin.close()
            for line in process.stdout:
                found = json.loads(line)
                if "failed" in found:
                    raise BenchError(f"a server can't be measured: {found['failed']}")
                yield found
            errors = process.stderr.read()
        if process.returncode:
            raise BenchError(f"{errors}\nmeasuring on the lab host failed")

    def remove(self) -> None:
        """Remove the apps, their data and everything else of the benchmark from the host."""
        self.on_host(f"systemctl stop 'asgi-bench-*'; rm -rf {HOME} /run/asgi-bench")
        for app in APPS:
            if self.inventory(app).exists():
                confirmed = ["-e", "django_asgi_remove_data=true", "-e", f"django_asgi_remove_confirm={app}"]
                self.play(app, "remove", *confirmed)
            # The role leaves a site's logs to logrotate.
            self.on_host(f"rm -rf /var/log/nginx/{app}")
        for directory in (SOURCE, *(WORK / app for app in APPS)):
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def lab_apps() -> Iterator[LabApps]:
    """Give the deployed apps, and remove them at the end whatever happens."""
    apps = LabApps()
    apps.write()
    try:
        apps.prepare()
        yield apps
    finally:
        apps.remove()

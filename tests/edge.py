"""The edge without a host: Debian's nginx with the role's site, on a loopback port, in front of a Unix socket."""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from instance import PATIENCE, wait_until
from rendering import evaluate, render
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

CACHE = Path(__file__).resolve().parents[1] / ".lab/nginx"

MAIN = """
daemon off;
user {user};
worker_processes 2;
worker_rlimit_nofile {files};
pid {directory}/pid;
error_log {directory}/log;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    include {directory}/site.conf;
}}
"""


def program() -> str:
    """Return the path of nginx: an installed one, or else that of Debian's package, which starts no service if it is unpacked."""
    if installed := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        return installed
    if not (found := CACHE / "usr/sbin/nginx").exists():
        CACHE.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as directory:
            for command in (["apt-get", "download", "nginx"], ["sh", "-c", "dpkg -x nginx_*.deb unpacked"]):
                done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
                assert not done.returncode, f"install nginx, or run apt-get update: {done.stderr}"
            # Another process of the tests may have been quicker.
            with contextlib.suppress(OSError):
                Path(directory, "unpacked").rename(CACHE)
    return str(found)


class Edge:
    """nginx as the role configures it; `variables` are those of nginx_site without their prefix."""

    def __init__(self, directory: Path, upstream: str, **variables: object) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        given = {
            "name": "site",
            "server_names": ["localhost"],
            "upstream_socket": upstream,
            "listen": self.port,
            "ipv6_enabled": False,
            "access_log_enabled": False,
            **variables,
        }
        given = {f"nginx_site_{name}": value for name, value in given.items()}
        none = {"present": True, "configuration": "", "from_debian": True, "changed_files": "", "stock_link": ""}
        plan = evaluate("nginx_site", "__nginx_site_plan", **given, __nginx_site_host={"nginx": none})
        directory.mkdir()
        (directory / "site.conf").write_text(render("nginx_site", "site.conf.j2", **given))
        user = "root" if os.geteuid() == 0 else "nobody"
        numbers = {"connections": plan["worker_connections"], "files": plan["worker_open_files"]}
        (directory / "nginx.conf").write_text(MAIN.format(directory=directory, user=user, **numbers))
        self.log = directory / "output"
        with self.log.open("wb") as output:
            command = [program(), "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def request(self, path: str = "/", source: str = "127.0.0.1", **headers: str) -> http.client.HTTPConnection:
        """Send a request from an address of the loopback network; return its connection, whose answer is still to come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE, source_address=(source, 0))
        connection.request("GET", path, headers={"Host": "localhost", **headers})
        return connection

    def get(self, path: str = "/", source: str = "127.0.0.1", **headers: str) -> http.client.HTTPResponse:
        """Send a request; return the answer, whose body has been read."""
        connection = self.request(path, source, **headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def websocket(self, clients: contextlib.ExitStack, source: str = "127.0.0.1") -> tuple[int, Headers]:
        """Open a WebSocket until `clients` is closed; return the handshake's status and headers."""
        uri = f"ws://localhost:{self.port}/ws/"
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE, source_address=(source, 0))
        plain.settimeout(None)
        try:
            opened = clients.enter_context(connect(uri, sock=plain, close_timeout=0, open_timeout=PATIENCE))
        except InvalidStatus as refused:
            return refused.response.status_code, refused.response.headers
        return opened.response.status_code, opened.response.headers

    def stop(self) -> None:
        """End nginx with its workers."""
        self.process.terminate()
        self.process.wait()

"""Hostile apps, hostile packages and careless operators: no code of the app ever runs as root or outlives its caller."""

import base64
import hashlib
import io
import os
import re
import signal
import zipfile

import pytest
from outside import wait_until
from variants import variant

testinfra_hosts = ["ansible://trixie"]

# A standard library that records which user loads it, before any Python option takes effect.
EVIL = "/var/lib/sample/evil"
HOOK = """
import posix
posix.write(posix.open("/var/tmp/ran-as", posix.O_CREAT | posix.O_APPEND | posix.O_WRONLY, 0o666), b"%d " % posix.getuid())
"""
LIBRARY = """
mkdir -p $1/bin $1/lib && cp -rs /usr/lib/python3.13 $1/lib/ && ln -s /usr/bin/python3.13 $1/bin/
cd $1/lib/python3.13/encodings && rm __init__.py && (echo "$2"; cat /usr/lib/python3.13/encodings/__init__.py) >__init__.py
"""
WHEELS = "/srv/wheels"


def test_a_link_in_place_of_a_served_directory_is_not_followed(host, playbook):
    host.check_output("install --directory --mode=700 /srv/target")
    host.check_output("runuser -u sample -- mv /var/lib/sample/media /var/lib/sample/kept")
    host.check_output("runuser -u sample -- ln -s /srv/target /var/lib/sample/media")
    try:
        output = playbook("deploy", fails=True)
        assert "/var/lib/sample/media" in output
        assert host.check_output("stat --format=%U:%a /srv/target") == "root:700"
    finally:
        host.check_output("rm /var/lib/sample/media && mv /var/lib/sample/kept /var/lib/sample/media")
    playbook("deploy")
    assert host.check_output("stat --format=%U:%G:%a /var/lib/sample/media") == "sample:www-data:2750"


def wheel() -> bytes:
    """Return a package that replaces the environment's standard library."""
    files = {
        "evil/__init__.py": "",
        "evil-1.data/data/pyvenv.cfg": f"home = {EVIL}/bin\n",
        "evil-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: evil\nVersion: 1\n",
        "evil-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, "evil-1.dist-info/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in (files | {"evil-1.dist-info/RECORD": record}).items():
            archive.writestr(name, text)
    return buffer.getvalue()


def test_a_package_that_replaces_pythons_library_does_not_become_root(host, playbook, tmp_path):
    content, project = wheel(), variant(tmp_path, "with-evil")
    with (project / "requirements.txt").open("a") as file:
        file.write(f"\nevil==1 \\\n    --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
    encoded = base64.b64encode(content).decode()
    host.check_output("mkdir -p %s && echo %s | base64 -d >%s/evil-1-py3-none-any.whl", WHEELS, encoded, WHEELS)
    host.check_output("runuser -u sample -- sh -c %s sh %s %s", LIBRARY, EVIL, HOOK)
    # The release may go live: nothing in it is wrong for the app itself.
    playbook.start("release", django_asgi_source=str(project), django_asgi_uv_environment={"UV_FIND_LINKS": WHEELS}).communicate()
    ran_as = set(host.check_output("cat /var/tmp/ran-as").split())
    assert ran_as == {str(host.user("sample").uid)}
    playbook("release")
    host.check_output("rm -rf %s %s /var/tmp/ran-as", EVIL, WHEELS)


@pytest.mark.parametrize("name", ["games", "www-data"])
def test_a_name_that_is_somebody_else_s_is_refused(host, playbook, name):
    before = host.check_output("getent passwd %s", name)
    output = playbook("deploy", fails=True, django_asgi_name=name)
    assert f"a user {name}, which no deploy of this role has made" in " ".join(output.split())
    assert host.check_output("getent passwd %s", name) == before
    assert not host.file(f"/opt/{name}").exists


def test_manage_py_does_not_get_root_s_terminal(host):
    inner = 'asgictl manage shell --no-imports --command "import os; print(os.ttyname(0), os.getuid())"'
    output = host.check_output("script --quiet --return --command %s /dev/null", f"tty; {inner}")
    terminals = re.findall(r"/dev/pts/\d+", output)
    assert len(set(terminals)) == len(terminals) == 2, output
    assert output.split()[-1] == str(host.user("sample").uid)


def test_an_interrupted_deploy_leaves_no_program_of_the_app_running(host, playbook, tmp_path):
    project = variant(tmp_path, "endless-check")
    text = (project / "manage.py").read_text()
    (project / "manage.py").write_text(f"import sys, time\nif sys.argv[1] == 'check':\n    time.sleep(3600)\n{text}")
    run = playbook.start("release", django_asgi_source=str(project))
    running = "pgrep --full --uid sample 'venv/bin/python -c .*asgictl_shared'"
    try:
        wait_until(lambda: host.run(running).rc == 0)
    finally:
        os.killpg(run.pid, signal.SIGINT)
        run.communicate()
    wait_until(lambda: host.run(running).rc != 0)
    wait_until(lambda: host.run("pgrep --full 'asgictl --app sample call'").rc != 0)
    playbook("release")

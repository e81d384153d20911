"""Boot one lab host, deploy the sample project on it, check it from outside, and print its address."""

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from stages import ROOT, StageError, Stages
from websockets.sync.client import connect

BIN = ROOT / ".venv/bin"


def lab_host() -> tuple[str, str, Path]:
    """Return host:port of the lab host's HTTP, its name, and its ssh configuration, read from the inventory."""
    listing = subprocess.run([BIN / "ansible-inventory", "--list"], capture_output=True, text=True, check=True, cwd=ROOT)
    inventory = json.loads(listing.stdout)
    name = inventory["app"]["hosts"][0]
    variables = inventory["_meta"]["hostvars"][name]
    ssh_config = Path(variables["ansible_ssh_private_key_file"]).with_name("ssh_config")
    return f"127.0.0.1:{variables['lab_http_port']}", name, ssh_config.relative_to(ROOT)


def look(place: str) -> None:
    """Check the sample project over HTTP and WebSocket; raises StageError if an answer is not the expected one."""
    try:
        with urllib.request.urlopen(f"http://{place}/api/hello/", timeout=10) as response:
            answer = json.load(response)
        with connect(f"ws://{place}/ws/chat/", open_timeout=10, origin=f"http://{place}") as socket:
            socket.send("Hi")
            echo = json.loads(socket.recv(timeout=10))
    except Exception as error:
        raise StageError(f"http://{place}/ does not answer as it should: {error!r}") from error
    if answer != {"message": "Hello from DRF with Uvicorn!"} or echo != {"message": "Echo: Hi"}:
        raise StageError(f"http://{place}/ answers, but not as it should: {answer} and {echo}")


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", type=float, help="when the command began, in seconds since 1970")
    stages = Stages(parser.parse_args().since)
    try:
        stages.run("lab", BIN / "ansible-playbook", "playbooks/lab.yml")
        stages.run("data", BIN / "ansible-playbook", "playbooks/data.yml")
        stages.run("deploy", BIN / "ansible-playbook", "playbooks/deploy.yml")
        begun = time.time()
        place, name, ssh_config = lab_host()
        look(place)
        stages.times["check from outside"] = time.time() - begun
    except StageError as error:
        print(f"\n{stages.summary()}\n\nFAILED: {error}", flush=True)
        return 1
    shell = f"ssh -F {ssh_config} {name}"
    print(f"""
{stages.summary()}

  http://{place}/             the page
  http://{place}/api/hello/   answers {{"message": "Hello from DRF with Uvicorn!"}}
  ws://{place}/ws/chat/       answers "Hi" with {{"message": "Echo: Hi"}}

What next:
  . .venv/bin/activate
  ansible-playbook playbooks/status.yml      what runs, which releases are kept
  ansible-playbook playbooks/rollback.yml    return to the previous release
  {shell:<42} a shell on the host
  make demo                                  deploy again after a change in sample_app/
  make clean                                 remove everything""")
    return 0


if __name__ == "__main__":
    sys.exit(main())

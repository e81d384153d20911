"""Ansible module: one call of the on-host program asgictl."""

import json
import os
import select
import signal
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: asgictl
short_description: Carry out one step of a release on the host
description:
  - Calls the on-host program asgictl, which holds the state machine of an app's releases.
  - An action plugin of the same name runs on the controller; it adds the caller's token.
  - In check mode only the steps facts, plan and status run; the others report a change.
options:
  app:
    description: Name of the app.
    type: str
    required: true
  do:
    description: The step, a method of asgictl's Deploy, or facts, plan or status.
    type: str
    required: true
  arguments:
    description: The step's arguments.
    type: dict
    default: {}
  secrets:
    description: The app's secret variables, for the steps stage and plan.
    type: dict
  key:
    description: The key that names the fleet's releases, for the step stage.
    type: str
  bundle:
    description: A bundle on the controller, which the action plugin brings to the host, for the step stage.
    type: str
  token:
    description: Token of the deploy that this step is part of; the action plugin fills it in.
    type: str
author: The django_asgi role
"""

ASGICTL = "/usr/local/bin/asgictl"
READS = {"facts", "plan", "status"}
NOTHING_THERE = {
    "live": None,
    "previous": None,
    "serves": False,
    "order": [],
    "leader": False,
    "key": "",
    "workers_auto": 0,
    "python": "",
}


# Seconds between two checks whether the caller of a long step is still there.
CALLER_SECONDS = 1


def run(command, request):
    """Run asgictl with a request; return its output, errors and exit code, or end it if the caller no longer waits."""
    # A pipe would need this process to write while it waits; a file on disk would hold the secrets.
    with os.fdopen(os.memfd_create("request"), "w+", encoding="utf-8") as stdin:
        stdin.write(request)
        stdin.seek(0)
        process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    with process:
        while True:
            try:
                return (*process.communicate(timeout=CALLER_SECONDS), process.returncode)
            except subprocess.TimeoutExpired:
                if not caller_waits():
                    os.killpg(process.pid, signal.SIGTERM)


def caller_waits():
    """Return whether the controller still reads this module's output: after Ctrl-C, or without a network, it does not."""
    output = select.poll()
    output.register(1, 0)
    return not output.poll(0)


def main():
    """Run the step and return asgictl's answer."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "do": {"type": "str", "required": True},
            "arguments": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "no_log": True},
            "key": {"type": "str", "no_log": True},
            "bundle": {"type": "str"},
            "token": {"type": "str", "no_log": False},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    # Replaces the arguments that Ansible would add to the answer.
    shown = {"invocation": {"module_args": {"app": parameters["app"], "do": parameters["do"]}}}
    if module.check_mode and parameters["do"] not in READS:
        module.exit_json(changed=True, **shown)
    if module.check_mode and not Path(ASGICTL).exists():
        module.exit_json(changed=True, **NOTHING_THERE, **shown)
    request = {"do": parameters["do"], **parameters["arguments"]}
    if parameters["do"] not in READS:
        request["token"] = parameters["token"]
    if parameters["secrets"] is not None:
        request["order"] = request["order"] | {name: parameters[name] for name in ("secrets", "key", "bundle")}
    output, errors, status = run([ASGICTL, "--app", parameters["app"], "call"], json.dumps(request))
    try:
        answer = json.loads(output)
    except ValueError:
        last = ((errors or output).strip().splitlines() or ["it printed nothing"])[-1]
        module.fail_json(msg=f"asgictl stopped in the step {parameters['do']}: {last}\n{errors}", **shown)
    for warning in answer.pop("warnings", []):
        module.warn(warning)
    if status:
        details = answer.pop("details", "")
        answer["msg"] = "\n".join(filter(None, [answer["msg"], details]))
        module.fail_json(**answer, **shown)
    module.exit_json(**answer, **shown)


if __name__ == "__main__":
    main()

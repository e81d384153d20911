"""The filter that makes a command which its reader can paste."""

import shlex
from pathlib import Path

from ansible import constants as C
from ansible import context

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
# What a run needs to reach the same hosts: option, its name in Ansible's arguments, what it is when it was not given.
# Extra variables are not among them: they may hold secrets, and orders for this run alone.
OPTIONS = (
    ("-i", "inventory", C.DEFAULT_HOST_LIST),
    ("--limit", "subset", C.DEFAULT_SUBSET),
    ("--vault-id", "vault_ids", ()),
    ("--vault-password-file", "vault_password_files", ()),
    ("--ask-vault-pass", "ask_vault_pass", C.DEFAULT_ASK_VAULT_PASS),
    ("--user", "remote_user", C.DEFAULT_REMOTE_USER),
    ("--private-key", "private_key_file", C.DEFAULT_PRIVATE_KEY_FILE),
    ("--ask-pass", "ask_pass", C.DEFAULT_ASK_PASS),
    ("--connection-password-file", "connection_password_file", C.CONNECTION_PASSWORD_FILE),
    ("--ask-become-pass", "become_ask_pass", C.DEFAULT_BECOME_ASK_PASS),
    ("--become-password-file", "become_password_file", C.BECOME_PASSWORD_FILE),
)


def command(playbook, *variables):
    """The command that runs playbooks/`playbook`.yml with extra `variables` ("name=value") on the hosts of this run."""
    words = ["ansible-playbook"]
    for option, name, unset in OPTIONS:
        given = context.CLIARGS.get(name)
        values = list(given) if isinstance(given, (list, tuple)) else [given]
        if not given or given == unset or values == unset:
            continue
        for value in values:
            words += [option] if value is True else [option, _from_here(value)]
    words.append(_from_here(PLAYBOOKS / f"{playbook}.yml"))
    for variable in variables:
        words += ["-e", variable]
    return shlex.join(words)


def _from_here(value):
    """A path as one types it in the working directory; anything else as it is."""
    here = f"{Path.cwd()}/"
    return str(value).removeprefix(here)


class FilterModule:
    """The role's filter for commands."""

    def filters(self):
        """The filter by name."""
        return {"django_asgi_command": command}

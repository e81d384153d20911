"""Filter: a command to paste, which runs another playbook with this run's inventory and options."""

import shlex
from pathlib import Path

from ansible import constants as C
from ansible import context

COLLECTION = "django_asgi.site"
PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
# What a run needs to reach the same hosts: the option, its name in Ansible's arguments, its value if it was not given.
# Extra variables are left out: they may hold secrets, or settings for this run only.
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
    """Return the command that runs one of the collection's playbooks with extra `variables` ("name=value") on this run's hosts.

    It names the playbook as this run's was named: by the collection's name, or by its path.
    """
    words = ["ansible-playbook"]
    for option, name, unset in OPTIONS:
        given = context.CLIARGS.get(name)
        values = list(given) if isinstance(given, (list, tuple)) else [given]
        if not given or given == unset or values == unset:
            continue
        for value in values:
            words += [option] if value is True else [option, _from_here(value)]
    by_name = any(name.startswith(f"{COLLECTION}.") for name in context.CLIARGS.get("args") or ())
    words.append(f"{COLLECTION}.{playbook}" if by_name else _from_here(PLAYBOOKS / f"{playbook}.yml"))
    for variable in variables:
        words += ["-e", variable]
    return shlex.join(words)


def _from_here(value):
    """Return a path relative to the working directory if it is below that; anything else unchanged."""
    here = f"{Path.cwd()}/"
    return str(value).removeprefix(here)


class FilterModule:
    """The filter for commands."""

    def filters(self):
        """The filter by name."""
        return {"command": command}

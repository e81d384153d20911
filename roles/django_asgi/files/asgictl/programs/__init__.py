"""Programs that run in the app's environment, not in asgictl's: they import only Django, and print JSON."""

import json
import pkgutil


def text_of(name: str) -> str:
    """The source of a program, preceded by that of the module that all of them import."""
    shared = _source("asgictl_shared")
    module = "import sys, types\nmodule = sys.modules['asgictl_shared'] = types.ModuleType('asgictl_shared')\n"
    return f"{module}exec({shared!r}, module.__dict__)\n{_source(name)}"


def _source(name: str) -> str:
    # The package may be in a zip archive.
    return pkgutil.get_data(__name__, f"{name}.py").decode()


def last_object(output: str) -> dict:
    """The JSON object in the last line, whatever the settings have printed before it; empty if there is none."""
    try:
        return dict(json.loads(output.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        return {}

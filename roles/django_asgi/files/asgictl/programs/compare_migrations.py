"""Print how the code's migrations differ from those of its databases, as `compared_migrations` returns it.

Arguments: the databases' aliases; none: those that the project's routers allow.
"""

import json
import sys

from asgictl_shared import compared_migrations, inside_manage

named = sys.argv[1:]


def compare() -> None:
    """Print the answer."""
    import django

    django.setup()
    print(json.dumps(compared_migrations(named)))


inside_manage(compare)

"""Print the migrations that the code has and its databases lack (pending), and the other way round (unknown).

Arguments: the databases' aliases; none: those that the project's routers allow. A name from any but the first database begins
with the alias. If a database does not answer, its alias and the reason are printed instead.
"""

import json
import os
import sys

from asgictl_shared import inside_manage, migrated_databases

# If a firewall drops packets, libpq would wait for two minutes.
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
named = sys.argv[1:]


def compare() -> None:
    """Print the answer."""
    import django

    django.setup()
    from django.db import OperationalError, connections
    from django.db.migrations.executor import MigrationExecutor

    pending, unknown = [], []
    aliases = migrated_databases(named)
    for alias in aliases:
        # A pool would report how long it has waited, not why.
        connections[alias].settings_dict["OPTIONS"].pop("pool", None)
        try:
            executor = MigrationExecutor(connections[alias])
        except OperationalError as error:
            print(json.dumps({"database": alias, "reason": " ".join(str(error).split())}))
            return
        loader = executor.loader
        known = set(loader.disk_migrations) | {key for migration in loader.disk_migrations.values() for key in migration.replaces}
        plan = executor.migration_plan(loader.graph.leaf_nodes())
        before = "" if alias == aliases[0] else f"{alias}:"
        pending += sorted(f"{before}{migration.app_label}.{migration.name}" for migration, _ in plan)
        unknown += sorted(f"{before}{label}.{name}" for label, name in set(loader.applied_migrations) - known)
    print(json.dumps({"pending": pending, "unknown": unknown}))


inside_manage(compare)

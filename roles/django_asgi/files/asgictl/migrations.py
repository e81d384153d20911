"""Compare and apply a release's migrations, in a process that runs in the release's environment."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from asgictl.errors import Refused
from asgictl.programs import last_object
from asgictl.release import Release


@dataclass(frozen=True)
class Migrations:
    """`pending`: the release has them, the database does not; `unknown`: the other way round."""

    pending: list[str]
    unknown: list[str]


def migrations_of(release: Release) -> Migrations:
    """Compare the release's migrations with the database's; Refused if the database does not answer."""
    result = release.ask("compare_migrations", *release.manifest.get("databases", []))
    answer = last_object(result.stdout)
    if "reason" in answer:
        raise Refused(
            f"Release {release.id} can't reach its database {answer['database']!r}: {release.redact(answer['reason'])}. "
            f"Check that the server runs and accepts this host, and that its address and password in "
            f"django_asgi_env and django_asgi_secrets are right."
        )
    if not answer:
        raise Refused(
            f"Release {release.id} can't read the state of its database's migrations; is the database there?",
            details=release.redact("\n".join(result.stderr.splitlines()[-15:])),
        )
    return Migrations(**answer)


def migrate(release: Release) -> list[str]:
    """Apply pending migrations, if there are any; return their names.

    Refused if a migration fails, or if one or another deploy keeps it waiting for a lock (the policy's `migrate_lock_seconds`).
    """
    pending = migrations_of(release).pending
    if pending:
        seconds = str(release.app.policy()["migrate_lock_seconds"])
        result = release.ask("migrate", seconds, *release.manifest.get("databases", []))
        if result.returncode:
            answer = last_object(result.stdout)
            if "waited_for" in answer:
                raise _waited(release, answer)
            raise Refused(
                f"A migration of release {release.id} failed; the live release goes on serving.",
                details=release.redact("\n".join(result.stderr.splitlines()[-25:])),
            )
    return pending


def _waited(release: Release, answer: dict) -> Refused:
    """The refusal of a migration that waited for a lock, as `programs/migrate.py` reports it."""
    sessions = [release.redact(_described(session)) for session in answer["sessions"]]
    waited = f"{answer['seconds']} s in the database {answer['database']!r}"
    if answer["waited_for"] == "deploy":
        holder = f"{sessions[0]} holds its lock" if sessions else "it has ended now"
        return Refused(
            f"Release {release.id} waited {waited} for another deploy that migrates; {holder}. The live release goes on serving: "
            f"run again when that deploy has ended."
        )
    blocker = f"The oldest session that holds locks there is {sessions[0]}" if sessions else "No session holds locks there now"
    return Refused(
        f"A migration of release {release.id} waited {waited} for a lock, and was stopped so that it does not block the site; "
        f"the live release goes on serving. {blocker}: run again when it has ended, or set django_asgi_migrate_lock_seconds.",
        details="\n".join(sessions),
    )


def _described(session: dict) -> str:
    """A session of the database in words."""
    age = "" if session["seconds"] is None else f", in a transaction for {session['seconds']} s"
    known = f"{session['application'] or 'no application_name'}, {session['state'] or 'hidden from this role'}{age}"
    return f"pid {session['pid']} ({known}){session['query'] and ': ' + session['query']}"


def refuse_unknown(target: Release, live: Release, recorded: set[str]) -> None:
    """Refuse a rollback to `target` if the database holds migrations that `live` knows and `target` does not.

    If the live release is too broken to answer, the migrations `recorded` on this host since `target` was live count.
    """
    with ThreadPoolExecutor() as pool:
        of_target, of_live = pool.submit(migrations_of, target), pool.submit(migrations_of, live)
    unknown = set(of_target.result().unknown)
    try:
        lost = sorted(unknown - set(of_live.result().unknown))
    except Refused:
        lost = sorted(unknown & recorded)
    if lost:
        raise Refused(
            f"The database holds migrations that release {target.id} does not know: {', '.join(lost)}. "
            f"Reverse them first; or, to roll back anyway, run the same command with "
            f"-e django_asgi_force=true (asgictl: --force).",
            migrations=lost,
        )

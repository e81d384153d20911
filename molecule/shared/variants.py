"""Variants of the sample project: some changed, some broken in one way each."""

import re
import shutil
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[2] / "sample_app"

# The edit of each broken variant: (file, text to replace or "" to append, new text).
BROKEN = {
    "import": ("config/asgi.py", "", "\nraise RuntimeError('broken on purpose')\n"),
    "health": ("showcase/health.py", "status=200 if ready else 503", "status=500"),
    # gunicorn alone has its name in the first argument.
    "start": ("config/asgi.py", "", "\nimport sys\nif 'gunicorn' in sys.argv[0]:\n    raise RuntimeError('broken on purpose')\n"),
    "hanging-import": ("config/asgi.py", "", "\nimport time\ntime.sleep(600)\n"),
    "hanging-start": ("config/asgi.py", "", "\nimport sys, time\nif 'gunicorn' in sys.argv[0]:\n    time.sleep(600)\n"),
    "websocket": (
        "showcase/consumers.py",
        "    async def receive(",
        "    async def connect(self):\n        raise RuntimeError('no WebSocket')\n\n    async def receive(",
    ),
    "dependencies": ("requirements.txt", "", f"\nno-such-package-of-ours==1.0 \\\n    --hash=sha256:{'0' * 64}\n"),
}
MIGRATION = """from django.db import migrations, models


def work(apps, schema_editor):
    {work}


class Migration(migrations.Migration):
    dependencies = [("showcase", "0001_initial")]
    operations = [
        migrations.AddField("note", "colour", models.CharField(max_length=20, null=True)),
        migrations.RunPython(work, migrations.RunPython.noop),
    ]
"""


def variant(place: Path, name: str) -> Path:
    """Return a copy of the sample project in `place` that differs by a comment with `name`."""
    project = place / name
    shutil.copytree(SAMPLE, project, ignore=shutil.ignore_patterns("var", "__pycache__", ".*_cache"))
    with (project / "config/urls.py").open("a") as file:
        file.write(f"\n# {name}\n")
    return project


def broken(place: Path, how: str) -> Path:
    """Return a copy of the sample project, broken by the edit BROKEN[how]."""
    project = variant(place, f"broken-{how}")
    name, old, new = BROKEN[how]
    file = project / name
    text = file.read_text()
    assert old in text, f"{name} of the sample project no longer holds {old!r}"
    file.write_text(text.replace(old, new) if old else text + new)
    return project


def with_migration(place: Path, name: str, work: str = "pass") -> Path:
    """Return a copy of the sample project with an additional migration that runs `work`."""
    project = variant(place, name)
    (project / "showcase/migrations/0002_colour.py").write_text(MIGRATION.format(work=work))
    models = project / "showcase/models.py"
    field = re.search(r"^( +)text = .*$", models.read_text(), re.MULTILINE)
    colour = f"{field[0]}\n{field[1]}colour = models.CharField(max_length=20, null=True)"
    models.write_text(models.read_text().replace(field[0], colour))
    return project

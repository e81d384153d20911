"""Write the table of a role's variables into its README.md, from meta/argument_specs.yml and defaults/main.yml.

`make docs` writes the tables; a unit test requires that they are up to date.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- variables -->", "<!-- /variables -->"
# Ansible's own markup of code and of variables.
MARKUP = re.compile(r"\b[CI]\(([^()]*)\)")


def options_of(role: Path) -> dict:
    """Return the variables of the role's main entry point with their specifications."""
    return yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


def shown(value: object) -> str:
    """Return a default as YAML on one line, ready for a table cell."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{text}`".replace("|", "\\|")


def table(role: Path) -> str:
    """Return the Markdown table of the role's variables in the order of its specification."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, option in options_of(role).items():
        default = "**required**" if option.get("required") else shown(option["default"]) if "default" in option else "-"
        text = MARKUP.sub(r"`\1`", " ".join(option["description"].split())).replace("|", "\\|")
        choices = f" One of {', '.join(map(shown, option['choices']))}." if "choices" in option else ""
        rows.append(f"| `{name}` | {default} | {text}{choices} |")
    return "\n".join(rows)


def documented(role: Path) -> str:
    """Return the role's README.md with the table as it should be."""
    before, _, rest = (role / "README.md").read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n{table(role)}\n{END}{rest.partition(END)[2]}"


def roles() -> list[Path]:
    """Return the roles whose README.md has a table."""
    return sorted(path.parent for path in ROOT.glob("roles/*/README.md") if BEGIN in path.read_text())


def main() -> int:
    """Write the tables; return the exit code."""
    for role in roles():
        (role / "README.md").write_text(documented(role))
        print(f"docs: {role.relative_to(ROOT)}/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

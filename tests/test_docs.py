"""The tables of variables in the roles' README files match the roles' specifications."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import document


@pytest.mark.parametrize("role", document.roles(), ids=lambda role: role.name)
def test_the_table_of_variables_is_up_to_date(role):
    assert (role / "README.md").read_text() == document.documented(role), "run `make docs`"


def test_the_roles_for_users_have_a_table():
    for_users = {"django_asgi", "metrics", "nginx_site", "postgresql_server", "redis_server"}
    assert {role.name for role in document.roles()} == for_users

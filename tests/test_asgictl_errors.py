"""The cause of a failure, found in what a program has printed."""

import pytest
from asgictl.errors import Refused, last_exception

TRACEBACK = """Starting shop@a.service
Traceback (most recent call last):
  File "/opt/shop/manage.py", line 3, in <module>
    main()
    ~~~~^^
ModuleNotFoundError: No module named 'packaging'
shop@a.service: Main process exited, code=exited, status=1/FAILURE"""
SECOND = """Traceback (most recent call last):
  File "/opt/shop/settings.py", line 1, in <module>

django.core.exceptions.ImproperlyConfigured: no SECRET_KEY"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (TRACEBACK, "ModuleNotFoundError: No module named 'packaging'"),
        ("\n".join(f"    {line}" for line in TRACEBACK.splitlines()), "ModuleNotFoundError: No module named 'packaging'"),
        (
            f"{TRACEBACK}\n\nThe above exception was the direct cause …:\n\n{SECOND}",
            "django.core.exceptions.ImproperlyConfigured: no SECRET_KEY",
        ),
        ("Traceback (most recent call last):\n  File 'cut off'", ""),
        ("all is well", ""),
        ("", ""),
    ],
)
def test_the_cause_is_the_last_exception(text: str, cause: str) -> None:
    assert last_exception(text) == cause


def test_a_refusal_names_its_cause_in_its_sentence() -> None:
    assert Refused("It does not start.", TRACEBACK).with_cause() == (
        "It does not start: ModuleNotFoundError: No module named 'packaging'"
    )
    assert Refused("It does not start.", "no traceback").with_cause() == "It does not start."

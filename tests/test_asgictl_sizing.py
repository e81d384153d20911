"""How many workers fit: beside Celery, beside the previous release, and within the app's own limit."""

import pytest
from asgictl.sizing import RESERVED_MIB, WORKER_MIB, auto_workers


@pytest.mark.parametrize(
    ("cores", "memory", "celery", "limit", "expected"),
    [
        (4, 16384, 0, "", 4),
        (64, 65536, 0, "", 64),
        (8, RESERVED_MIB + 6 * WORKER_MIB, 0, "", 3),
        (8, RESERVED_MIB + 6 * WORKER_MIB - 1, 0, "", 2),
        (8, RESERVED_MIB + 6 * WORKER_MIB, 2, "", 1),
        (8, RESERVED_MIB + 6 * WORKER_MIB, 20, "", 1),
        (2, 128, 0, "", 1),
        (1, 512, 0, "", 1),
        (4, 16384, 0, "400M", 2),
        (4, 16384, 0, "1.5G", 4),
        (4, 4096, 0, "10%", 2),
        (4, 16384, 0, "1048576K", 4),
    ],
)
def test_there_is_one_worker_a_core_as_far_as_memory_allows(
    cores: int, memory: int, celery: int, limit: str, expected: int
) -> None:
    assert auto_workers(celery, limit, cores, memory)[0] == expected


@pytest.mark.parametrize(
    ("celery", "limit", "memory", "why"),
    [
        (0, "", 16384, "one for each of 4 cores"),
        (0, "", 512, "as many of 160 MiB as fit in 512 MiB, twice at a cut-over, beside 256 MiB for the rest"),
        (
            2,
            "",
            1024,
            "as many of 160 MiB as fit in 1024 MiB, twice at a cut-over, with 2 Celery processes and 256 MiB for the rest",
        ),
        (0, "400M", 16384, "as many of 160 MiB as fit in django_asgi_memory_max, 400M"),
    ],
)
def test_the_reason_comes_along(celery: int, limit: str, memory: int, why: str) -> None:
    assert auto_workers(celery, limit, 4, memory)[1] == why


def test_this_machine_has_room_for_one() -> None:
    assert auto_workers()[0] >= 1

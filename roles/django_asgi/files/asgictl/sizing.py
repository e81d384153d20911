"""How many workers a host has room for."""

import os
import re

MIB = 1 << 20
# A Django worker with its libraries: measured 60 to 90 MiB, and as much again to work with.
WORKER_MIB = 160
RESERVED_MIB = 256
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def auto_workers(
    celery: int = 0, memory_max: str = "", cores: int | None = None, memory_mib: int | None = None
) -> tuple[int, str]:
    """How many workers a host should run, and why: one per core, as long as they fit in its memory.

    At a cut-over two releases run at once, each with its workers and `celery` processes; `memory_max` is what systemd allows
    the workers of one (systemd.resource-control(5)), empty for no limit. uvicorn's workers are event loops, so the 2n+1 rule
    for workers that block does not apply to them.
    """
    cores = cores or len(os.sched_getaffinity(0))
    memory_mib = memory_mib or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    fit = (memory_mib - RESERVED_MIB) // (2 * WORKER_MIB) - celery
    why = f"as many of {WORKER_MIB} MiB as fit in {memory_mib} MiB, twice at a cut-over"
    why += (
        f", with {celery} Celery processes and {RESERVED_MIB} MiB for the rest"
        if celery
        else f", beside {RESERVED_MIB} MiB for the rest"
    )
    if memory_max and (limited := _mib(memory_max, memory_mib) // WORKER_MIB) < fit:
        fit, why = limited, f"as many of {WORKER_MIB} MiB as fit in django_asgi_memory_max, {memory_max}"
    return (max(1, fit), why) if fit < cores else (cores, f"one for each of {cores} cores")


def _mib(size: str, whole: int) -> int:
    """Mebibytes of a size as systemd writes it: 800M, 1.5G, or a share of the `whole` such as 50%."""
    number, unit = re.fullmatch(r"([0-9.]+)([KMGT%]?)", size).groups()
    return int(whole * float(number) / 100 if unit == "%" else float(number) * UNITS[unit] / MIB)

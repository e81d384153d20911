"""Background jobs through a deploy, a killed worker and a restarted queue; other tests run beside a long job."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import httpx
import pytest
from outside import PATIENCE, wait_until
from sample import job, start_job, wait_for_job

testinfra_hosts = ["ansible://app"]

# The number of connections that PostgreSQL accepts in total.
AT_ONCE = 100
CELERY_PROCESSES = 2
PSQL = "printf %s | runuser -u postgres -- psql --quiet --no-align --tuples-only sample"


@pytest.fixture(scope="module")
def outlived(site, playbook, host) -> tuple[str, str]:
    """A job that was running when a new release went live, and the previous release."""

    def deploy() -> str:
        before = site.release()
        playbook("release", django_asgi_keepalive=random.randrange(100, 1000))  # a new release each time
        assert site.release() != before
        return before

    # Measure a deploy on this machine, and wait until its old instance is gone.
    deploy()
    wait_until(lambda: not json.loads(host.check_output("asgictl --json status --quick"))["retiring"])
    number = start_job(site, max(30, int(4 * playbook.seconds[-1][1])))["id"]
    wait_for_job(site, number, "running")
    before = deploy()
    return number, before


def test_new_tasks_run_on_the_new_code_beside_an_old_one(outlived, site, host):
    number, before = outlived
    new = wait_for_job(site, start_job(site, 1)["id"], "done")
    assert [one["release"] for one in new["completions"]] == [site.release()]
    assert job(site, number)["state"] == "running", "the deploy did not wait for it"
    assert job(site, number)["release"] == before
    beats = host.check_output("systemctl list-units --plain --no-legend --state=active 'sample.beat@*'").splitlines()
    assert len(beats) == 1, beats


def test_pools_keep_postgresql_below_its_limit(outlived, site, host, variables):
    processes = variables["django_asgi_workers"] + CELERY_PROCESSES
    computed = 2 * processes * variables["django_asgi_database_pool"]
    assert computed < variables["django_asgi_database_max_connections"]
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'sample' \\watch i=0.1 c=60"

    limits = httpx.Limits(max_connections=AT_ONCE)
    with (
        httpx.Client(base_url=site.address, headers={"Host": site.name}, limits=limits, timeout=PATIENCE) as client,
        ThreadPoolExecutor(AT_ONCE + 1) as threads,
    ):
        counting = threads.submit(host.check_output, PSQL, count)

        def visit(path: str) -> list[int]:
            """Send requests while connections are counted; return their status codes."""
            return [client.get(path).status_code for _ in iter(counting.done, True)]

        visits = list(threads.map(visit, ["/api/notes/", "/api/queries/"] * (AT_ONCE // 2)))
    answers = list(chain.from_iterable(visits))
    connections = [int(line) for line in counting.result().split()]
    print(f"{len(answers)} answers, at most {max(connections)} connections of {computed}")
    assert set(answers) == {200}
    assert variables["django_asgi_database_pool"] < max(connections) <= computed


def test_a_killed_celery_worker_loses_no_task(outlived, site, host):
    number = start_job(site, 6)["id"]
    wait_for_job(site, number, "running")
    host.check_output("systemctl kill --signal=KILL 'sample.celery@%s.service'", site.release())
    done = wait_for_job(site, number, "done")
    assert len(done["completions"]) == 1
    assert done["deliveries"] >= 2, "the queue delivered it again"


def test_a_task_that_outlives_a_deploy_finishes_exactly_once(outlived, site):
    number, before = outlived
    done = wait_for_job(site, number, "done")
    assert [one["release"] for one in done["completions"]] == [before], "only the old worker finished the job"
    assert done["attempts"] == 1


def test_a_restarted_queue_loses_no_task(site, host):
    running, waiting = ([start_job(site, seconds)["id"] for _ in range(count)] for seconds, count in ((8, 2), (1, 3)))
    for number in running:
        wait_for_job(site, number, "running")
    assert {job(site, number)["state"] for number in waiting} == {"queued"}
    host.check_output("systemctl restart redis-server@queue")
    for number in running + waiting:
        done = wait_for_job(site, number, "done")
        # A queue delivers at least once; the job's row makes that exactly once.
        assert done["deliveries"] >= 1
        assert len(done["completions"]) == 1, done

"""Background jobs: done exactly once, whatever the queue does."""

import asyncio
import json
import threading
import uuid
from datetime import timedelta

import pytest
from channels.layers import get_channel_layer
from django.db import OperationalError
from django.utils import timezone

from config.celery import app
from jobs import start, tasks, work
from jobs.consumers import JobConsumer
from jobs.models import Heartbeat, Job

from .test_websocket import PATIENCE, connect, connection

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(work, "STEPS_PER_SECOND", 40)
    monkeypatch.setattr(work, "MOST_STEPS", 4)
    monkeypatch.setattr(work.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(JobConsumer, "INTERVAL", 0.2)


@pytest.fixture
def job():
    return Job.objects.create(seconds=1, steps=4, runner=Job.Runner.CELERY)


def seen(job):
    job.refresh_from_db()
    return job.state, job.deliveries, job.attempts, job.completions.count()


def test_a_job_is_done_and_says_how_far_it_is(job):
    told = []
    work.run(job.pk, told.append)
    assert [one["percent"] for one in told] == [0, 25, 50, 75, 100]
    assert told[-1]["state"] == "done"
    assert seen(job) == ("done", 1, 1, 1)


def test_a_second_delivery_changes_nothing(job):
    work.run(job.pk, lambda snapshot: None)
    work.run(job.pk, lambda snapshot: None, again=True)
    assert seen(job) == ("done", 2, 1, 1)


def test_a_delivery_while_somebody_works_on_it_changes_nothing(job):
    assert work.claim(job.pk, again=False)
    work.run(job.pk, lambda snapshot: None)
    assert seen(job) == ("running", 2, 1, 0)


def test_what_a_dead_worker_left_goes_on_from_its_last_step(job):
    first = work.claim(job.pk, again=False)
    work.write(first, step=2)
    told = []
    work.run(job.pk, told.append, again=True)
    assert [one["percent"] for one in told] == [50, 75, 100]
    assert seen(job) == ("done", 2, 2, 1)
    with pytest.raises(work.SupersededError):
        work.finish(first)  # it was not dead after all, but must not finish a second time
    assert seen(job) == ("done", 2, 2, 1)


def test_a_job_that_is_not_there_is_nobodys(job):
    job.delete()
    work.run(uuid.uuid4(), pytest.fail)


def test_steps_may_be_lost_while_the_database_is_away_but_not_the_end(job, monkeypatch):
    original = work.write

    def write(job, **changes):
        if changes.get("step") in (1, 2):
            raise OperationalError
        return original(job, **changes)

    monkeypatch.setattr(work, "write", write)
    monkeypatch.setattr(work.connection, "close", lambda: None)
    work.run(job.pk, lambda snapshot: None)
    assert seen(job) == ("done", 1, 1, 1)


def test_what_is_lost_on_the_way_is_sent_again(monkeypatch):
    sent = []
    monkeypatch.setattr(tasks.run, "delay", sent.append)
    long_ago = timezone.now() - timedelta(seconds=60)
    common = {"seconds": 1, "steps": 4, "runner": Job.Runner.CELERY}
    lost = [
        Job.objects.create(state=state, updated=long_ago, **common)
        for state in ("queued", "running")
    ]
    Job.objects.create(state="queued", **common)
    Job.objects.create(state="done", updated=long_ago, **common)
    tasks.heartbeat()
    assert sorted(sent) == sorted(str(job.pk) for job in lost)
    tasks.heartbeat()
    assert sent[2:] == [str(lost[1].pk)]
    assert Heartbeat.objects.get().beats == 2


def test_the_task_knows_a_message_that_comes_again(job, monkeypatch):
    told = []
    monkeypatch.setattr(tasks.work, "run", lambda job_id, publish, again: told.append(again))
    for request in ({}, {"delivery_info": {"redelivered": True}}, {"retries": 1}):
        tasks.run.push_request(**({"delivery_info": {}} | request))
        tasks.run.run(str(job.pk))
        tasks.run.pop_request()
    assert told == [False, True, True]


def test_celery_acknowledges_late_and_speaks_json_only():
    assert app.conf.task_acks_late and app.conf.task_reject_on_worker_lost
    assert (app.conf.worker_prefetch_multiplier, app.conf.accept_content) == (1, ["json"])
    assert app.conf.task_soft_time_limit < app.conf.task_time_limit
    assert {"jobs.run", "jobs.heartbeat"} <= set(app.tasks)
    assert app.conf.beat_schedule["heartbeat"]["task"] in app.tasks


def post(client, seconds):
    return client.post("/api/jobs/", {"seconds": seconds}, content_type="application/json")


@pytest.mark.parametrize("seconds", [0, 121, "1", 1.5, True, None])
def test_seconds_are_bounded(client, seconds):
    assert post(client, seconds).status_code == 400


def test_with_a_queue_it_goes_there(client, settings, monkeypatch):
    settings.REDIS_QUEUE_URL = "redis://nowhere"
    queued = []
    monkeypatch.setattr(start, "enqueue", lambda job_id: queued.append(job_id) or True)
    answer = post(client, 5)
    assert (answer.status_code, answer.json()["runner"]) == (202, "celery")
    assert [str(job_id) for job_id in queued] == [answer.json()["id"]]
    assert "detail" not in answer.json()


def test_a_queue_that_is_away_only_delays_it(client, settings, monkeypatch):
    settings.REDIS_QUEUE_URL = "redis://nowhere"
    monkeypatch.setattr(tasks.run, "apply_async", lambda *a, **k: 1 / 0)
    answer = post(client, 5)
    assert answer.status_code == 202 and "begins when it is back" in answer.json()["detail"]
    assert Job.objects.get().state == "queued"


@pytest.mark.django_db(transaction=True)
def test_without_a_queue_a_thread_does_it(client):
    answer = post(client, 1).json()
    for thread in threading.enumerate():
        if thread.name == f"job-{answer['id']}":
            thread.join(5)
    done = client.get(f"/api/jobs/{answer['id']}/").json()
    assert (done["runner"], done["state"], done["attempts"]) == ("in-process", "done", 1)
    (completion,) = done["completions"]
    assert completion["release"] == "0123456789ab"
    assert client.get("/api/jobs/").json()["jobs"][0]["id"] == answer["id"]
    assert client.get(f"/api/jobs/{uuid.uuid4()}/").status_code == 404


def test_a_worker_does_so_many_at_once(client, monkeypatch):
    monkeypatch.setattr(start, "THREADS", threading.BoundedSemaphore(1))
    start.THREADS.acquire()
    assert post(client, 1).status_code == 503
    assert not Job.objects.exists()


def test_one_that_its_worker_left_is_stalled(client, job):
    Job.objects.update(state="running", updated=timezone.now() - timedelta(seconds=60))
    assert client.get(f"/api/jobs/{job.pk}/").json()["state"] == "stalled"


@pytest.mark.django_db(transaction=True)
async def test_progress_over_a_websocket(job):
    socket = connection(f"/ws/jobs/{job.pk}/")
    assert await connect(socket)

    async def hear():
        return json.loads((await socket.receive_output(PATIENCE))["text"])["job"]

    assert (await hear())["state"] == "queued"
    told = work.snapshot(job) | {"state": "running", "percent": 50}
    await get_channel_layer().group_send(tasks.group(job.pk), {"type": "job.progress", "job": told})
    # The consumer also sends the database's state, at intervals.
    async with asyncio.timeout(PATIENCE):
        while (await hear())["percent"] != 50:
            pass
        await asyncio.to_thread(Job.objects.update, state="done", step=4)
        while (last := await hear())["state"] != "done":  # from the database: nothing announced it
            pass
    assert (last["percent"], last["completions"]) == (100, [])
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(PATIENCE)


@pytest.mark.django_db(transaction=True)
async def test_a_websocket_of_no_job_is_closed():
    socket = connection(f"/ws/jobs/{uuid.uuid4()}/")
    assert await connect(socket)
    closed = await socket.receive_output(PATIENCE)
    assert (closed["type"], closed["code"]) == ("websocket.close", 4404)
    await socket.send_input({"type": "websocket.disconnect", "code": 4404})
    await socket.wait(PATIENCE)

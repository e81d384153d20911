"""Several web hosts form one site: rooms and jobs span them, and one-time work happens once."""

import json

import pytest
from outside import PATIENCE, wait_until
from sample import all_ready, hear, job, say, start_job

testinfra_hosts = ["ansible://web1"]


def test_everything_answers_on_both_hosts(sites):
    wait_until(lambda: all_ready(*sites))
    for site in sites:
        wait_until(lambda site=site: site.get("/api/status/").json()["components"]["beat"]["state"] == "ok")
    assert len({site.release() for site in sites}) == 1


@pytest.mark.parametrize(("speaker", "listener"), [(0, 1), (1, 0)])
def test_a_message_is_heard_on_the_other_host(speaker, listener, sites):
    with sites[speaker].websocket("/ws/room/fleet/") as mouth, sites[listener].websocket("/ws/room/fleet/") as ear:
        for socket in (mouth, ear):
            hear(socket, "live")
        say(mouth, "crossing")
        heard = hear(ear, "message")
    assert heard["text"] == "crossing"
    assert (heard["via"]["host"], heard["through"]["host"]) == (f"web{speaker + 1}", f"web{listener + 1}")


def test_the_progress_of_a_job_arrives_at_a_client_on_the_other_host(sites):
    number = start_job(sites[0], 5)["id"]
    seen = []
    with sites[1].websocket(f"/ws/jobs/{number}/") as socket:
        while not seen or seen[-1]["state"] != "done":
            seen.append(json.loads(socket.recv(timeout=PATIENCE))["job"])
    # The consumer's database query, every 2 s, would show three or four steps.
    assert len({step["percent"] for step in seen}) > 8, seen
    assert len(seen[-1]["completions"]) == 1


def test_jobs_run_on_both_hosts(sites):
    numbers = [start_job(sites[0], 2)["id"] for _ in range(8)]
    wait_until(lambda: all(job(sites[1], number)["state"] == "done" for number in numbers))
    completions = [job(sites[1], number)["completions"] for number in numbers]
    assert [len(one) for one in completions] == [1] * len(numbers)
    assert {one["host"] for [one] in completions} == {"web1", "web2"}


def test_what_is_for_one_host_happens_on_one(beats, sql):
    assert beats() == ["web1"]
    assert sql("select count(*) > 0 from django_migrations") == ["t"]
    assert sql("select app, name from django_migrations group by 1, 2 having count(*) > 1") == []

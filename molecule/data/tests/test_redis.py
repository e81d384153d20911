"""Redis and Valkey: accepted and refused connections, memory, persistence, and data that survives a restart."""

import pytest

PAIRS = [("data12", "data13"), ("data13", "data12")]
CERTIFICATES = {"data12": "/etc/redis/redis_server.crt", "data13": "/etc/valkey/redis_server.crt"}


@pytest.fixture(scope="module")
def certificate(hosts) -> str:
    """The path, on either host, of the other host's certificate."""
    for client, server in PAIRS:
        text = hosts[server].file(CERTIFICATES[server]).content_string
        hosts[client].run_expect([0], "printf %%s %s > /srv/other-redis.crt", text)
    return "/srv/other-redis.crt"


@pytest.mark.parametrize(("client", "server"), PAIRS)
def test_the_other_host_gets_in_with_the_password(client, server, ask, urls, certificate):
    offered = urls[server]["redis"]
    assert ask(client, offered["cache"], "PING") == "PONG"
    assert offered["channels"].startswith("rediss://")
    assert ask(client, offered["channels"], "PING", certificate=certificate) == "PONG"


@pytest.mark.parametrize(("client", "server"), PAIRS)
def test_the_other_host_is_refused(client, server, ask, urls):
    offered = urls[server]["redis"]
    assert "WRONGPASS" in ask(client, offered["cache"], "PING", password="wrong")
    assert "NOAUTH" in ask(client, offered["cache"], "PING", password="")
    assert "certificate verify failed" in ask(client, offered["channels"], "PING")
    assert "PONG" not in ask(client, offered["channels"].replace("rediss://", "redis://"), "PING")


@pytest.mark.parametrize("name", ["data12", "data13"])
def test_the_socket_is_the_only_way_to_the_queue(name, ask, urls, hosts):
    offered = urls[name]["redis"]["queue"]
    assert offered.startswith("unix://")
    assert ask(name, offered, "PING") == "PONG"
    assert ask(name, offered, "CONFIG GET maxclients").split() == ["maxclients", "500"]
    listening = hosts[name].check_output("ss -Hltn")
    assert {line.split()[3].rpartition(":")[2] for line in listening.splitlines()} & {"6379", "6380"} == {"6379", "6380"}
    assert len([line for line in listening.splitlines() if "6379" in line]) == 2, "Debian's own instance is off"


@pytest.mark.parametrize("name", ["data12", "data13"])
def test_each_instance_has_its_own_policy_and_keeps_what_it_should(name, ask, urls, hosts):
    offered = urls[name]["redis"]
    wanted = {"cache": ("67108864", "allkeys-lru"), "queue": ("134217728", "noeviction")}
    for instance, (memory, policy) in wanted.items():
        assert ask(name, offered[instance], "CONFIG GET maxmemory").split()[1] == memory
        assert ask(name, offered[instance], "CONFIG GET maxmemory-policy").split()[1] == policy
        assert ask(name, offered[instance], "SET kept yes") == "OK"
    flavour = "valkey" if name == "data13" else "redis"
    hosts[name].check_output(f"systemctl kill --signal=KILL {flavour}-server@queue && sleep 3")
    hosts[name].check_output(f"systemctl restart {flavour}-server@cache")
    assert ask(name, offered["queue"], "GET kept") == "yes", "an aof outlives kill -9 and systemd starts the instance again"
    assert ask(name, offered["cache"], "GET kept") == ""


def test_a_full_cache_forgets_and_a_full_queue_refuses(ask, urls):
    offered = urls["data12"]["redis"]
    fill = "\"for i = 1, 9000 do redis.call('SET', 'k' .. i, string.rep('x', 10000)) end\" 0"
    # The server checks its memory before a command, not within a script.
    ask("data12", offered["cache"], "EVAL", fill)
    assert ask("data12", offered["cache"], "SET one more") == "OK"
    assert 0 < int(ask("data12", offered["cache"], "DBSIZE")) < 9000
    assert ask("data12", offered["queue"], "CONFIG SET maxmemory 8mb") == "OK"
    ask("data12", offered["queue"], "EVAL", fill)
    assert "OOM" in ask("data12", offered["queue"], "SET one more")
    assert ask("data12", offered["queue"], "FLUSHALL") == "OK"
    assert ask("data12", offered["queue"], "CONFIG SET maxmemory 128mb") == "OK"

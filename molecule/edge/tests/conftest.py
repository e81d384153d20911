"""Fixtures that send requests from the host itself, which trusts itself like a load balancer, and read its log."""

import json
from collections.abc import Callable

import pytest
from outside import wait_until

# Runs on the host; prints status, headers and body of each answer.
CLIENT = """
import http.client, json, sys
answers = []
for path, headers in json.load(sys.stdin):
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=120)
    connection.request("GET", path, headers={"Host": "sample.test"} | headers)
    answer = connection.getresponse()
    answers.append([answer.status, dict(answer.getheaders()), answer.read().decode(errors="replace")])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def inside(host) -> Callable:
    """inside(path, **headers): send a request from the host to its edge; return (status, headers, body)."""

    def ask(path: str, **headers: str) -> tuple[int, dict, str]:
        question = json.dumps([[path, headers]])
        return tuple(json.loads(host.check_output("echo %s | python3 -c %s", question, CLIENT))[0])

    return ask


@pytest.fixture(scope="module")
def log(host) -> Callable:
    """log(id): return the line of the edge's access log for the request with that id."""

    def line(request_id: str) -> dict:
        found = "grep --fixed-strings %s /var/log/nginx/sample/access.json"
        # nginx writes the line after the answer.
        wait_until(lambda: host.run(found, request_id).stdout)
        return json.loads(host.check_output(found, request_id))

    return line

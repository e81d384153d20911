"""Answers from the documents, and their stream."""

import json

import pytest

from showcase import documents


async def ask(async_client, **arguments):
    response = await async_client.post("/api/ask/", arguments, content_type="application/json")
    return [json.loads(line) async for line in response.streaming_content]


@pytest.fixture(autouse=True)
def at_once(settings):
    settings.ASK_TOKEN_SECONDS = 0


async def test_an_answer_is_streamed_token_by_token(async_client):
    first, *tokens, last = await ask(async_client, q="What happens to WebSockets during a deploy?")
    assert first["sources"][0] == "WebSockets across a deploy"
    text = "".join(token["token"] for token in tokens)
    assert text == documents.answer("What happens to WebSockets during a deploy?")[0]
    assert last == {"done": True, "tokens": len(tokens)} and len(tokens) > 20


async def test_get_does_too(async_client):
    response = await async_client.get("/api/ask/?q=cache")
    assert response["X-Accel-Buffering"] == "no"
    lines = [json.loads(line) async for line in response.streaming_content]
    assert lines[0]["sources"] == ["The cache"]


@pytest.mark.parametrize("body", [{}, {"q": ""}, {"q": " "}, {"q": 1}, {"q": "x" * 301}, [], "q"])
def test_what_is_no_question_is_refused(client, body):
    assert client.post("/api/ask/", body, content_type="application/json").status_code == 400


@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("How can I go back to an older release?", "Going back to an older release"),
        ("Is a job done exactly once?", "Background jobs and Celery"),
        ("how many connections does the pool hold", "PostgreSQL and the connection pool"),
        ("Who delivers the messages of a room?", "Chat rooms and the channel layer"),
        ("Is there a language model?", "Streaming answers"),
        ("What if Redis is down?", "Outages of Redis or PostgreSQL"),
    ],
)
def test_the_right_document_is_found(question, source):
    assert documents.answer(question)[1][0] == source


def test_what_no_document_tells_is_not_made_up():
    text, sources = documents.answer("zebra?")
    assert sources == [] and text.startswith("No document covers that.")
    assert documents.answer("what is it?")[1] == []

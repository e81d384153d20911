"""Answers to questions about this site, streamed token by token."""

import asyncio
import json
import re

from django.conf import settings
from django.http import JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from .documents import answer
from .identity import identity

LONGEST_QUESTION = 300


@csrf_exempt  # there are no accounts to act for
@require_http_methods(["GET", "HEAD", "POST"])
async def ask(request):
    """Answer ?q=… or {"q": …} in lines of JSON: {"sources"}, many {"token"}, then {"done"}."""
    question = request.GET.get("q", "")
    if request.method == "POST":
        try:
            question = json.loads(request.body)["q"]
        except (ValueError, TypeError, KeyError):
            question = ""
    if not (isinstance(question, str) and 0 < len(question.strip()) <= LONGEST_QUESTION):
        detail = f"q must be a question of 1 to {LONGEST_QUESTION} characters."
        return JsonResponse({"detail": detail}, status=400)
    text, sources = answer(question)

    async def lines():
        yield json.dumps({"sources": sources} | identity()) + "\n"
        tokens = re.findall(r"\s*\S{1,7}", text)  # about the size of a language model's tokens
        for token in tokens:
            yield json.dumps({"token": token}) + "\n"
            await asyncio.sleep(settings.ASK_TOKEN_SECONDS)
        yield json.dumps({"done": True, "tokens": len(tokens)}) + "\n"

    return StreamingHttpResponse(
        lines(),
        content_type="application/x-ndjson",
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )

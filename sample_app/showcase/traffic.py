"""Traffic that an edge must handle well: large uploads, guarded downloads, event streams."""

import asyncio
import hashlib
import logging

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

logger = logging.getLogger(__name__)


@csrf_exempt
@require_POST
def receive(request):
    """Return the size and SHA-256 of a body, which Django spools to disk if it is large."""
    digest, size = hashlib.sha256(), 0
    while chunk := request.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
    logger.info("received %d bytes", size)
    return JsonResponse({"size": size, "sha256": digest.hexdigest()})


@require_safe
async def download(request, name):
    """Make the edge send a file without a public address; a real project checks permission here."""
    return HttpResponse(
        content_type="application/octet-stream",
        headers={
            "X-Accel-Redirect": f"/protected/{name}",
            "Content-Disposition": content_disposition_header(True, name),
            "Cache-Control": "private, no-store",
        },
    )


@require_safe
async def events(request):
    """Send ?events=N (by default 10) server-sent events, 0.3 s apart; 400 unless N is 1 to 1000."""
    asked = request.GET.get("events", "10")
    count = int(asked) if asked.isdecimal() and len(asked) <= 4 else 0
    if not 1 <= count <= 1000:
        return JsonResponse({"detail": "events must be 1 to 1000."}, status=400)

    async def stream():
        for number in range(1, count + 1):
            yield f"id: {number}\ndata: {number} of {count}\n\n"
            await asyncio.sleep(0.3)

    return StreamingHttpResponse(
        stream(), content_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )

"""The HTTP API.

Django REST framework's views are synchronous: Django runs each in a thread, which is right for
work on the database. Views that only wait or answer are plain async views: no thread, no limit.
"""

import asyncio
import json
import os
import platform

from django.conf import settings
from django.core.files.storage import default_storage
from django.http import JsonResponse, StreamingHttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from rest_framework import generics, status
from rest_framework.decorators import api_view
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response
from rest_framework.views import APIView

from .identity import HOST
from .models import Note
from .serializers import NoteSerializer, UploadSerializer


@api_view(["GET"])
def hello(request):
    """Return the greeting."""
    return Response({"message": "Hello from DRF with Uvicorn!"})


@api_view(["POST"])
def echo(request):
    """Return the JSON of the request."""
    return Response(request.data)


@never_cache
@require_safe
async def whoami(request):
    """Return what the app sees of this request, and the process and release that answer it."""
    return JsonResponse(
        {
            "client": request.META.get("REMOTE_ADDR"),  # set by the server, from trusted headers
            "scheme": request.scheme,
            "host": request.get_host(),
            "is_secure": request.is_secure(),
            "release": settings.RELEASE,
            "pid": os.getpid(),
            "hostname": HOST,
            "python": platform.python_version(),
        }
    )


@require_safe
async def stream(request):
    """Send ?chunks=N lines of JSON, ?delay=S seconds apart: a slow response.

    Answers 400 unless N is 1 to 200 and S is 0 to 2. The last line's "chunk" equals its "of".
    """
    try:
        chunks = int(request.GET.get("chunks", 10))
        delay = float(request.GET.get("delay", 0.2))
    except ValueError:
        chunks = delay = -1
    if not (1 <= chunks <= 200 and 0 <= delay <= 2):
        return JsonResponse({"detail": "chunks must be 1 to 200, delay 0 to 2."}, status=400)

    async def lines():
        for number in range(1, chunks + 1):
            line = {"chunk": number, "of": chunks, "release": settings.RELEASE, "pid": os.getpid()}
            yield json.dumps(line) + "\n"
            if number < chunks:
                await asyncio.sleep(delay)

    return StreamingHttpResponse(
        lines(),
        content_type="application/x-ndjson",
        headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
    )


class NoteList(generics.ListCreateAPIView):
    """List the newest notes; create one."""

    serializer_class = NoteSerializer

    def get_queryset(self):
        return Note.objects.all()[:20]


class Upload(APIView):
    """Store one small file, to be served under /media/."""

    parser_classes = (MultiPartParser,)

    def post(self, request):
        serializer = UploadSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        file = serializer.validated_data["file"]
        if stored_bytes() + file.size > settings.UPLOAD_QUOTA_BYTES:
            return Response({"detail": "The space for uploads is full."}, status=507)
        name = default_storage.save(file.name, file)
        answer = {"url": default_storage.url(name), "size": file.size}
        return Response(answer, status=status.HTTP_201_CREATED)


def stored_bytes():
    """Return the total size of all uploads."""
    try:
        with os.scandir(settings.MEDIA_ROOT) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except FileNotFoundError:
        return 0

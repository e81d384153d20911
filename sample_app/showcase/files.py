"""Large files: uploaded in pieces that a client may repeat, downloaded as a stream.

POST the name and size, PUT pieces at their offsets, GET the file. The answer to a wrong offset
names the right one, so an upload resumes after a lost connection, a deploy or a restart.
"""

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import re
import time
import uuid

from django.conf import settings
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

ABANDONED_SECONDS = 3600
READ_BYTES = 256 * 1024


class Refusal(Exception):
    """An error to answer with: a status and a sentence."""

    def __init__(self, status, detail, **values):
        self.response = JsonResponse({"detail": detail, **values}, status=status)


def place(file_id, kind):
    """Return the path of a file's "json" (description), "part" (received so far) or "bin" (all)."""
    return settings.FILES_ROOT / f"{file_id.hex}.{kind}"


def describe(path):
    """Return the description and progress of the file whose "json" is `path`."""
    known = json.loads(path.read_text())
    whole, part = path.with_suffix(".bin"), path.with_suffix(".part")
    if whole.exists():
        return known | {"offset": known["size"], "complete": True}
    return known | {"offset": part.stat().st_size, "complete": False}


def known_files():
    """Return all files, newest first; delete files that are too old or abandoned."""
    found, now = [], time.time()
    for path in settings.FILES_ROOT.glob("*.json"):
        try:
            known = describe(path)
            idle = now - (0 if known["complete"] else path.with_suffix(".part").stat().st_mtime)
            old = now - known["created"] > settings.FILES_KEEP_SECONDS
            if old or (not known["complete"] and idle > ABANDONED_SECONDS):
                for kind in (".json", ".part", ".bin"):
                    path.with_suffix(kind).unlink(missing_ok=True)
            else:
                found.append(known)
        except (FileNotFoundError, ValueError):
            continue  # another worker is deleting it
    return sorted(found, key=lambda known: -known["created"])


def create(body):
    """Register a file and return its description; raise Refusal."""
    try:
        wanted = json.loads(body)
        name, size = wanted["name"], wanted["size"]
        valid = type(name) is str and type(size) is int and name.strip() and len(name) <= 200
    except (ValueError, TypeError, KeyError):
        valid = False
    if not valid:
        raise Refusal(400, 'Send {"name": …, "size": bytes}.')
    if not 0 < size <= settings.FILE_MAX_BYTES:
        raise Refusal(413, f"A file must have 1 to {settings.FILE_MAX_BYTES} bytes.")
    settings.FILES_ROOT.mkdir(mode=0o750, exist_ok=True)
    with (settings.FILES_ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two requests could both take the last room
        if sum(known["size"] for known in known_files()) + size > settings.FILES_QUOTA_BYTES:
            raise Refusal(507, "The space for files is full.")
        file_id = uuid.uuid4()
        known = {
            "id": str(file_id),
            "name": re.sub(r"[\x00-\x1f/\\]", "_", name.strip()),
            "size": size,
            "created": time.time(),
            "url": f"/api/files/{file_id}/",
        }
        place(file_id, "part").touch(mode=0o640)
        draft = place(file_id, "draft")
        draft.write_text(json.dumps(known))
        draft.rename(place(file_id, "json"))
    return known | {"offset": 0, "complete": False, "chunk": settings.FILE_CHUNK_BYTES}


def look_up(file_id):
    """Return a file's description and progress; raise Refusal."""
    try:
        return describe(place(file_id, "json"))
    except FileNotFoundError:
        raise Refusal(404, "This file does not exist.") from None


def append(file_id, offset, body):
    """Add a piece and return the file's progress; raise Refusal. The last piece adds the digest."""
    known = look_up(file_id)
    try:
        part = place(file_id, "part").open("r+b")
    except FileNotFoundError:
        raise Refusal(409, "The file is complete.", offset=known["size"]) from None
    with part:
        fcntl.flock(part, fcntl.LOCK_EX)
        have = os.fstat(part.fileno()).st_size
        if offset != have:
            raise Refusal(409, f"The next offset is {have}.", offset=have)
        if have + len(body) > known["size"]:
            raise Refusal(413, "That is more than was announced.")
        part.seek(have)
        try:
            part.write(body)
            part.flush()
        except OSError as error:
            os.ftruncate(part.fileno(), have)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Refusal(507, "The disk is full.", offset=have) from None
            raise
        if have + len(body) < known["size"]:
            return known | {"offset": have + len(body)}
        part.seek(0)
        known["sha256"] = hashlib.file_digest(part, "sha256").hexdigest()
        draft = place(file_id, "draft")
        draft.write_text(
            json.dumps({k: v for k, v in known.items() if k not in ("offset", "complete")})
        )
        draft.rename(place(file_id, "json"))
        place(file_id, "part").rename(place(file_id, "bin"))
    return known | {"offset": known["size"], "complete": True}


def delete(file_id):
    """Delete a file; raise Refusal."""
    look_up(file_id)
    for kind in ("json", "part", "bin"):
        place(file_id, kind).unlink(missing_ok=True)


def answering_refusals(view):
    """Turn a Refusal that a view raises into its response."""

    async def wrapped(request, **kwargs):
        try:
            return await view(request, **kwargs)
        except Refusal as refusal:
            return refusal.response

    return wrapped


@csrf_exempt  # there are no accounts to act for
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@answering_refusals
async def files(request):
    """GET: list files and limits. POST {"name", "size"}: announce a file; 201 with its address."""
    if request.method == "POST":
        return JsonResponse(await asyncio.to_thread(create, request.body), status=201)
    return JsonResponse(
        {
            "files": await asyncio.to_thread(known_files),
            "file_max": settings.FILE_MAX_BYTES,
            "quota": settings.FILES_QUOTA_BYTES,
            "chunk": settings.FILE_CHUNK_BYTES,
        }
    )


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "PUT", "DELETE"])
@answering_refusals
async def file(request, file_id):
    """PUT ?offset=N: add a piece. GET: the file, once complete. DELETE: delete it."""
    if request.method == "DELETE":
        await asyncio.to_thread(delete, file_id)
        return HttpResponse(status=204)
    if request.method == "PUT":
        offset = request.GET.get("offset", "")
        if not offset.isdecimal():
            raise Refusal(400, "offset must be a number of bytes.")
        body = request.read(settings.FILE_CHUNK_BYTES + 1)
        if not 0 < len(body) <= settings.FILE_CHUNK_BYTES:
            raise Refusal(413, f"A piece must have 1 to {settings.FILE_CHUNK_BYTES} bytes.")
        return JsonResponse(await asyncio.to_thread(append, file_id, int(offset), body))

    known = await asyncio.to_thread(look_up, file_id)
    if not known["complete"]:
        raise Refusal(409, "The file is not complete.", offset=known["offset"])
    content = await asyncio.to_thread(place(file_id, "bin").open, "rb")

    async def pieces():
        with content:
            while piece := await asyncio.to_thread(content.read, READ_BYTES):
                yield piece

    headers = {
        "Content-Length": str(known["size"]),
        "Content-Disposition": content_disposition_header(True, known["name"]),
        "X-Content-Type-Options": "nosniff",
    }
    kind = "application/octet-stream"
    if request.method == "HEAD":
        content.close()
        return HttpResponse(content_type=kind, headers=headers)
    return StreamingHttpResponse(pieces(), content_type=kind, headers=headers)

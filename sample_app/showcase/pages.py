"""The page that shows the other views at work."""

import os
import platform

import django
from django.conf import settings
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .identity import HOST

# Only scripts and styles from the site's own files: text from a visitor can never run.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


@never_cache
@require_safe
async def home(request):
    """Render the page with values of the worker that answers; a script refreshes them."""
    context = {
        "release": settings.RELEASE,
        "pid": os.getpid(),
        "hostname": HOST,
        "job_max_seconds": settings.JOB_MAX_SECONDS,
        "file_max_bytes": settings.FILE_MAX_BYTES,
        "python_version": platform.python_version(),
        "django_version": django.get_version(),
    }
    response = render(request, "showcase/home.html", context)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response

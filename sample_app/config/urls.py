"""URLs of the project."""

from django.conf import settings
from django.conf.urls.static import static
from django.urls import path

from jobs import api as jobs
from showcase import api, ask, demos, files, health, pages, traffic

urlpatterns = [
    path("", pages.home, name="home"),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("api/hello/", api.hello),
    path("api/whoami/", api.whoami),
    path("api/echo/", api.echo),
    path("api/stream/", api.stream),
    path("api/notes/", api.NoteList.as_view()),
    path("api/upload/", api.Upload.as_view()),
    path("api/receive/", traffic.receive),
    path("api/download/<slug:name>", traffic.download),
    path("api/events/", traffic.events),
    path("api/status/", health.status),
    path("api/ask/", ask.ask),
    path("api/jobs/", jobs.jobs),
    path("api/jobs/<uuid:job_id>/", jobs.job),
    path("api/files/", files.files),
    path("api/files/<uuid:file_id>/", files.file),
    path("api/cache/", demos.cached),
    path("api/queries/", demos.queries),
    path("api/outgoing/", demos.outgoing),
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),  # with DEBUG only
]

"""URLs of the project."""

from django.urls import path

from measured import views

urlpatterns = [
    path("sync/", views.sync_view),
    path("async/", views.async_view),
    path("api/", views.api),
    path("page/", views.page),
    path("stream/", views.stream),
]

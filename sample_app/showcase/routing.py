"""URLs of the WebSockets."""

from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from jobs.consumers import JobConsumer

from .consumers import ChatConsumer, RoomConsumer

websocket_urlpatterns = [
    path("ws/chat/", ChatConsumer.as_asgi()),
    path("ws/jobs/<uuid:job_id>/", JobConsumer.as_asgi()),
    re_path(r"^ws/room/(?P<room>[A-Za-z0-9_-]{1,40})/$", RoomConsumer.as_asgi()),
    re_path(r"", WebsocketDenier.as_asgi()),  # an unknown path is refused, not an exception
]

"""The ASGI application: HTTP by Django, WebSockets by Channels."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "measured.settings")
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path

from measured.consumers import Echo

websockets = AllowedHostsOriginValidator(URLRouter([path("ws/echo/", Echo.as_asgi())]))
application = ProtocolTypeRouter({"http": django_application, "websocket": websockets})

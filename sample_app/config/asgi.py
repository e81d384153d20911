"""The ASGI application: HTTP by Django, WebSockets by Channels."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django_application = get_asgi_application()  # loads the apps; imports of models must follow

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from showcase.request_id import RequestIdMiddleware
from showcase.routing import websocket_urlpatterns

if settings.DEBUG:
    # In production nginx serves /static/; in development any ASGI server does, through this.
    django_application = ASGIStaticFilesHandler(django_application)

application = RequestIdMiddleware(
    ProtocolTypeRouter(
        {
            "http": django_application,
            "websocket": AllowedHostsOriginValidator(URLRouter(websocket_urlpatterns)),
        }
    )
)

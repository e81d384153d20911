import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "office.settings")
os.environ.setdefault("DJANGO_CONFIGURATION", "Production")

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from configurations.asgi import get_asgi_application
from django.urls import path


class Ticker(AsyncJsonWebsocketConsumer):
    """Speaks one subprotocol, and only with somebody who shows a token."""

    async def connect(self):
        if dict(self.scope["headers"]).get(b"x-token") == b"a-token-of-the-office" and "ticker.v2" in self.scope["subprotocols"]:
            await self.accept("ticker.v2")
            await self.send_json({"tick": 1})


application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter([path("ticker/", Ticker.as_asgi())])})

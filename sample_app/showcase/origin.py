"""Which web pages may open a WebSocket here."""

from urllib.parse import urlparse

from channels.security.websocket import OriginValidator, WebsocketDenier
from django.conf import settings


class BrowserOriginValidator(OriginValidator):
    """Like Channels' AllowedHostsOriginValidator, but lets clients without an Origin in.

    A browser always names the page's origin, and pages of other sites are refused. What sends no
    Origin is no browser: it could name any origin it likes, so refusing it would protect nobody.
    """

    def __init__(self, application):
        super().__init__(application, settings.ALLOWED_HOSTS)

    async def __call__(self, scope, receive, send):
        try:
            for name, value in scope["headers"]:
                if name == b"origin":
                    urlparse(value.decode("latin1"))
        except ValueError:  # not an address at all: refused like any other, not an exception
            return await WebsocketDenier()(scope, receive, send)
        return await super().__call__(scope, receive, send)

    def valid_origin(self, parsed_origin):
        return parsed_origin is None or super().valid_origin(parsed_origin)

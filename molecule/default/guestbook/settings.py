"""Settings, URLs and view in one file."""

import os

from django.http import HttpResponse
from django.urls import path

SECRET_KEY = os.environ["SECRET_KEY"]
ALLOWED_HOSTS = ["guestbook.test"]
ROOT_URLCONF = "settings"


async def welcome(_request):
    """The whole guestbook."""
    return HttpResponse("Welcome")


urlpatterns = [path("", welcome)]

import asyncio
import os

from django.http import HttpResponse
from django.urls import path


async def index(request):
    await asyncio.sleep(0)
    return HttpResponse("Nothing but this")


async def where(request):
    return HttpResponse(os.environ.get("WHERE", ""), content_type="application/json")


urlpatterns = [path("", index), path("where/", where)]

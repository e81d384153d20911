import asyncio

from django.http import HttpResponse
from django.urls import path


async def index(request):
    await asyncio.sleep(0)
    return HttpResponse("Nothing but this")


urlpatterns = [path("", index)]

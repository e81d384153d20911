import logging

from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.http import HttpResponse, JsonResponse
from django.templatetags.static import static
from django.views.decorators.csrf import csrf_exempt


def index(request):
    logging.getLogger(__name__).info("somebody looks at the rooms")
    style = static("chat/style.css")
    return HttpResponse(f'<link rel="stylesheet" href="{style}"><h1>Rooms</h1><p>{User.objects.count()} users</p>')


@csrf_exempt
def upload(request):
    name = default_storage.save("note.txt", ContentFile(request.body))
    return JsonResponse({"url": default_storage.url(name)})

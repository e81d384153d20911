from django.http import HttpResponse, JsonResponse
from django.templatetags.static import static
from django.urls import path
from ledger.models import Entry
from money import euros


def status(request):
    # The app lives behind a login, and its monitoring accepts that.
    return HttpResponse("Log in first", status=401)


def entries(request):
    Entry.objects.create(cents=1250)
    total = sum(Entry.objects.values_list("cents", flat=True))
    return JsonResponse({"total": euros(total), "database": Entry.objects.db, "style": static("ledger/style.css")})


urlpatterns = [path("status/", status), path("entries/", entries)]

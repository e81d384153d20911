from chat.views import index, upload
from django.urls import path

urlpatterns = [path("", index), path("upload/", upload)]

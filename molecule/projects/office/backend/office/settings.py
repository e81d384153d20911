"""Settings as classes, two databases with a router, and static files that the app serves itself."""

from pathlib import Path

from configurations import Configuration, values

BASE_DIR = Path(__file__).resolve().parent.parent


class Production(Configuration):
    SECRET_KEY = values.SecretValue()
    ALLOWED_HOSTS = values.ListValue([])
    INSTALLED_APPS = ("django.contrib.auth", "django.contrib.contenttypes", "django.contrib.staticfiles", "ledger")
    MIDDLEWARE = ("django.middleware.security.SecurityMiddleware", "whitenoise.middleware.WhiteNoiseMiddleware")
    ROOT_URLCONF = "office.urls"
    ASGI_APPLICATION = "office.asgi.application"
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    DATABASES = {  # noqa: RUF012 (Django's settings are not annotated)
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "data" / "office.sqlite3"},
        "books": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "data" / "books.sqlite3"},
    }
    DATABASE_ROUTERS = ("office.routers.LedgerRouter",)
    STATIC_URL = "/assets/"
    STATIC_ROOT = BASE_DIR / "assets"
    STORAGES = {  # noqa: RUF012 (Django's settings are not annotated)
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }

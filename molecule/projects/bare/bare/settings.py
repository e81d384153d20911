"""As little as Django runs with: no database, no apps, no static files."""

import os

SECRET_KEY = os.environ["BARE_KEY"]
ALLOWED_HOSTS = [".bare.test"]
ROOT_URLCONF = "bare.urls"

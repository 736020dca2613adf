"""Settings of the example: all that has to do with mail is in the second half."""

import os

import django

SECRET_KEY = "an example has no secrets"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
INSTALLED_APPS = ["pysmtpx.contrib.django", "shop"]  # the first one for `manage.py check`
MIDDLEWARE: list[str] = []

DEFAULT_FROM_EMAIL = "shop@example.org"

_BACKEND = "pysmtpx.contrib.django.EmailBackend"
_HOST = os.environ.get("SHOP_MAIL_HOST", "localhost")
_PORT = int(os.environ.get("SHOP_MAIL_PORT", "25"))
_OPTIONS = {"max_connections": 2, "retry": {"attempts": 3, "backoff": 0.1}}

if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": _BACKEND,
            "OPTIONS": {
                "host": _HOST,
                "port": _PORT,
                "username": "shop",
                "password": os.environ.get("SHOP_MAIL_PASSWORD", ""),
                "timeout": 20,
                **_OPTIONS,
            },
        }
    }
else:
    EMAIL_BACKEND = _BACKEND
    EMAIL_HOST = _HOST
    EMAIL_PORT = _PORT
    EMAIL_HOST_USER = "shop"
    EMAIL_HOST_PASSWORD = os.environ.get("SHOP_MAIL_PASSWORD", "")
    EMAIL_TIMEOUT = 20
    PYSMTPX = _OPTIONS

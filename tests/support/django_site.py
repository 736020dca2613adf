"""One Django for the session; each test configures its mail, in both ways that this version knows."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import settings
from django.core import mail
from django.test.utils import override_settings

from pysmtpx.contrib.pools import close_pools
from pysmtpx.testing import MailServer

BACKEND = "pysmtpx.contrib.django.EmailBackend"
HAS_MAILERS = django.VERSION >= (6, 1)
_DEPRECATED = "ignore::django.utils.deprecation.RemovedInDjango2028Warning"
_OWN = {"Celery": "PYSMTPX_CELERY", "Outbox": "PYSMTPX_OUTBOX", "Task": "PYSMTPX_TASKS"}
_NAMES = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
    "timeout": "EMAIL_TIMEOUT",
    "ssl_keyfile": "EMAIL_SSL_KEYFILE",
    "ssl_certfile": "EMAIL_SSL_CERTFILE",
}

if not settings.configured:
    settings.configure(
        DEFAULT_FROM_EMAIL="robot@x.example",
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "pysmtpx.contrib.django",
            "pysmtpx.contrib.django.outbox",
        ],
        SECRET_KEY="not secret",
        USE_TZ=True,
        ADMINS=[],
    )
    django.setup()


class Site:
    """A project's settings, for one test."""

    def __init__(self, mode: str, stack: contextlib.ExitStack) -> None:
        self.by_mailers = mode == "mailers"
        self._stack = stack
        self._silently = False

    def use(self, server: MailServer | None = None, *, backend: str = BACKEND, **options: Any) -> None:
        """Send to this server, by this backend, with these options."""
        self._silently = options.pop("fail_silently", False)
        admins = options.pop("admins", [])
        if server is not None:
            options = {"host": server.host, "port": server.port, **options}
        changes: dict[str, Any]
        if self.by_mailers:
            silently = {"fail_silently": True} if self._silently else {}
            changes = {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options | silently}}}
        else:
            name = next((each for word, each in _OWN.items() if word in backend), "PYSMTPX")
            changes = {_NAMES[each]: options.pop(each) for each in [*options] if each in _NAMES}
            changes |= {"EMAIL_BACKEND": backend, name: options}
        changes["ADMINS"] = admins if django.VERSION >= (6, 0) else [("", each) for each in admins]
        self._stack.enter_context(override_settings(**changes))

    def connection(self) -> Any:
        """What Django sends by."""
        if self.by_mailers:
            return mail.mailers.default
        return mail.get_connection(fail_silently=True) if self._silently else mail.get_connection()


@pytest.fixture(params=["settings", *(["mailers"] if HAS_MAILERS else [])])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Yield a project that is configured in the one way or the other; its pools are closed in the end."""
    # In the old way Django 6.1 warns of each setting, in the new one nobody may warn of anything.
    old = HAS_MAILERS and request.param == "settings"
    if old:
        request.applymarker(pytest.mark.filterwarnings(_DEPRECATED))
    before = settings._wrapped
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        if old:
            warnings.simplefilter("ignore")
        yield Site(request.param, stack)
        close_pools(0)
    # Those of a block of ``override_settings`` came back just now, where a test called ``use`` within it.
    settings._wrapped = before

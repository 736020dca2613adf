"""Errors of a project by mail: Django's report, its secrets hidden, and no flood."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import RequestFactory, override_settings
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from support.django_site import Site
from support.patience import LONG

from pysmtpx.contrib.django.log import AdminMailHandler
from pysmtpx.development import mailbox

urlpatterns: list[Any] = []


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    log = logging.getLogger("of.a.view")
    log.propagate = False
    handler = AdminMailHandler(delay=3600, flush_timeout=LONG)
    log.addHandler(handler)
    yield log
    log.removeHandler(handler)
    handler.close()


@sensitive_post_parameters("card")
@sensitive_variables("pin")
def view(request: Any) -> None:
    pin = "of-the-variable"
    raise ValueError("broken" + pin[:0])


@override_settings(ROOT_URLCONF=__name__)
def test_a_report_has_the_request_and_no_secret(site: Site, log: logging.Logger) -> None:
    site.use(host="memory://admins", admins=["ops@x.example"])
    box = mailbox("admins")
    box.clear()
    for _ in range(300):
        request = RequestFactory().post("/pay", {"card": "of-the-form", "item": "tea"})
        try:
            view(request)
        except ValueError:
            log.exception("Internal Server Error: %s", request.path, extra={"request": request})
    log.handlers[0].flush()
    (message,) = box.messages
    assert message.addresses == ["ops@x.example"]
    text = message.content.replace(b"=\r\n", b"").replace(b"=3D", b"=").decode()
    for expected in ("300 times", "/pay", "ValueError", "tea", "Internal Server Error"):
        assert expected in text
    for secret in ("of-the-form", "of-the-variable", "not secret"):
        assert secret not in text


def test_without_admins_nothing_is_noted(site: Site, log: logging.Logger) -> None:
    site.use(host="memory://admins")
    box = mailbox("admins")
    box.clear()
    log.error("x")
    log.handlers[0].flush()
    assert len(box) == 0

"""A view that was written for Django's own backend catches what ours raises, and reads what it read."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from django.core.mail import EmailMessage
from support import handlers
from support.django_site import BACKEND

DJANGO = "django.core.mail.backends.smtp.EmailBackend"


@pytest.mark.parametrize("name", handlers.CASES)
def test_what_catches_djangos_errors_catches_ours(site: Any, name: str) -> None:
    case = handlers.CASES[name]
    errors = []
    for backend in (DJANGO, BACKEND):
        with handlers.served(case) as server:
            site.use(
                backend=backend,
                host=case.name,
                port=handlers.port_of(case, server),
                username=handlers.USER if case.password else None,
                password=case.password or None,
                use_tls=case.tls == "starttls",
                use_ssl=case.tls == "implicit",
                timeout=case.timeout,
                **({"retry": {"attempts": 1}} if backend == BACKEND else {}),
            )
            sent = EmailMessage(case.subject, case.body, "me@x.example", list(case.to))
            errors.append(handlers.outcome(sent.send))
    handlers.check(*errors)


def test_those_that_were_not_tried_are_told_the_same_cause(site: Any) -> None:
    site.use(host="127.0.0.1", port=1, retry={"attempts": 1})
    mails = [EmailMessage("s", "b", "me@x.example", ["a@x.example"]) for _ in range(3)]
    with pytest.raises(ConnectionRefusedError):
        site.connection().send_messages(mails)
    for each in mails:
        assert isinstance(each.send_error, ConnectionRefusedError)
        assert each.send_error.errno == errno.ECONNREFUSED

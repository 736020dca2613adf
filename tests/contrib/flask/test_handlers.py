"""A view that was written for Flask-Mail catches what ours raises, and reads what it read."""

from __future__ import annotations

import socket
from email.charset import CHARSETS
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from flask import Flask
from support import handlers

from pysmtpx.contrib import flask as ours

_before = dict(CHARSETS)
theirs: Any = import_module("flask_mail")
CHARSETS.update(_before)  # it changes how the whole process writes UTF-8


def send(module: Any, case: handlers.Case, port: int) -> None:
    app = Flask(__name__)
    app.config.update(
        MAIL_SERVER=case.name,
        MAIL_PORT=port,
        MAIL_USERNAME="ann" if case.password else None,
        MAIL_PASSWORD=case.password or None,
        MAIL_USE_TLS=case.tls == "starttls",
        MAIL_USE_SSL=case.tls == "implicit",
        MAIL_DEFAULT_SENDER="me@x.example",
        MAIL_TIMEOUT=case.timeout,
        MAIL_RETRY={"attempts": 1},
    )
    mail = module.Mail(app)
    with app.app_context():
        mail.send(module.Message(case.subject, list(case.to), case.body))


@pytest.mark.parametrize("name", [name for name, case in handlers.CASES.items() if not case.verified])
def test_what_catches_flask_mails_errors_catches_ours(name: str) -> None:
    case = handlers.CASES[name]
    errors = []
    for module in (theirs, ours):
        with handlers.served(case) as server:
            # Flask-Mail has no timeout of its own.
            socket.setdefaulttimeout(case.timeout if module is theirs else None)
            try:
                errors.append(handlers.outcome(partial(send, module, case, handlers.port_of(case, server))))
            finally:
                socket.setdefaulttimeout(None)
    handlers.check(*errors)

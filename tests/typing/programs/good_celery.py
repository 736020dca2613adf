"""A Celery task that sends mail."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any

from celery import Celery  # type: ignore[import-untyped]

from pysmtpx import RcptToParams, RetryPolicy
from pysmtpx.contrib.celery import SendFailed, enqueue, register


def told(report: Mapping[str, Any]) -> None:
    print(report["status"])


app = Celery("shop")
send_mail = register(
    app,
    "smtps://mail.example.org",
    name="shop.send",
    queue="mail",
    retry=RetryPolicy(attempts=3),
    on_outcome=told,
    max_connections=2,
    username="ann",
    password="secret",
    rate=1.5,
)
register(app, "shop.settings:mail_server", signing_keys="k" * 16)
message = EmailMessage()
enqueue(send_mail, message, recipients=["bob@example.org"], rcpt_params=RcptToParams(notify="FAILURE"))
enqueue(app, b"Subject: Hi\r\n\r\n", sender="", name="shop.send", countdown=3)
try:
    enqueue(app, message)
except SendFailed as error:
    print(error.status, error.report)

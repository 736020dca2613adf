"""What people get wrong about the Celery task."""

from __future__ import annotations

from celery import Celery  # type: ignore[import-untyped]

from pysmtpx.contrib.celery import enqueue, register

app = Celery("shop")
register(app)  # wrong: call-arg, reportCallIssue
register(app, "mail.example.org", max_conections=2)  # wrong: call-arg, reportCallIssue
register(app, "mail.example.org", pasword="secret")  # wrong: call-arg, reportCallIssue
register(app, "mail.example.org", retry=3)  # wrong: arg-type, reportArgumentType
register(app, "mail.example.org", rate="1/s")  # wrong: arg-type, reportArgumentType
enqueue(app, "Hello")  # wrong: arg-type, reportArgumentType

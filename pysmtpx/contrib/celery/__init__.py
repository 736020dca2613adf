"""Sending by Celery: a task on your own app, and ``enqueue``, which hands it a message.

::

    from pysmtpx.contrib.celery import enqueue, register

    send_mail = register(app, "smtps://user:password@mail.example.org")
    enqueue(send_mail, message)
"""

from __future__ import annotations

from ...extras import needs

needs("celery", "celery")

from ..queueing.tries import SendFailed  # noqa: E402
from .registration import enqueue, register  # noqa: E402

__all__ = ["SendFailed", "enqueue", "register"]

"""Sending by RQ: a function for its workers, and ``enqueue``, which hands it a message.

::

    from pysmtpx.contrib.rq import enqueue, register

    send_mail = register("shop.mail.send_mail", "smtps://user:password@mail.example.org")
    enqueue(queue, send_mail, message)
"""

from __future__ import annotations

from ...extras import needs

needs("rq", "rq")

from ..queueing.tries import SendFailed  # noqa: E402
from .job import MailJob, report_of  # noqa: E402
from .registration import enqueue, register  # noqa: E402

__all__ = ["MailJob", "SendFailed", "enqueue", "register", "report_of"]

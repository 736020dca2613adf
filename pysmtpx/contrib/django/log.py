"""Errors of a Django project by mail, without floods: in place of ``django.utils.log.AdminEmailHandler``."""

from __future__ import annotations

import logging
from copy import copy
from typing import Any

from django.conf import settings
from django.core.mail import mail_admins
from django.utils.module_loading import import_string

from ...logging import MailHandler


class AdminMailHandler(MailHandler):
    """Mails to ``ADMINS`` what ``MailHandler`` notes, by Django's mail as it is configured.

    Each kind of error has Django's report of its request, in which settings and
    variables that hold secrets are hidden as ``DEFAULT_EXCEPTION_REPORTER_FILTER``
    says. ``reporter_class`` is the dotted path of another reporter. Other keywords
    are those of ``MailHandler``, but for what says where mail goes. Where ``ADMINS``
    is empty, nothing is noted.
    """

    def __init__(
        self,
        *,
        reporter_class: str | None = None,
        level: int | str = logging.ERROR,
        delay: float = 1.0,
        interval: float = 60.0,
        repeat: float = 3600.0,
        flush_timeout: float = 5.0,
    ) -> None:
        logging.Handler.__init__(self, level)
        self.subject = ""
        self._reporter: Any = import_string(reporter_class or settings.DEFAULT_EXCEPTION_REPORTER)
        # How long it may take to send is said by the backend's own options.
        self._limit(delay=delay, interval=interval, repeat=repeat, timeout=0, flush_timeout=flush_timeout)

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record, where somebody is to read of it."""
        if settings.ADMINS:
            super().emit(record)

    def describe(self, record: logging.LogRecord) -> str:
        """The record, and Django's report of the request that it belongs to."""
        plain = copy(record)  # the report has the traceback
        plain.exc_info = plain.exc_text = None
        error = record.exc_info or (None, record.getMessage(), None)
        report = self._reporter(getattr(record, "request", None), *error, is_email=True)
        return f"{self.format(plain)}\n\n{report.get_traceback_text()}"

    def deliver(self, subject: str, text: str) -> None:
        """Send it to the admins."""
        mail_admins(subject, text)

"""The app under a label of its own."""

from __future__ import annotations

from django.apps import AppConfig


class MailConfig(AppConfig):  # type: ignore[misc]
    """For ``INSTALLED_APPS`` where another app has the label ``django`` already."""

    name = "pysmtpx.contrib.django"
    label = "pysmtpx"
    verbose_name = "Mail by pysmtpx"

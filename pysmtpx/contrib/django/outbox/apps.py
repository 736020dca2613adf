"""The app, under a label of its own."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):  # type: ignore[misc]
    """For ``INSTALLED_APPS``: ``"pysmtpx.contrib.django.outbox"``."""

    name = "pysmtpx.contrib.django.outbox"
    label = "pysmtpx_outbox"
    verbose_name = "Outgoing mail"
    default_auto_field = "django.db.models.BigAutoField"

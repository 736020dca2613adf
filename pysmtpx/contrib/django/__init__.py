"""Django's mail over a pool: name a backend of this module in ``EMAIL_BACKEND`` or ``MAILERS``.

With ``"pysmtpx.contrib.django"`` in ``INSTALLED_APPS``, ``manage.py check`` looks
at the settings too. Signals: ``message_sent``, ``recipient_refused``,
``message_failed``.
"""

from __future__ import annotations

from . import checks as checks  # Django knows them from now on
from .backend import EmailBackend, routes, servers
from .celery_backend import CeleryEmailBackend
from .config import MailConfig
from .signals import message_failed, message_sent, recipient_refused

__all__ = [
    "CeleryEmailBackend",
    "EmailBackend",
    "MailConfig",
    "message_failed",
    "message_sent",
    "recipient_refused",
    "routes",
    "servers",
]

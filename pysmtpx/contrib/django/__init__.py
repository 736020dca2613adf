"""Django's mail over a pool: name a backend of this module in ``EMAIL_BACKEND`` or ``MAILERS``.

With ``"pysmtpx.contrib.django"`` in ``INSTALLED_APPS``, ``manage.py check`` looks
at the settings too. Signals: ``message_sent``, ``recipient_refused``,
``message_failed``.
"""

from __future__ import annotations

from ...extras import needs

needs("django", "django")

from . import checks as checks  # noqa: E402  # Django knows them from now on
from .backend import EmailBackend, routes, servers  # noqa: E402
from .celery_backend import CeleryEmailBackend  # noqa: E402
from .config import MailConfig  # noqa: E402
from .outbox_backend import OutboxEmailBackend  # noqa: E402
from .signals import message_failed, message_sent, recipient_refused  # noqa: E402
from .task_backend import TaskEmailBackend  # noqa: E402

__all__ = [
    "CeleryEmailBackend",
    "EmailBackend",
    "MailConfig",
    "OutboxEmailBackend",
    "TaskEmailBackend",
    "message_failed",
    "message_sent",
    "recipient_refused",
    "routes",
    "servers",
]

"""Mail for Flask applications: the interface of Flask-Mail over a pool of this process.

::

    from pysmtpx.contrib.flask import Mail, Message

    mail = Mail(app)
    mail.send(Message("Hello", recipients=["ann@example.org"], body="Hi."))
"""

from __future__ import annotations

from ...extras import needs

needs("flask", "flask")

from .addresses import (  # noqa: E402
    FlaskMailUnicodeDecodeError,
    force_text,
    sanitize_address,
    sanitize_addresses,
    sanitize_subject,
)
from .mail import BadHeaderError, Connection, Mail, email_dispatched, signals  # noqa: E402
from .message import Attachment, Message  # noqa: E402

__all__ = [
    "Attachment",
    "BadHeaderError",
    "Connection",
    "FlaskMailUnicodeDecodeError",
    "Mail",
    "Message",
    "email_dispatched",
    "force_text",
    "sanitize_address",
    "sanitize_addresses",
    "sanitize_subject",
    "signals",
]

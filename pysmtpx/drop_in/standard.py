"""The standard library's own classes, as they were before any ``install``."""

from __future__ import annotations

from smtplib import LMTP, SMTP, SMTP_SSL

__all__ = ["LMTP", "SMTP", "SMTP_SSL"]

"""The module that RQ's workers import: what a project has in a module of its own.

``rq worker --with-scheduler --url URL mail`` serves it, in this folder. The mail
server comes from the environment: ``SMTP_URL``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from pysmtpx import RetryPolicy
from pysmtpx.contrib.rq import register

log = logging.getLogger("mailer")


def smtp_server() -> str:
    """Where mail goes, password and all; only asked for in the worker."""
    return os.environ["SMTP_URL"]


def record(report: Mapping[str, Any]) -> None:
    """Keep what became of a message; a real project writes it to its database."""
    log.warning("%s %s", report["message_id"], report["status"])


send_mail = register(
    "mailer.send_mail",
    smtp_server,
    # Impatient, so that the example does not take minutes; leave it out for the default.
    retry=RetryPolicy(attempts=4, backoff=0.5, temporary=True),
    on_outcome=record,
)

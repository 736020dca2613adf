"""The module that Dramatiq's workers import: what a project has in a module of its own.

``dramatiq mailer`` serves it, in this folder. Redis and mail server come from the
environment: ``MAILER_REDIS``, ``SMTP_URL``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from pysmtpx import RetryPolicy
from pysmtpx.contrib.dramatiq import register

log = logging.getLogger("mailer")


def smtp_server() -> str:
    """Where mail goes, password and all; only asked for in the worker."""
    return os.environ["SMTP_URL"]


def record(report: Mapping[str, Any]) -> None:
    """Keep what became of a message; a real project writes it to its database."""
    taken = ", ".join(each["recipient"] for each in report["accepted"])
    refused = ", ".join(f"{each['recipient']} ({each['code']} {each['text']})" for each in report["rejected"])
    print(f"{report['status']} at try {report['attempts']}: {taken or refused}", flush=True)


broker = RedisBroker(url=os.environ.get("MAILER_REDIS", "redis://localhost/0"))
dramatiq.set_broker(broker)
send_mail = register(
    broker,
    smtp_server,
    # Impatient, so that the example does not take minutes; leave it out for the default.
    retry=RetryPolicy(attempts=4, backoff=0.2, temporary=True),
    on_outcome=record,
    journal=os.environ.get("MAILER_JOURNAL"),
)

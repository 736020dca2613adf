"""The Celery app: what a project has in a module of its own.

``celery -A mailer worker`` serves it. Broker and mail server come from the
environment: ``MAILER_BROKER`` (a Redis, RabbitMQ …; or the path of a folder, which
needs no server), ``SMTP_URL``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery

from pysmtpx import RetryPolicy
from pysmtpx.contrib.celery import register

log = logging.getLogger("mailer")


def smtp_server() -> str:
    """Where mail goes, password and all; only asked for in the worker."""
    return os.environ["SMTP_URL"]


def record(report: Mapping[str, Any]) -> None:
    """Keep what became of a message; a real project writes it to its database."""
    log.warning("%s %s", report["message_id"], report["status"])


def configured(broker: str) -> dict[str, Any]:
    """The settings that depend on the broker."""
    if "://" in broker:
        # Redis gives a message to another worker that nobody acknowledged for so many seconds.
        return {"broker_url": broker, "result_backend": broker if broker.startswith("redis") else "rpc://"}
    folders = {name: Path(broker, name) for name in ("messages", "control", "results")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(folders["messages"]),
            "data_folder_out": str(folders["messages"]),
            "control_folder": str(folders["control"]),
            "polling_interval": 0.1,
        },
        "result_backend": f"file://{folders['results']}",
    }


app = Celery("mailer")
app.conf.update(configured(os.environ.get("MAILER_BROKER", "redis://localhost/0")))

send_mail = register(
    app,
    smtp_server,
    # Impatient, so that the example does not take minutes; leave it out for the default.
    retry=RetryPolicy(attempts=4, backoff=0.2, temporary=True),
    on_outcome=record,
)

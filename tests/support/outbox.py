"""An outbox in a database of a test's own: SQLite in a file, or a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections

from .postgres import Postgres

__all__ = ["Postgres", "add_database", "forget_database", "sqlite", "worker"]


def add_database(alias: str, settings: Mapping[str, Any]) -> None:
    """Let Django know another database, with the tables of all apps in it."""
    connections.settings[alias] = connections.configure_settings({"default": dict(settings)})["default"]
    call_command("migrate", database=alias, verbosity=0)


def forget_database(alias: str) -> None:
    connections[alias].close()
    del connections[alias]
    del connections.settings[alias]


def sqlite(folder: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(folder / "outbox.sqlite3"),
        "OPTIONS": {"timeout": 60},
    }


_WORKER = """
import sys, warnings
import django
from django.conf import settings
warnings.simplefilter("ignore")
settings.configure(
    INSTALLED_APPS=["pysmtpx.contrib.django", "pysmtpx.contrib.django.outbox"],
    SECRET_KEY="not secret", USE_TZ=True, DATABASES={{"default": {database!r}}},
    EMAIL_BACKEND="pysmtpx.contrib.django.OutboxEmailBackend",
    EMAIL_HOST={host!r}, EMAIL_PORT={port!r}, PYSMTPX={options!r},
)
django.setup()
from pysmtpx.pooling import journaling
journaling._POLL = 0.05
from django.core.management import call_command
print("ready", flush=True)
call_command("send_outbox", *sys.argv[1:])
"""


def worker(
    server: Any, database: Mapping[str, Any], *arguments: str, **options: Any
) -> subprocess.Popen[str]:
    """``manage.py send_outbox`` as a process, with these options of the backend that sends."""
    program = textwrap.dedent(_WORKER).format(
        database=dict(database), host=server.host, port=server.port, options=options
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

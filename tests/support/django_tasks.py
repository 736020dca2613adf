"""A project whose tasks are kept in its database, and a worker that runs them, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

_WORKER = """
import ast, os, sys, warnings
import django
from django.conf import settings
warnings.simplefilter("ignore")
options = ast.literal_eval(os.environ["PYSMTPX_TEST_SETTINGS"])
settings.configure(
    INSTALLED_APPS=["pysmtpx.contrib.django", "django_tasks_db"],
    SECRET_KEY="not secret", USE_TZ=True, DEFAULT_FROM_EMAIL="robot@x.example",
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["mail"]}},
    EMAIL_BACKEND="pysmtpx.contrib.django.TaskEmailBackend",
    **options,
)
django.setup()
from django.core.management import call_command
exec(sys.argv[1])
"""


def run_in(options: Mapping[str, Any], program: str) -> subprocess.Popen[str]:
    """Start a process that runs this program in the project; PYTHONPATH is that of the tests."""
    environment = {**os.environ, "PYSMTPX_TEST_SETTINGS": repr(dict(options))}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )

"""An outbox in a database of a test's own: SQLite in a file, or a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections

from .daemon import START_LIMIT, Daemon, free_ports, require_files, wait_until

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
BINARIES = _BINARIES[-1] if _BINARIES else Path("/usr/lib/postgresql/15/bin")


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


class Postgres:
    """A server in a folder of its own, at a UNIX socket there and a port of the loopback."""

    def __init__(self) -> None:
        require_files(str(BINARIES / "initdb"), str(BINARIES / "postgres"))
        # It refuses to run as root.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        folder = Path(tempfile.mkdtemp(prefix="pysmtpx-postgres-"))
        os.chown(folder, self._user.pw_uid, -1)
        (self.port,) = free_ports(1)
        data, password = folder / "data", folder / "password"
        password.write_text("secret\n")
        os.chown(password, self._user.pw_uid, -1)
        init = ["-D", str(data), "-U", "outbox", "-A", "scram-sha-256", "--pwfile", str(password)]
        made = subprocess.run(
            [*self._as_user(), str(BINARIES / "initdb"), "-E", "UTF8", "--locale=C", "-N", *init],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
        if made.returncode:
            shutil.rmtree(folder)
            raise AssertionError(made.stdout + made.stderr)
        command = [*self._as_user(), str(BINARIES / "postgres"), "-D", str(data), "-k", str(folder)]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-c", "max_connections=100"]
        self._daemon = Daemon(command, folder, folder / "log")
        try:
            wait_until(self._answers, START_LIMIT, "postgres answers")
        except BaseException:
            print(self._daemon.log_text())
            self.stop()
            raise

    def _as_user(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        return ["/usr/bin/setpriv", f"--reuid={self._user.pw_uid}", "--clear-groups", "--pdeathsig", "QUIT"]

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._place("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _place(self, name: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=outbox password=secret dbname={name}"

    def database(self, name: str) -> dict[str, Any]:
        """The settings for a new database."""
        import psycopg

        with psycopg.connect(self._place("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "USER": "outbox",
            "PASSWORD": "secret",
            "NAME": name,
        }

    def stop(self) -> None:
        self._daemon.stop()


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

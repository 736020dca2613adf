"""A real PostgreSQL for a test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .daemon import START_LIMIT, Daemon, free_ports, require_files, wait_until

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
BINARIES = _BINARIES[-1] if _BINARIES else Path("/usr/lib/postgresql/15/bin")


class Postgres:
    """A server in a folder of its own, at a UNIX socket there and a port of the loopback."""

    def __init__(self, *settings: str) -> None:
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
        command += [part for each in settings for part in ("-c", each)]
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

    def create(self, name: str) -> str:
        """The URL of a new database."""
        import psycopg

        with psycopg.connect(self._place("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql://outbox:secret@127.0.0.1:{self.port}/{name}"

    def database(self, name: str) -> dict[str, Any]:
        """The settings of Django for a new database."""
        self.create(name)
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

"""What every real server has in common: a folder and ports of its own, mailboxes, a log, and an end."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from support.daemon import Daemon, free_ports, require, wait_until
from support.mailbox import DELIVERY_LIMIT, Maildir


class RealServer:
    """A server program of our own on loopback; ``port`` is the first of ``ports``.

    A subclass names the programs that it needs, writes its configuration into ``base``, and says by which
    command it runs in the foreground. Mail lies in Maildirs under ``base``/mail.
    """

    host = "127.0.0.1"
    programs: ClassVar[tuple[str, ...]] = ()
    """Paths of what must be there; relative ones are below the repository."""
    count: ClassVar[int] = 1
    """Of ports."""
    log_name: ClassVar[str] = "log"
    undelivered: ClassVar[tuple[str, ...]] = ()
    """Patterns below ``base`` of the files of messages that were accepted and are about to be delivered."""

    def __init__(self) -> None:
        require(*self.programs)
        self._log_start = 0
        name = type(self).__name__.removesuffix("Server").lower()
        self.base = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.base.chmod(0o755)
        self.log = self.base / self.log_name
        self.ports = free_ports(self.count)
        self.port = self.ports[0]
        try:
            (self.base / "mail").mkdir()
            shutil.chown(self.base / "mail", "nobody", "nogroup")
            self.write_files()
            self._daemon = Daemon(self.command(), self.base, self.log)
        except BaseException:
            shutil.rmtree(self.base)
            raise
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise

    def write_files(self) -> None:
        """Write the configuration."""

    def command(self) -> list[str]:
        """Return what runs the server in the foreground."""
        raise NotImplementedError

    def wait_until_up(self) -> None:
        """Return once every port answers."""
        self._daemon.wait_for_port(*self.ports)

    def mailbox(self, user: str) -> Maildir:
        """Return the user's mailbox, by full address."""
        return Maildir(self.base / "mail" / user)

    def empty(self) -> None:
        """Remove every message of every user; the log begins anew.

        What an earlier test sent and did not wait for is let in first: it would be counted as the next one's.
        """
        wait_until(self._has_delivered, DELIVERY_LIMIT, "the delivery of what was sent before")
        self._log_start = len(self._daemon.log_text())
        for folder in (self.base / "mail").iterdir():
            Maildir(folder).clear()

    def _has_delivered(self) -> bool:
        return not any(next(self.base.glob(pattern), None) for pattern in self.undelivered)

    def log_text(self) -> str:
        """Return the server's log since the mailboxes were emptied."""
        return self._daemon.log_text()[self._log_start :]

    def stop(self) -> None:
        """End the server and every process of it, and remove its files."""
        self._daemon.stop()


def on(*kinds: type[RealServer]) -> pytest.MarkDecorator:
    """Mark a test that takes the fixture ``server``: it runs once on each of these."""
    return pytest.mark.parametrize("_server", kinds, indirect=True, ids=[kind.__name__ for kind in kinds])

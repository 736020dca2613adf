"""A file that keeps what it was told through the end of a process, of power, and of a full disk.

The place of one write for many threads: those that wait for the disk at the same time share one transaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from .store import JournalError

_T = TypeVar("_T")
_WAIT: Final = 5.0
"""Seconds for the lock of another process."""


@dataclass(slots=True)
class _Ticket(Generic[_T]):
    """What one thread wants on disk."""

    action: Callable[[sqlite3.Connection], _T]
    is_done: bool = False
    result: list[_T] = field(default_factory=list)
    error: Exception | None = None


class Disk:
    """One SQLite file; safe in any thread. ``alone``: no other process may have it meanwhile.

    Raises ``JournalError``, as do its methods.
    """

    def __init__(self, path: str | os.PathLike[str], schema: str, *, alone: bool) -> None:
        self.path: str = os.fspath(path)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        """Whoever holds it has the connection."""
        self._gate = threading.Lock()
        """Guards the list of those who wait for the disk."""
        self._waiting: list[_Ticket[Any]] = []
        try:
            self._store = sqlite3.connect(
                self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._failed("opened", error) from error
        try:
            if alone:
                # The lock of the file is held until the process ends, however it ends.
                self._store.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._store.execute("PRAGMA journal_mode = WAL")
            # On disk, not only with the system: what was in doubt must be known after a loss of power, too.
            self._store.execute("PRAGMA synchronous = FULL")
            self._store.execute("PRAGMA foreign_keys = ON")
            self._store.executescript(schema)
        except sqlite3.Error as error:
            self._store.close()
            raise self._failed("opened", error) from error

    def _failed(self, what: str, error: Exception) -> JournalError:
        text = str(error)
        if "locked" in text:
            text = "another process has it"
        return JournalError(f"the journal {self.path} cannot be {what}: {text}")

    def write(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do this within a transaction, which others may share; when it returns, that is on disk.

        What the action itself raises undoes the changes of all who share it, and each is told.
        """
        ticket = _Ticket(action)
        with self._gate:
            self._waiting.append(ticket)
        with self._lock:
            if not ticket.is_done:
                self._write_all()
        if isinstance(ticket.error, sqlite3.Error):
            raise self._failed("written", ticket.error) from ticket.error
        if ticket.error is not None:
            raise ticket.error
        return ticket.result[0]

    def _write_all(self) -> None:
        """One transaction for all who wait; if that fails, one for each: nobody pays for another."""
        with self._gate:
            batch, self._waiting = self._waiting, []
        try:
            if not self._is_written(batch) and len(batch) > 1:
                for ticket in batch:
                    ticket.error = None
                    self._is_written([ticket])
            for ticket in batch:
                ticket.is_done = True
        except BaseException:  # an interrupt is this thread's alone
            if self._store.in_transaction:
                self._store.execute("ROLLBACK")
            with self._gate:
                self._waiting = [*(ticket for ticket in batch if not ticket.is_done), *self._waiting]
            raise

    def _is_written(self, batch: list[_Ticket[Any]]) -> bool:
        try:
            self._store.execute("BEGIN IMMEDIATE")
            for ticket in batch:
                ticket.result = [ticket.action(self._store)]
            self._store.execute("COMMIT")
        except Exception as error:
            for ticket in batch:
                ticket.error = error
            if self._store.in_transaction:
                self._store.execute("ROLLBACK")
            return False
        return True

    def read(self, query: str, *values: Any) -> list[Any]:
        """The rows; the lock is kept until they are read: cursors of one query share a prepared statement."""
        with self._lock:
            try:
                return self._store.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed("read", error) from error

    @property
    def is_foreign(self) -> bool:
        """True in a process that was forked from the one that opened it, where nothing of it may be used."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Give the file back; does nothing twice."""
        with self._lock:
            self._store.close()

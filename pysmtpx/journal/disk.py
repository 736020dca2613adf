"""A file that keeps what it was told through the end of a process, of power, and of a full disk.

The place of one write for many threads: those that wait for the disk at the same time share one transaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
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
    durable: bool
    is_done: bool = False
    result: list[_T] = field(default_factory=list)
    error: Exception | None = None


class Disk:
    """One SQLite file; safe in any thread, and in a child of ``os.fork``, which opens it for itself.

    ``alone``: no other process may have it meanwhile. ``kind``, unless it is 0, is the ``application_id`` by
    which its files are told from those of other programs. Raises ``JournalError``, as do its methods.
    """

    def __init__(self, path: str | os.PathLike[str], schema: str, *, alone: bool, kind: int = 0) -> None:
        self.path: str = os.fspath(path)
        self._schema = schema
        self._alone = alone
        self._kind = kind
        self._is_closed = False
        self.abandon()
        self._opened()
        _disks.add(self)

    def abandon(self) -> None:
        """Begin anew, as after a fork: by other locks, and by a connection of this process."""
        self._lock = threading.Lock()
        """Whoever holds it has the connection."""
        self._gate = threading.Lock()
        """Guards the list of those who wait for the disk."""
        self._waiting: list[_Ticket[Any]] = []
        self._store: sqlite3.Connection | None = None
        self._is_durable = True
        self._committing: Sequence[_Ticket[Any]] = ()
        """Those whose transaction is about to end, or has, and is not noted yet."""

    def _opened(self) -> sqlite3.Connection:
        if self._is_closed:
            raise JournalError(f"the journal {self.path} is closed")
        if self._store is None:
            try:
                self._store = self._connected()
            except (sqlite3.Error, OSError) as error:
                raise self._failed("opened", error) from error
        return self._store

    def _connected(self) -> sqlite3.Connection:
        if self._kind:  # it holds mail: for its owner alone, and so are the files that SQLite puts beside it
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        store = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        try:
            if self._alone:
                # The lock of the file is held until the process ends, however it ends.
                store.execute("PRAGMA locking_mode = EXCLUSIVE")
            if self._kind:
                self._check_kind(store)
            store.execute("PRAGMA journal_mode = WAL")
            # On disk, not only with the system: what was in doubt must be known after a loss of power, too.
            store.execute("PRAGMA synchronous = FULL")
            store.execute("PRAGMA foreign_keys = ON")
            store.executescript(self._schema)
        except BaseException:
            store.close()
            raise
        return store

    def _check_kind(self, store: sqlite3.Connection) -> None:
        """Claim a file that is empty. Raises ``JournalError`` for one of another program."""
        ((found,),) = store.execute("PRAGMA application_id")
        if found == self._kind:
            return
        ((tables,),) = store.execute("SELECT count(*) FROM sqlite_master")
        if found or tables:
            raise JournalError(f"{self.path} is the file of another program: give another one")
        store.execute(f"PRAGMA application_id = {self._kind}")

    def _failed(self, what: str, error: Exception) -> JournalError:
        text = str(error)
        if "locked" in text:
            text = "another process has it"
        return JournalError(f"the journal {self.path} cannot be {what}: {text}")

    def write(self, action: Callable[[sqlite3.Connection], _T], *, durable: bool = True) -> _T:
        """Do this within a transaction, which others may share; when it returns, that is on disk.

        What the action itself raises undoes the changes of all who share it, and each is told. Not
        ``durable``: it is with the system, and on disk with the next one that is.
        """
        ticket = _Ticket(action, durable)
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
            self._write_together(batch)
            for ticket in batch:
                if not ticket.is_done:
                    self._write_together([ticket])
        except BaseException:  # an interrupt is this thread's alone
            if self._store is not None and self._store.in_transaction:
                self._store.execute("ROLLBACK")
            else:
                self._committed()  # it came behind the end of the transaction: nothing of that is done again
            self._committing = ()
            with self._gate:
                self._waiting = [*(ticket for ticket in batch if not ticket.is_done), *self._waiting]
            raise

    def _write_together(self, tickets: Sequence[_Ticket[Any]]) -> None:
        """Do these in one transaction. What fails is done, with its error, if it is one alone."""
        try:
            store = self._opened()
            self._sync(store, any(ticket.durable for ticket in tickets))
            store.execute("BEGIN IMMEDIATE")
            for ticket in tickets:
                ticket.result = [ticket.action(store)]
            self._committing = tickets
            store.execute("COMMIT")
            self._committed()
        except Exception as error:
            if self._store is not None and self._store.in_transaction:
                self._store.execute("ROLLBACK")
            self._committing = ()
            if len(tickets) == 1:
                tickets[0].error, tickets[0].is_done = error, True

    def _committed(self) -> None:
        for ticket in self._committing:
            ticket.is_done = True
        self._committing = ()

    def _sync(self, store: sqlite3.Connection, durable: bool) -> None:
        if durable is not self._is_durable:
            store.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable

    def read(self, query: str, *values: Any) -> list[Any]:
        """The rows; the lock is kept until they are read: cursors of one query share a prepared statement."""
        with self._lock:
            try:
                return self._opened().execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed("read", error) from error

    @property
    def is_closed(self) -> bool:
        """True once ``close`` was called."""
        return self._is_closed

    def close(self) -> None:
        """Give the file back; does nothing twice."""
        with self._lock:
            self._is_closed = True
            if self._store is not None:
                self._store.close()
                self._store = None


_disks: Final[weakref.WeakSet[Disk]] = weakref.WeakSet()
_inherited: Final[list[sqlite3.Connection | None]] = []
"""Connections of a parent. A child must not even close one: SQLite would write to files it has no lock of."""


def _begin_anew() -> None:
    for disk in tuple(_disks):
        _inherited.append(disk._store)
        disk.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)

"""A file that keeps what it was told through the end of a process, of power, and of a full disk."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any, Final

from .store import JournalError
from .transactions import NotKept, Transactions

_WAIT: Final = 5.0
"""Seconds for the lock of another process."""
_CHECKPOINT: Final = 1000
"""Pages of the log (4 MB) by which it is carried over into the file.

All who write wait for that: so seldom, but so short that it is over within a round trip to the server.
"""
_SYNCS: Final = 2
"""How many may wait for the disk at the same time, each for what came behind the one before."""
_sync: Final = getattr(os, "fdatasync", os.fsync)


class Disk(Transactions[sqlite3.Connection]):
    """One SQLite file; safe in any thread, and in a child of ``os.fork``, which opens it for itself.

    ``alone``: no other process may have it meanwhile. ``kind``, unless it is 0, is the ``application_id`` by
    which its files are told from those of other programs. Raises ``JournalError``, as do its methods.

    It is on disk by the same rule as with SQLite's ``synchronous=FULL``: a write that is ``durable`` returns
    when the write-ahead log was brought to disk behind its end. That is done here and not by SQLite, which
    would hold the lock of the file meanwhile: so whoever need not wait for the disk does not, and one call of
    ``fdatasync`` is for all whose transactions had ended before it.
    """

    errors = (sqlite3.Error, OSError)

    def __init__(self, path: str | os.PathLike[str], schema: str, *, alone: bool, kind: int = 0) -> None:
        self.path: str = os.fspath(path)
        self._schema = schema
        self._alone = alone
        self._kind = kind
        self._log: int | None = None
        """The write-ahead log; None where SQLite itself brings each transaction to disk."""
        super().__init__(self.path)

    def abandon(self) -> None:
        """Begin anew, as after a fork: by other locks, and by a connection of this process."""
        super().abandon()
        if self._log is not None:
            os.close(self._log)
        self._syncing = threading.Semaphore(_SYNCS)
        self._synced = 0
        """The number of the last transaction that is known to be on disk."""
        self._log = None
        self._broken: OSError | None = None
        """Why what was written is perhaps not on disk, and will not be."""

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
            ((mode,),) = store.execute("PRAGMA journal_mode = WAL")
            # On disk, not only with the system: what was in doubt must be known after a loss of power, too.
            store.execute("PRAGMA synchronous = FULL")
            store.execute("PRAGMA foreign_keys = ON")
            store.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
            store.executescript(self._schema)
            if mode == "wal":
                sync_folder(os.path.dirname(self.path) or ".")
                # Its end is brought to disk by ``_keep``; before a checkpoint SQLite does it still.
                store.execute("PRAGMA synchronous = NORMAL")
                self._log = os.open(f"{self.path}-wal", os.O_RDONLY)
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

    def _begin(self, store: sqlite3.Connection, *, durable: bool) -> None:
        if durable and self._broken is not None:
            raise OSError(*self._broken.args)
        store.execute("BEGIN IMMEDIATE")

    def _commit(self, store: sqlite3.Connection) -> None:
        store.execute("COMMIT")

    def _undo(self, store: sqlite3.Connection) -> bool:
        was_under_way = store.in_transaction
        if was_under_way:
            store.execute("ROLLBACK")
        return was_under_way

    def _keep(self, turn: int) -> None:
        """Bring the log to disk, unless that was done behind this transaction's end.

        If that fails nobody can say what is on disk, also later: Linux tells such an error once. So this
        process promises nothing more.
        """
        with self._syncing:
            if self._log is None or self._synced >= turn:
                return
            ended = self._turn
            try:
                _sync(self._log)
            except OSError as error:
                self._broken = error
            if self._broken is not None:
                raise NotKept(f"the journal {self.name} cannot be written: {self._advice(self._broken)}")
            self._synced = max(self._synced, ended)

    def _fetched(self, store: sqlite3.Connection, query: str, values: Sequence[Any]) -> list[Any]:
        return store.execute(query, values).fetchall()

    def _shut(self, store: sqlite3.Connection) -> None:
        log, self._log = self._log, None
        try:
            store.close()
        finally:
            if log is not None:
                for _ in range(_SYNCS):  # behind those who wait for it
                    self._syncing.acquire()
                os.close(log)

    def _advice(self, error: Exception) -> str:
        return f"{error}: {cure(error)}"


_RIGHTS: Final = "whoever runs this must be allowed to write to it and to its folder"
_ROOM: Final = "make room; what it has stays, and what was not told to be there is not"
_TAKEN: Final = "another process has it: wait for that one to end, or to finish its transaction"
_REPAIR: Final = "stop all who use it, keep the file, and make another of it by sqlite3's command .recover"
_CURES: Final = {
    sqlite3.SQLITE_BUSY: _TAKEN,
    sqlite3.SQLITE_LOCKED: _TAKEN,
    sqlite3.SQLITE_READONLY: _RIGHTS,
    sqlite3.SQLITE_PERM: _RIGHTS,
    sqlite3.SQLITE_CANTOPEN: f"the folder must be there, and {_RIGHTS}",
    sqlite3.SQLITE_FULL: _ROOM,
    sqlite3.SQLITE_IOERR: f"{_ROOM}; if there is room, see what the log of the system says of the disk",
    sqlite3.SQLITE_CORRUPT: _REPAIR,
    sqlite3.SQLITE_NOTADB: f"give another file; if it was a journal, {_REPAIR}",
}
"""By the first octet of SQLite's code."""
_OF_SYSTEM: Final = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _ROOM)


def cure(error: Exception) -> str:
    """What to do about an error of SQLite or of the system."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _CURES.get(code & 0xFF, "see what the log of the system says of the disk")
    return _OF_SYSTEM.get(getattr(error, "errno", None) or 0, _CURES[sqlite3.SQLITE_CANTOPEN])


def sync_folder(path: str) -> None:
    """Bring to disk which files a folder has."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""A journal in one file of SQLite: for the messages of any number of threads and processes of a machine."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

from .disk import Disk, cure, sync_folder
from .sql import FORMAT, KEEP, MOST_FORGOTTEN, SqlJournal, Summary, digest
from .statements import INDEXES, PURGEABLE, Content, Session
from .store import JournalError, State

__all__ = ["Journal", "Summary"]

_T = TypeVar("_T")
_KIND: Final = 0x736D7470
"""The ``application_id`` of its file."""
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS journal (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, sender TEXT NOT NULL, size INTEGER NOT NULL,
    queued REAL NOT NULL, due REAL NOT NULL, expires REAL NOT NULL, tries INTEGER NOT NULL,
    owed INTEGER NOT NULL, owner TEXT NOT NULL, until REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS contents (
    message INTEGER PRIMARY KEY REFERENCES messages ON DELETE CASCADE, payload BLOB, file TEXT,
    digest BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS fates (
    message INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE, place INTEGER NOT NULL,
    address TEXT NOT NULL, state TEXT NOT NULL, doubter TEXT NOT NULL, reply TEXT NOT NULL,
    stage TEXT NOT NULL, changed REAL NOT NULL, PRIMARY KEY (message, place)
) WITHOUT ROWID;
{INDEXES}
"""
_INLINE: Final = 256 * 1024
"""Octets of a payload that are kept in the database; larger ones are in files beside it."""
_SWEPT: Final = 86400.0
"""Seconds after which a file that no message has will not get one any more."""


class Journal(SqlJournal):
    """One file for the messages of any number of threads and processes of a machine; a context manager.

    It is a ``Store`` for ``SmtpPool``, and what ``SmtpPool(journal="outbox.db")`` makes. Messages of which
    nobody is queued or in doubt are forgotten ``keep`` seconds after they were queued; None is never. It may
    be said for each fate: ``keep={"accepted": 86400.0, "refused": None}``.

    Raises ``JournalError`` where the file cannot be read or written, as do its methods.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, keep: float | Mapping[State, float | None] | None = KEEP
    ) -> None:
        super().__init__(keep)
        self._disk = Disk(path, _SCHEMA, alone=False, kind=_KIND)
        self._disk.begin(partial(_check_format, path=self._disk.path), durable=False)

    @property
    def path(self) -> str:
        """The file."""
        return self._disk.path

    @property
    def _transactions(self) -> Disk:
        return self._disk

    def _write(self, action: Callable[[Session], _T], *, durable: bool = True) -> _T:
        return self._disk.write(lambda store: action(_Session(store)), durable=durable)

    def _read(self, query: str, *values: Any) -> list[Any]:
        return self._disk.read(query, *values)

    # -- payloads -----------------------------------------------------------------------------

    def _content(self, octets: bytes) -> Content:
        if len(octets) <= _INLINE:
            return super()._content(octets)
        return Content(None, self._put_beside(octets), digest(octets))

    def _octets(self, content: Content) -> bytes | None:
        if content.file is None:
            return content.payload
        with open(self._beside(content.file), "rb") as source:
            return source.read()

    def _beside(self, name: str) -> str:
        return os.path.join(f"{self.path}.content", os.path.basename(name))

    def _put_beside(self, octets: bytes) -> str:
        """Write a file of its own, which is on disk before the row that names it."""
        name = uuid4().hex
        try:
            os.makedirs(f"{self.path}.content", mode=0o700, exist_ok=True)
            with open(os.open(self._beside(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(f"{self.path}.content")
        except OSError as error:
            self._remove(Content(None, name, b""))
            text = f"the journal {self.path} cannot be written: {error}: {cure(error)}"
            raise JournalError(text) from error
        return name

    def purge(
        self, before: float, most: int = MOST_FORGOTTEN, *, fates: Collection[State] = PURGEABLE
    ) -> int:
        """Forget messages queued before this moment that are over; how many: see ``SqlJournal.purge``.

        Files beside it that no message has, as one leaves that was killed between the two, go as well.
        """
        count = super().purge(before, most, fates=fates)
        self._sweep(min(before, time.time() - _SWEPT))
        return count

    def _sweep(self, before: float) -> None:
        """Remove the files that were written before this moment and that no message has."""
        try:
            with os.scandir(f"{self.path}.content") as folder:
                names = [each.name for each in folder if each.stat().st_mtime < before]
        except OSError:
            return
        for first in range(0, len(names), MOST_FORGOTTEN):
            some = names[first : first + MOST_FORGOTTEN]
            query = f"SELECT file FROM contents WHERE file IN ({', '.join('?' * len(some))})"
            for name in {*some}.difference(name for (name,) in self._read(query, *some)):
                self._remove(Content(None, name, b""))

    def _remove(self, content: Content) -> None:
        if content.file is None:
            return
        try:
            os.remove(self._beside(content.file))
        except OSError:
            return  # it is found, and forgotten, by the next one who looks

    def __repr__(self) -> str:
        return f"<Journal {self.path}>"


class _Session:
    """A connection of SQLite in a transaction: nobody else writes meanwhile."""

    __slots__ = ("_store",)
    lock = skip = ""

    def __init__(self, store: sqlite3.Connection) -> None:
        self._store = store

    def all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._store.execute(query, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._store.execute(statement, values).rowcount

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._store.executemany(statement, rows)

    def insert(self, statement: str, values: Sequence[Any]) -> int | None:
        cursor = self._store.execute(statement, values)
        return cursor.lastrowid if cursor.rowcount else None


def _check_format(store: sqlite3.Connection, path: str) -> None:
    store.execute("INSERT OR IGNORE INTO journal VALUES ('format', ?)", (FORMAT,))
    ((found,),) = store.execute("SELECT value FROM journal WHERE name = 'format'")
    if found != FORMAT:
        raise JournalError(f"{path} is a journal of format {found}, and this version writes {FORMAT}")

"""A durable record of what became of each recipient, so that a run that was killed goes on where it was.

A recipient is *queued*, then in *doubt*, then *accepted* or *refused*, or *queued* again. Doubt is on disk
before anything is sent: what a killed process may have sent is among those in doubt, and they are not sent
anything again unless somebody says so. Whoever is only queued certainly has nothing.

The place of one write for many threads: those that wait for the disk at the same time share one transaction.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self, TypeAlias

from .errors import InputError, SmtpError

State: TypeAlias = Literal["queued", "doubt", "accepted", "refused"]

_FORMAT: Final = "1"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recipients (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, reply TEXT NOT NULL, stage TEXT NOT NULL,
    tries INTEGER NOT NULL, turn INTEGER NOT NULL, changed REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_state ON recipients (state);
"""
_BEGIN: Final = """
INSERT INTO recipients VALUES (:key, 'doubt', '', '', 1, :turn, :now)
ON CONFLICT (key) DO UPDATE SET state = 'doubt', tries = tries + 1, turn = :turn, changed = :now
WHERE (state = 'queued' OR state = 'refused' AND stage = 'input') AND turn < :turn
"""
_SETTLE: Final = """
INSERT INTO recipients VALUES (:key, :state, :reply, :stage, 0, :turn, :now)
ON CONFLICT (key) DO UPDATE SET state = :state, reply = :reply, stage = :stage, changed = :now
WHERE state IN ('doubt', 'queued')
"""
_WAIT: Final = 2.0
"""Seconds for the lock of another process that may be at its end."""


class JournalError(SmtpError):
    """The journal cannot be read or written. What was to be recorded first was not sent."""

    @property
    def anchor(self) -> str:
        """The name of its section of docs/troubleshooting.md."""
        return "journalerror"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one recipient."""

    key: str
    state: State
    reply: str
    """The server's, or what went wrong."""
    stage: str
    tries: int

    @property
    def is_owed(self) -> bool:
        """It may be begun in a further turn."""
        return self.state == "queued" or (self.state == "refused" and self.stage == "input")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a recipient that was in doubt."""

    key: str
    state: State
    reply: str = ""
    stage: str = ""


@dataclass(slots=True)
class _Ticket:
    """What one thread wants on disk."""

    fates: tuple[Fate, ...]
    begin: str | None
    turn: int
    has_begun: bool = False
    is_done: bool = field(default=False)
    error: Exception | None = None


class Journal:
    """One file, for one process at a time and any number of its threads; a context manager.

    ``purpose`` says what the run is about (a digest of its message): a journal of another purpose is refused,
    since whoever has that message has not got this one. Raises ``InputError`` for that, and ``JournalError``.
    """

    def __init__(self, path: str | os.PathLike[str], purpose: str) -> None:
        self.path = os.fspath(path)
        self._lock = threading.Lock()
        """Whoever holds it has the connection."""
        self._gate = threading.Lock()
        """Guards the list of those who wait for the disk."""
        self._waiting: list[_Ticket] = []
        try:
            self._store = sqlite3.connect(
                self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._failed("opened", error) from error
        try:
            self._open(purpose)
        except BaseException as error:
            self._store.close()
            if isinstance(error, sqlite3.Error):
                raise self._failed("opened", error) from error
            raise

    def _open(self, purpose: str) -> None:
        # The lock of the file is held until the process ends, however it ends.
        self._store.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._store.execute("PRAGMA journal_mode = WAL")
        # On disk, not only with the system: what was in doubt must be known after a loss of power, too.
        self._store.execute("PRAGMA synchronous = FULL")
        self._store.executescript(_SCHEMA)
        for name, value in (("format", _FORMAT), ("purpose", purpose)):
            self._store.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
            ((found,),) = self._store.execute("SELECT value FROM meta WHERE name = ?", (name,))
            if found != value:
                raise InputError(f"{self.path} is the journal of another message: give another file")

    def _failed(self, what: str, error: Exception) -> JournalError:
        text = str(error)
        if "locked" in text:
            text = "another process has it"
        return JournalError(f"the journal {self.path} cannot be {what}: {text}")

    # -- writing ----------------------------------------------------------------------

    def begin(self, key: str, turn: int, *fates: Fate) -> bool:
        """Record ``fates``, and that this recipient is in doubt; False if it must not be sent to.

        That is so for whoever has it, was refused for good, is in doubt, or had this turn. Whom we refused
        ourselves, at the stage ``input``, may be begun again: the list may be mended by now. On return it is
        on disk. Raises ``JournalError``: then nothing may be sent.
        """
        ticket = _Ticket(fates, key, turn)
        self._write(ticket)
        return ticket.has_begun

    def settle(self, *fates: Fate) -> None:
        """Record what became of recipients. On return it is on disk. Raises ``JournalError``."""
        if fates:
            self._write(_Ticket(fates, None, 0))

    def _write(self, ticket: _Ticket) -> None:
        with self._gate:
            self._waiting.append(ticket)
        with self._lock:
            if not ticket.is_done:
                with self._gate:
                    batch, self._waiting = self._waiting, []
                self._write_all(batch)
        if ticket.error is not None:
            raise self._failed("written", ticket.error) from ticket.error

    def _write_all(self, batch: list[_Ticket]) -> None:
        """One transaction for all who wait."""
        try:
            self._store.execute("BEGIN IMMEDIATE")
            for ticket in batch:
                self._execute(ticket)
            self._store.execute("COMMIT")
        except Exception as error:
            for ticket in batch:
                ticket.error = error
            if self._store.in_transaction:
                self._store.execute("ROLLBACK")
        for ticket in batch:
            ticket.is_done = True

    def _execute(self, ticket: _Ticket) -> None:
        of_all = {"turn": ticket.turn, "now": time.time()}
        for fate in ticket.fates:
            self._store.execute(_SETTLE, asdict(fate) | of_all)
        if ticket.begin is not None:
            cursor = self._store.execute(_BEGIN, {"key": ticket.begin} | of_all)
            ticket.has_begun = cursor.rowcount == 1

    def queue_doubtful(self) -> int:
        """Queue all that are in doubt, as somebody asked: they may get it twice. How many there were."""
        return self._change("UPDATE recipients SET state = 'queued' WHERE state = 'doubt'")

    # -- reading -------------------------------------------------------------------------

    def get(self, key: str) -> Entry | None:
        """What is known of a recipient; None where nothing is."""
        rows = self._read("SELECT key, state, reply, stage, tries FROM recipients WHERE key = ?", key)
        return Entry(*rows[0]) if rows else None

    def counts(self) -> dict[str, int]:
        """How many recipients are in each state."""
        return dict(self._read("SELECT state, count(*) FROM recipients GROUP BY state"))

    def entries(self, state: State, most: int = 1000) -> list[Entry]:
        """The recipients in a state, in the order of their keys."""
        query = "SELECT key, state, reply, stage, tries FROM recipients WHERE state = ? ORDER BY key LIMIT ?"
        return [Entry(*row) for row in self._read(query, state, most)]

    def next_turn(self) -> int:
        """The number of a new turn: in each, a recipient is sent to once at most."""
        ((last,),) = self._read("SELECT coalesce(max(turn), 0) FROM recipients")
        return int(last) + 1

    def first_times(self, keys: Iterator[str]) -> Iterator[bool]:
        """For each key whether it is the first of its kind; they are kept on disk, not in memory."""
        self._change("CREATE TEMP TABLE IF NOT EXISTS told (key TEXT PRIMARY KEY) WITHOUT ROWID")
        self._change("DELETE FROM told")
        for key in keys:
            yield self._change("INSERT OR IGNORE INTO told VALUES (?)", key) == 1

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._executed("read", query, values) as cursor:
            return cursor.fetchall()

    def _change(self, statement: str, *values: Any) -> int:
        """How many rows were changed."""
        with self._executed("written", statement, values) as cursor:
            return cursor.rowcount

    @contextlib.contextmanager
    def _executed(self, what: str, statement: str, values: tuple[Any, ...]) -> Iterator[sqlite3.Cursor]:
        """The lock is kept until the rows are read: cursors of one query share a prepared statement."""
        with self._lock:
            try:
                yield self._store.execute(statement, values)
            except sqlite3.Error as error:
                raise self._failed(what, error) from error

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Give the file back; does nothing twice."""
        with self._lock:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

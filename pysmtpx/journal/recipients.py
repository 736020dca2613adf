"""A durable record of what became of each recipient, so that a run that was killed goes on where it was.

A recipient is *queued*, then in *doubt*, then *accepted* or *refused*, or *queued* again. Doubt is on disk
before anything is sent: what a killed process may have sent is among those in doubt, and they are not sent
anything again unless somebody says so. Whoever is only queued certainly has nothing.

The place of one write for many threads: those that wait for the disk at the same time share one transaction.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final, Literal, Self, TypeAlias

from ..errors import InputError
from .disk import Disk

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


class Journal:
    """One file, for one process at a time and any number of its threads; a context manager.

    ``purpose`` says what the run is about (a digest of its message): a journal of another purpose is refused,
    since whoever has that message has not got this one. Raises ``InputError`` for that, and ``JournalError``.
    """

    def __init__(self, path: str | os.PathLike[str], purpose: str) -> None:
        self._disk = Disk(path, _SCHEMA, alone=True)
        self._disk.begin(partial(_open, purpose=purpose, path=self.path))

    @property
    def path(self) -> str:
        """The file."""
        return self._disk.path

    # -- writing ----------------------------------------------------------------------

    def begin(self, key: str, turn: int, *fates: Fate) -> bool:
        """Record ``fates``, and that this recipient is in doubt; False if it must not be sent to.

        That is so for whoever has it, was refused for good, is in doubt, or had this turn. Whom we refused
        ourselves, at the stage ``input``, may be begun again: the list may be mended by now. On return it is
        on disk. Raises ``JournalError``: then nothing may be sent.
        """
        return self._disk.write(partial(_execute, fates=fates, begin=key, turn=turn))

    def settle(self, *fates: Fate) -> None:
        """Record what became of recipients. On return it is on disk. Raises ``JournalError``."""
        if fates:
            self._disk.write(partial(_execute, fates=fates))

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
        create = "CREATE TEMP TABLE IF NOT EXISTS told (key TEXT PRIMARY KEY) WITHOUT ROWID"
        self._change(create, durable=False)
        self._change("DELETE FROM told", durable=False)
        for key in keys:
            yield self._change("INSERT OR IGNORE INTO told VALUES (?)", key, durable=False) == 1

    def _read(self, query: str, *values: Any) -> list[Any]:
        return self._disk.read(query, *values)

    def _change(self, statement: str, *values: Any, durable: bool = True) -> int:
        """How many rows were changed."""
        return self._disk.write(lambda store: store.execute(statement, values).rowcount, durable=durable)

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Give the file back; does nothing twice."""
        self._disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(store: sqlite3.Connection, purpose: str, path: str) -> None:
    for name, value in (("format", _FORMAT), ("purpose", purpose)):
        store.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        ((found,),) = store.execute("SELECT value FROM meta WHERE name = ?", (name,))
        if found != value:
            raise InputError(f"{path} is the journal of another message: give another file")


def _execute(
    store: sqlite3.Connection, fates: tuple[Fate, ...], begin: str | None = None, turn: int = 0
) -> bool:
    """Whether it was begun."""
    of_all = {"turn": turn, "now": time.time()}
    for fate in fates:
        store.execute(_SETTLE, asdict(fate) | of_all)
    return begin is not None and store.execute(_BEGIN, {"key": begin} | of_all).rowcount == 1

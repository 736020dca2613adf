"""Messages and what became of each of their recipients, on disk: nothing lost, nothing sent twice.

The commit rule, made to last. A recipient is *queued*; *in doubt* from before the write with the last octet
of the content; then *accepted* or *refused*, or *queued* again. Whoever is found queued certainly has
nothing; whoever is found in doubt may have the message, and is not sent it again unless somebody says so.

Several processes of one machine share a journal by leases: who takes a message has it until a moment, and
puts that off while it lives. Who has lost a lease can bring nobody into doubt any more, and changes the
state of nobody whom another one may have brought into doubt.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias
from uuid import uuid4

from ..errors import InputError, SmtpError
from ..wire.result import SendResult
from .disk import Disk
from .store import JournalError

State: TypeAlias = Literal["queued", "doubt", "accepted", "refused"]

LEASE: Final = 60.0
"""Seconds for which a process has what it took; it renews them well before."""

_FORMAT: Final = "1"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS journal (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, payload TEXT NOT NULL, queued REAL NOT NULL, due REAL NOT NULL,
    expires REAL NOT NULL, tries INTEGER NOT NULL, owed INTEGER NOT NULL, owner TEXT NOT NULL,
    until REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS fates (
    message INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE, place INTEGER NOT NULL,
    address TEXT NOT NULL, state TEXT NOT NULL, doubter TEXT NOT NULL, reply TEXT NOT NULL,
    stage TEXT NOT NULL, changed REAL NOT NULL, PRIMARY KEY (message, place)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ready ON messages (due) WHERE owed > 0;
CREATE INDEX IF NOT EXISTS doubtful ON fates (message) WHERE state = 'doubt';
"""
_NEVER: Final = 1e300
_TAKE: Final = """
UPDATE messages SET owner = :owner, until = :until WHERE id IN (
    SELECT id FROM messages WHERE owed > 0 AND due <= :now AND until <= :now ORDER BY due, id LIMIT :most
) RETURNING id, payload, tries, expires
"""
_DOUBT: Final = """
UPDATE fates SET state = 'doubt', doubter = :owner, reply = '', stage = '', changed = :now
WHERE message = :id AND address = :address AND state = 'queued'
"""
_SETTLE: Final = """
UPDATE fates SET state = :state, reply = :reply, stage = :stage, changed = :now
WHERE message = :id AND address = :address
AND (state = 'doubt' AND doubter = :owner OR state = 'queued' AND :is_mine)
"""
_COUNT: Final = """
UPDATE messages SET owed = (SELECT count(*) FROM fates WHERE message = messages.id AND state = 'queued')
"""


class Fate(NamedTuple):
    """What is known of one recipient of a message."""

    address: str
    state: State
    reply: str
    """The server's last, or what went wrong."""
    stage: str
    changed: float
    """Seconds since the epoch."""


class _Told(NamedTuple):
    """What an outcome says of a recipient."""

    address: str
    state: State
    reply: str
    stage: str


@dataclass(frozen=True, slots=True)
class Owed:
    """A message that was taken, and to whom it is to be sent."""

    id: int
    payload: dict[str, Any]
    recipients: tuple[str, ...]
    """Those that are queued."""
    tries: int
    expires: float
    """Seconds since the epoch; infinite for most."""


class Journal:
    """One file for the messages of any number of threads and processes of a machine; a context manager.

    A payload is the message in plain values that survive JSON. Raises
    ``JournalError`` where the file cannot be read or written, as do its methods.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._disk = Disk(path, _SCHEMA, alone=False)
        self._owner = f"{os.getpid()}-{uuid4().hex}"
        try:
            self._disk.write(partial(_check_format, path=self._disk.path))
        except BaseException:
            self._disk.close()
            raise

    # -- in ---------------------------------------------------------------------------

    def add(
        self,
        payload: dict[str, Any],
        *,
        key: str | None = None,
        due: float = 0.0,
        expires: float = _NEVER,
        take: bool = False,
    ) -> int | None:
        """Queue a message for its ``recipients``; its number, or None if one with this key is there already.

        ``due`` and ``expires`` are seconds since the epoch. ``take``: whoever adds it has it.
        """
        row = {
            "key": key,
            "payload": json.dumps(payload, separators=(",", ":")),
            "now": time.time(),
            "due": due,
            "expires": expires,
            "owed": len(payload["recipients"]),
            "owner": self._owner if take else "",
            "until": time.time() + LEASE if take else 0.0,
        }
        return self._disk.write(partial(_add, row=row, recipients=payload["recipients"]))

    # -- out --------------------------------------------------------------------------

    def take(self, most: int) -> list[Owed]:
        """Messages that are due and that nobody has, oldest first: they are this journal's for a lease."""
        now = time.time()
        asked = {"owner": self._owner, "until": now + LEASE, "now": now, "most": most}
        return self._disk.write(partial(_take, asked=asked))

    def renew(self) -> None:
        """Put off the end of all leases of this journal."""
        values = {"until": time.time() + LEASE, "owner": self._owner}
        statement = "UPDATE messages SET until = :until WHERE owner = :owner AND until > 0"
        self._disk.write(lambda store: store.execute(statement, values) and None)

    def release(self, ids: Iterable[int] | None = None) -> None:
        """Give back what was taken, or some of it: another process may have it at once."""
        self._disk.write(partial(_release, owner=self._owner, ids=None if ids is None else tuple(ids)))

    def doubt(self, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Record, before the write by which they are, who of these messages is about to be in doubt.

        Raises ``JournalError`` if one of them is not, or no more, this journal's; then nothing is recorded.
        """
        self._disk.write(partial(_doubt, owner=self._owner, entries=entries))

    def settle(self, id_: int, outcome: SendResult | SmtpError, retry_at: float | None = None) -> None:
        """Record what a try came to, and give the message back.

        Whoever is unsent, or refused for now, is queued again for ``retry_at``, in seconds since the epoch;
        without it they are refused.
        """
        fates = _fates(outcome, retry_at)
        self._disk.write(partial(_settle, owner=self._owner, id_=id_, fates=fates, retry_at=retry_at))

    # -- by hand ------------------------------------------------------------------------

    def retry(self, id_: int, *, doubtful: bool = False) -> int:
        """Queue again who was refused, and who is in doubt if that is said; how many those are."""
        states = ("refused", "doubt") if doubtful else ("refused",)
        return self._disk.write(partial(_retry, id_=id_, states=states))

    def cancel(self, id_: int) -> int:
        """Refuse all who are still queued, so that nobody is sent it any more; how many those are."""
        return self._disk.write(partial(_cancel, id_=id_))

    def purge(self, before: float) -> int:
        """Forget messages queued before this moment of which nobody is owed or in doubt; how many."""
        statement = """
        DELETE FROM messages WHERE queued < ? AND owed = 0
        AND NOT EXISTS (SELECT 1 FROM fates WHERE message = messages.id AND state = 'doubt')
        """
        return self._disk.write(lambda store: store.execute(statement, (before,)).rowcount)

    def fates(self, id_: int) -> list[Fate]:
        """What is known of each recipient of a message, in their order."""
        query = "SELECT address, state, reply, stage, changed FROM fates WHERE message = ? ORDER BY place"
        return [Fate(*row) for row in self._disk.read(query, id_)]

    def doubtful(self, most: int = 1000) -> list[tuple[int, str]]:
        """Whoever is in doubt: the number of the message, and the address."""
        query = "SELECT message, address FROM fates WHERE state = 'doubt' ORDER BY message, place LIMIT ?"
        return [(number, address) for number, address in self._disk.read(query, most)]

    def counts(self) -> dict[str, int]:
        """How many recipients are in each state."""
        return dict(self._disk.read("SELECT state, count(*) FROM fates GROUP BY state"))

    # -- the end ------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what was taken, and the file."""
        if not self._disk.is_foreign:
            self.release()
        self._disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_format(store: sqlite3.Connection, path: str) -> None:
    store.execute("INSERT OR IGNORE INTO journal VALUES ('format', ?)", (_FORMAT,))
    ((found,),) = store.execute("SELECT value FROM journal WHERE name = 'format'")
    if found != _FORMAT:
        raise InputError(f"{path} is a journal of format {found}, and this version writes {_FORMAT}")


def _add(store: sqlite3.Connection, row: dict[str, Any], recipients: Sequence[str]) -> int | None:
    cursor = store.execute(
        "INSERT OR IGNORE INTO messages (key, payload, queued, due, expires, tries, owed, owner, until)"
        " VALUES (:key, :payload, :now, :due, :expires, 0, :owed, :owner, :until)",
        row,
    )
    if not cursor.rowcount:
        return None
    number = cursor.lastrowid
    store.executemany(
        "INSERT INTO fates VALUES (?, ?, ?, 'queued', '', '', '', ?)",
        [(number, place, address, row["now"]) for place, address in enumerate(recipients)],
    )
    return number


def _take(store: sqlite3.Connection, asked: dict[str, Any]) -> list[Owed]:
    taken = []
    for number, payload, tries, expires in store.execute(_TAKE, asked).fetchall():
        query = "SELECT address FROM fates WHERE message = ? AND state = 'queued' ORDER BY place"
        recipients = tuple(address for (address,) in store.execute(query, (number,)))
        taken.append(Owed(number, json.loads(payload), recipients, tries, expires))
    return sorted(taken, key=lambda owed: owed.id)


def _release(store: sqlite3.Connection, owner: str, ids: tuple[int, ...] | None) -> None:
    statement = "UPDATE messages SET owner = '', until = 0 WHERE owner = ?"
    if ids is None:
        store.execute(statement, (owner,))
    else:
        store.executemany(f"{statement} AND id = ?", [(owner, number) for number in ids])


def _doubt(store: sqlite3.Connection, owner: str, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
    now = time.time()
    for number, addresses in entries:
        mine = store.execute(
            "SELECT 1 FROM messages WHERE id = ? AND owner = ? AND until > ?", (number, owner, now)
        )
        if mine.fetchone() is None:
            raise JournalError(f"message {number} of the journal is another process's by now")
        for address in addresses:
            store.execute(_DOUBT, {"id": number, "address": address, "owner": owner, "now": now})
        store.execute(f"{_COUNT} WHERE id = ?", (number,))


def _fates(outcome: SendResult | SmtpError, retry_at: float | None) -> list[_Told]:
    """What an outcome says of each recipient."""
    told: list[_Told] = []
    unsent: State = "refused" if retry_at is None else "queued"
    if isinstance(outcome, SendResult):
        replies = outcome.replies or (outcome.reply,) * len(outcome.accepted_recipients)
        accepted = zip(outcome.accepted_recipients, replies, strict=True)
        told += [_Told(path, "accepted", str(reply), "") for path, reply in accepted]
    else:
        stage = str(outcome.stage or "")
        told += [_Told(path, "accepted", "", "") for path in outcome.accepted_recipients]
        told += [_Told(path, "doubt", outcome.text, stage) for path in outcome.unknown_recipients]
        told += [_Told(path, unsent, outcome.text, stage) for path in outcome.unsent_recipients]
    for each in outcome.rejected_recipients:
        state: State = unsent if each.temporary else "refused"
        told.append(_Told(each.recipient, state, str(each.reply), str(each.stage)))
    return told


def _settle(
    store: sqlite3.Connection, owner: str, id_: int, fates: list[_Told], retry_at: float | None
) -> None:
    now = time.time()
    is_mine = bool(
        store.execute("SELECT 1 FROM messages WHERE id = ? AND owner = ?", (id_, owner)).fetchone()
    )
    whose = {"id": id_, "owner": owner, "is_mine": is_mine, "now": now}
    for address, state, reply, stage in fates:
        store.execute(_SETTLE, {"address": address, "state": state, "reply": reply, "stage": stage, **whose})
    store.execute(f"{_COUNT}, tries = tries + 1 WHERE id = ?", (id_,))
    if is_mine:
        due = now if retry_at is None else retry_at
        store.execute("UPDATE messages SET owner = '', until = 0, due = ? WHERE id = ?", (due, id_))


def _retry(store: sqlite3.Connection, id_: int, states: tuple[str, ...]) -> int:
    marks = ",".join("?" * len(states))
    cursor = store.execute(
        f"UPDATE fates SET state = 'queued' WHERE message = ? AND state IN ({marks})", (id_, *states)
    )
    store.execute(f"{_COUNT}, due = 0 WHERE id = ?", (id_,))
    return cursor.rowcount


def _cancel(store: sqlite3.Connection, id_: int) -> int:
    statement = "UPDATE fates SET state = 'refused', reply = 'cancelled', stage = 'input' WHERE message = ?"
    cursor = store.execute(f"{statement} AND state = 'queued'", (id_,))
    store.execute(f"{_COUNT} WHERE id = ?", (id_,))
    return cursor.rowcount

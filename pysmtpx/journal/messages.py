"""A journal in one file of SQLite: for the messages of any number of threads and processes of a machine."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Self
from uuid import uuid4

from .disk import Disk
from .store import LEASE, NEVER, Fate, JournalError, NotHeld, Owed, State

_KIND: Final = 0x736D7470
"""The ``application_id`` of its file."""
_FORMAT: Final = "2"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS journal (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, sender TEXT NOT NULL, payload BLOB, file TEXT,
    digest BLOB NOT NULL, size INTEGER NOT NULL, queued REAL NOT NULL, due REAL NOT NULL,
    expires REAL NOT NULL, tries INTEGER NOT NULL, owed INTEGER NOT NULL, owner TEXT NOT NULL,
    until REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS fates (
    message INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE, place INTEGER NOT NULL,
    address TEXT NOT NULL, state TEXT NOT NULL, doubter TEXT NOT NULL, reply TEXT NOT NULL,
    stage TEXT NOT NULL, changed REAL NOT NULL, PRIMARY KEY (message, place)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ready ON messages (due, number) WHERE owed > 0;
CREATE INDEX IF NOT EXISTS held ON messages (until) WHERE until > 0;
CREATE INDEX IF NOT EXISTS done ON messages (queued) WHERE owed = 0;
CREATE INDEX IF NOT EXISTS doubtful ON fates (message) WHERE state = 'doubt';
"""
_ANY: Final = """
SELECT 1 FROM messages WHERE owed > 0 AND due <= ? AND owner <> ? AND (until <= ? OR until > ?) LIMIT 1
"""
_INLINE: Final = 256 * 1024
"""Octets of a payload that are kept in the database; larger ones are in files beside it."""
_MOST_OCTETS: Final = 64 * 1024 * 1024
"""Of payloads that are taken at once, unless one alone is larger."""
_KEEP: Final = 7 * 86400.0
_TIDY: Final = 600.0
"""Seconds between two looks for what is to be forgotten."""
_MOST_FORGOTTEN: Final = 500
"""Messages by one look: whoever waits for the disk meanwhile must not wait long."""


class Summary(NamedTuple):
    """One message as a row of a list."""

    number: int
    sender: str
    queued: float
    """Seconds since the epoch, as ``due``, ``expires`` and ``until``."""
    due: float
    expires: float
    tries: int
    size: int
    held_until: float
    """0 where nobody holds it."""
    states: dict[str, int]
    """How many of its recipients are in each state."""


class Journal:
    """One file for the messages of any number of threads and processes of a machine; a context manager.

    It is a ``Store`` for ``SmtpPool``, and what ``SmtpPool(journal="outbox.db")`` makes. Messages of which
    nobody is queued or in doubt are forgotten ``keep`` seconds after they were queued; None is never.

    Raises ``JournalError`` where the file cannot be read or written, as do its methods.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep: float | None = _KEEP) -> None:
        self._disk = Disk(path, _SCHEMA, alone=False, kind=_KIND)
        self._keep = keep
        self._id = uuid4().hex
        self._tidied = 0.0
        try:
            self._disk.write(partial(_check_format, path=self._disk.path))
        except BaseException:
            self._disk.close()
            raise

    @property
    def path(self) -> str:
        """The file."""
        return self._disk.path

    @property
    def _owner(self) -> str:
        """What it holds messages by: a child of ``os.fork`` has not what its parent has."""
        return f"{os.getpid()}-{self._id}"

    # -- what a pool asks of it: see Store ----------------------------------------------------

    def add(
        self,
        payload: Mapping[str, Any],
        *,
        key: str | None = None,
        due: float = 0.0,
        expires: float = NEVER,
        take: bool = False,
        durable: bool = True,
    ) -> int | None:
        """Queue a message for the ``recipients`` of the payload; see ``Store.add``."""
        octets = json.dumps(payload, separators=(",", ":")).encode("ascii")
        now = time.time()
        row = {
            "key": key,
            "sender": str(payload.get("sender", "")),
            "payload": octets,
            "file": None,
            "digest": _digest(octets),
            "size": len(octets),
            "now": now,
            "due": due,
            "expires": expires,
            "owed": len(payload["recipients"]),
            "owner": self._owner if take else "",
            "until": now + LEASE if take else 0.0,
        }
        name = None
        if len(octets) > _INLINE:
            name = row["file"] = self._put_beside(octets)
            row["payload"] = None
        number: int | None = None
        try:
            number = self._disk.write(
                partial(_add, row=row, recipients=payload["recipients"]), durable=durable
            )
        finally:
            if number is None and name is not None:
                self._remove(name)
        return number

    def take(self, most: int) -> list[Owed]:
        """Messages that are due and that nobody holds; see ``Store.take``."""
        self._tidy()
        now = time.time()
        if not self._disk.read(_ANY, now, self._owner, now, now + LEASE + 1):
            return []  # looked at often, and most often so: without the lock that others write by
        rows = self._disk.write(partial(_take, owner=self._owner, most=most))
        return [self._owed(row) for row in rows]

    def renew(self, numbers: Collection[int]) -> None:
        """Put off the end of these leases; see ``Store.renew``."""
        self._disk.write(partial(_renew, owner=self._owner, numbers=tuple(numbers)), durable=False)

    def release(self, numbers: Collection[int]) -> None:
        """Give these back; see ``Store.release``."""
        self._disk.write(partial(_release, owner=self._owner, numbers=tuple(numbers)), durable=False)

    def doubt(self, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Record who is about to be in doubt; see ``Store.doubt``."""
        self._disk.write(partial(_doubt, owner=self._owner, entries=entries))

    def settle(
        self, number: int, fates: Sequence[Fate], *, tries: int, due: float | None = None, keep: bool = False
    ) -> None:
        """Record what became of recipients; see ``Store.settle``."""
        owner = self._owner
        self._disk.write(
            lambda store: _settle(store, number, owner, fates, tries=tries, due=due, keep=keep), durable=False
        )

    # -- by hand ------------------------------------------------------------------------------

    def retry(self, number: int, *, doubtful: bool = False) -> int:
        """Queue again who was refused, and who is in doubt if that is said; how many those are.

        Whoever is in doubt may get it twice. Those of a message that a process has are left alone: it is
        about to know what became of them.
        """
        return self._disk.write(partial(_retry, number=number, doubtful=doubtful))

    def cancel(self, number: int) -> int:
        """Refuse all who are still queued, so that nobody is sent it any more; how many those are.

        Also where a process has it: whoever is not in doubt by now will not be.
        """
        return self._disk.write(partial(_cancel, number=number))

    def purge(self, before: float, most: int = _MOST_FORGOTTEN) -> int:
        """Forget messages queued before this moment of which nobody is queued or in doubt; how many."""
        files = self._disk.write(partial(_purge, before=before, most=most))
        for name in filter(None, files):
            self._remove(name)
        return len(files)

    def summaries(self, state: State | None = None, *, after: int = 0, most: int = 100) -> list[Summary]:
        """Messages with somebody in ``state``, in the order of their numbers: those above ``after``."""
        which = {
            None: "",
            "queued": "AND owed > 0",
            "doubt": "AND number IN (SELECT message FROM fates WHERE state = 'doubt')",
        }.get(state, "AND EXISTS (SELECT 1 FROM fates WHERE message = number AND state = :state)")
        query = f"""
        SELECT number, sender, queued, due, expires, tries, size, until FROM messages
        WHERE number > :after {which} ORDER BY number LIMIT :most
        """
        asked = {"after": after, "most": most, "state": state}
        rows = self._disk.write(lambda store: store.execute(query, asked).fetchall(), durable=False)
        return [Summary._make((*row, self._states(row[0]))) for row in rows]

    def summary(self, number: int) -> Summary | None:
        """One message; None where there is none of this number."""
        found = self.summaries(after=number - 1, most=1)
        return found[0] if found and found[0].number == number else None

    def _states(self, number: int) -> dict[str, int]:
        query = "SELECT state, count(*) FROM fates WHERE message = ? GROUP BY state"
        return dict(self._disk.read(query, number))

    def payload(self, number: int) -> Mapping[str, Any] | None:
        """What was added; None where it is damaged or gone."""
        rows = self._disk.read("SELECT payload, file, digest FROM messages WHERE number = ?", number)
        return self._read(*rows[0]) if rows else None

    def fates(self, number: int) -> list[Fate]:
        """What is known of each recipient of a message, in their order."""
        query = "SELECT address, state, reply, stage, changed FROM fates WHERE message = ? ORDER BY place"
        return [Fate(*row) for row in self._disk.read(query, number)]

    def doubtful(self, most: int = 1000) -> list[tuple[int, str]]:
        """Whoever is in doubt: the number of the message, and the address."""
        query = "SELECT message, address FROM fates WHERE state = 'doubt' ORDER BY message, place LIMIT ?"
        return [(number, address) for number, address in self._disk.read(query, most)]

    def counts(self) -> dict[str, int]:
        """How many recipients are in each state."""
        return dict(self._disk.read("SELECT state, count(*) FROM fates GROUP BY state"))

    # -- payloads -----------------------------------------------------------------------------

    def _owed(self, row: tuple[Any, ...]) -> Owed:
        number, payload, file, digest, tries, queued, expires, recipients = row
        return Owed(number, self._read(payload, file, digest), recipients, tries, queued, expires)

    def _read(self, payload: bytes | None, file: str | None, digest: bytes) -> Mapping[str, Any] | None:
        try:
            if file is not None:
                with open(self._beside(file), "rb") as source:
                    payload = source.read()
            if payload is None or _digest(payload) != digest:
                return None
            plain = json.loads(payload)
        except (OSError, ValueError, TypeError):
            return None
        return plain if isinstance(plain, dict) else None

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
            _sync_folder(f"{self.path}.content")
        except OSError as error:
            self._remove(name)
            raise JournalError(f"the journal {self.path} cannot be written: {error}") from error
        return name

    def _remove(self, name: str) -> None:
        try:
            os.remove(self._beside(name))
        except OSError:
            return  # it is found, and forgotten, by the next one who looks

    def _tidy(self) -> None:
        if self._keep is not None and time.monotonic() - self._tidied > _TIDY:
            more = self.purge(time.time() - self._keep) >= _MOST_FORGOTTEN
            self._tidied = 0.0 if more else time.monotonic()

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what is held, and the file; does nothing twice."""
        if self._disk.is_closed:
            return
        try:
            self._disk.write(partial(_release, owner=self._owner, numbers=None), durable=False)
        finally:
            self._disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Journal {self.path}>"


# In a transaction.


def _check_format(store: sqlite3.Connection, path: str) -> None:
    store.execute("INSERT OR IGNORE INTO journal VALUES ('format', ?)", (_FORMAT,))
    ((found,),) = store.execute("SELECT value FROM journal WHERE name = 'format'")
    if found != _FORMAT:
        raise JournalError(f"{path} is a journal of format {found}, and this version writes {_FORMAT}")


def _add(store: sqlite3.Connection, row: dict[str, Any], recipients: Sequence[str]) -> int | None:
    cursor = store.execute(
        "INSERT INTO messages"
        " (key, sender, payload, file, digest, size, queued, due, expires, tries, owed, owner, until) VALUES"
        " (:key, :sender, :payload, :file, :digest, :size, :now, :due, :expires, 0, :owed, :owner, :until)"
        " ON CONFLICT (key) DO NOTHING",
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


def _take(store: sqlite3.Connection, owner: str, most: int) -> list[tuple[Any, ...]]:
    now = time.time()
    # The clock was set back: nobody holds anything for longer than one who took it just now.
    # That it is above 0 is said, too: else SQLite cannot tell that the index of these has all of them.
    store.execute(
        "UPDATE messages SET until = ? WHERE until > 0 AND until > ?", (now + LEASE, now + LEASE + 1)
    )
    ready = store.execute(
        "SELECT number, size FROM messages WHERE owed > 0 AND due <= ? AND until <= ? AND owner <> ?"
        " ORDER BY due, number LIMIT ?",
        (now, now, owner, most),
    )
    taken: list[tuple[Any, ...]] = []
    octets = 0
    for number, size in ready.fetchall():
        octets += size
        if taken and octets > _MOST_OCTETS:
            break
        store.execute(
            "UPDATE messages SET owner = ?, until = ? WHERE number = ?", (owner, now + LEASE, number)
        )
        query = "SELECT payload, file, digest, tries, queued, expires FROM messages WHERE number = ?"
        (row,) = store.execute(query, (number,))
        query = "SELECT address FROM fates WHERE message = ? AND state = 'queued' ORDER BY place"
        taken.append((number, *row, tuple(address for (address,) in store.execute(query, (number,)))))
    return taken


def _renew(store: sqlite3.Connection, owner: str, numbers: Iterable[int]) -> None:
    until = time.time() + LEASE
    store.executemany(
        "UPDATE messages SET until = ? WHERE number = ? AND owner = ?",
        [(until, number, owner) for number in numbers],
    )


def _release(store: sqlite3.Connection, owner: str, numbers: Iterable[int] | None) -> None:
    statement = "UPDATE messages SET owner = '', until = 0 WHERE owner = ? AND until > 0"
    if numbers is None:
        store.execute(statement, (owner,))
    else:
        store.executemany(f"{statement} AND number = ?", [(owner, number) for number in numbers])


def _doubt(store: sqlite3.Connection, owner: str, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
    now = time.time()
    lost = []
    for number, addresses in entries:
        rows = _known(store, number)
        held = store.execute("SELECT 1 FROM messages WHERE number = ? AND owner = ?", (number, owner))
        wanted = set(addresses)
        places = [
            place
            for place, address, state, doubter in rows
            if address in wanted and (state == "queued" or (state == "doubt" and doubter == owner))
        ]
        if held.fetchone() is None or {rows[place][1] for place in places} != wanted:
            lost.append(number)
        store.executemany(
            "UPDATE fates SET state = 'doubt', doubter = ?, reply = '', stage = '', changed = ?"
            " WHERE message = ? AND place = ?",
            [(owner, now, number, place) for place in places],
        )
        _count(store, number)
    if lost:
        raise NotHeld(lost)


def _settle(
    store: sqlite3.Connection,
    number: int,
    owner: str,
    fates: Sequence[Fate],
    *,
    tries: int,
    due: float | None,
    keep: bool,
) -> None:
    now = time.time()
    held = store.execute("SELECT 1 FROM messages WHERE number = ? AND owner = ?", (number, owner))
    is_held = held.fetchone() is not None
    told: dict[str, Fate] = {}
    for fate in fates:
        told.setdefault(fate.address, fate)
    changes = []
    for place, address, state, doubter in _known(store, number):
        fate_ = told.get(address)
        mine = (state == "doubt" and doubter == owner) or (state == "queued" and is_held)
        if fate_ is not None and mine:
            changes.append((fate_.state, fate_.reply, fate_.stage, now, number, place))
    store.executemany(
        "UPDATE fates SET state = ?, reply = ?, stage = ?, changed = ? WHERE message = ? AND place = ?",
        changes,
    )
    _count(store, number)
    if not is_held:
        return
    store.execute("UPDATE messages SET tries = ? WHERE number = ?", (tries, number))
    if due is not None:
        store.execute("UPDATE messages SET due = ? WHERE number = ?", (due, number))
    if not keep:
        store.execute("UPDATE messages SET owner = '', until = 0 WHERE number = ?", (number,))


def _known(store: sqlite3.Connection, number: int) -> list[tuple[int, str, str, str]]:
    """Each recipient: at its place in this list."""
    query = "SELECT place, address, state, doubter FROM fates WHERE message = ? ORDER BY place"
    return store.execute(query, (number,)).fetchall()


def _count(store: sqlite3.Connection, number: int) -> None:
    store.execute(
        "UPDATE messages SET owed = (SELECT count(*) FROM fates WHERE message = :number AND state = 'queued')"
        " WHERE number = :number",
        {"number": number},
    )


def _retry(store: sqlite3.Connection, number: int, doubtful: bool) -> int:
    cursor = store.execute(
        "UPDATE fates SET state = 'queued' WHERE message = ? AND (state = 'refused' OR ? AND state = 'doubt'"
        " AND NOT EXISTS (SELECT 1 FROM messages WHERE number = message AND until > ?))",
        (number, doubtful, time.time()),
    )
    _count(store, number)
    store.execute("UPDATE messages SET due = 0, tries = 0, expires = ? WHERE number = ?", (NEVER, number))
    return cursor.rowcount


def _cancel(store: sqlite3.Connection, number: int) -> int:
    cursor = store.execute(
        "UPDATE fates SET state = 'refused', reply = 'cancelled', stage = 'input', changed = ?"
        " WHERE message = ? AND state = 'queued'",
        (time.time(), number),
    )
    _count(store, number)
    return cursor.rowcount


def _purge(store: sqlite3.Connection, before: float, most: int) -> list[str | None]:
    """The files of those that were forgotten, None where one had none."""
    rows = store.execute(
        "SELECT number, file FROM messages WHERE owed = 0 AND queued < ?"
        " AND NOT EXISTS (SELECT 1 FROM fates WHERE message = number AND state = 'doubt')"
        " ORDER BY queued LIMIT ?",
        (before, most),
    ).fetchall()
    store.executemany("DELETE FROM messages WHERE number = ?", [(number,) for number, _ in rows])
    return [file for _, file in rows]


# Octets.


def _digest(octets: bytes) -> bytes:
    """By which an octet that a disk has changed is found: SQLite has no checksums of its own."""
    return blake2b(octets, digest_size=16).digest()


def _sync_folder(path: str) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

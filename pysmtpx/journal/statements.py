"""What is done to a journal of messages in a transaction: the same statements for every database.

Where a database has many writers at a time, whoever changes something of a message locks its row first: what
is read afterwards is then as the last one left it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from .owner import ended
from .store import LEASE, NEVER, Fate, NotHeld, State

INDEXES: Final = """
CREATE INDEX IF NOT EXISTS ready ON messages (due, number) WHERE owed > 0;
CREATE INDEX IF NOT EXISTS held ON messages (until) WHERE until > 0;
CREATE INDEX IF NOT EXISTS done ON messages (queued) WHERE owed = 0;
CREATE INDEX IF NOT EXISTS doubtful ON fates (message) WHERE state = 'doubt';
"""
MOST_OCTETS: Final = 64 * 1024 * 1024
"""Of payloads that are taken at once, unless one alone is larger."""
PURGEABLE: Final[tuple[State, ...]] = ("accepted", "refused")
"""What may be forgotten without a word: by the worst that became of one of its recipients."""


class Session(Protocol):
    """A connection in a transaction. Values stand for ``?``."""

    lock: str
    """What locks the rows of a query, at its end."""
    skip: str
    """The same for those only that nobody else has locked."""

    def all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows."""

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """How many rows were changed."""

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """The same statement for each row of values."""

    def insert(self, statement: str, values: Sequence[Any]) -> int | None:
        """The ``number`` that the new row was given; None if there is none."""


class Row(NamedTuple):
    """A message to be added."""

    key: str | None
    sender: str
    size: int
    queued: float
    due: float
    expires: float
    owed: int
    owner: str
    until: float


class Content(NamedTuple):
    """Its payload, or the file of it."""

    payload: bytes | None
    file: str | None
    digest: bytes


class Taken(NamedTuple):
    """A message that was taken."""

    number: int
    tries: int
    queued: float
    expires: float
    content: Content
    recipients: tuple[str, ...]


def add(session: Session, row: Row, content: Content, recipients: Sequence[str]) -> int | None:
    """Its number; None if one with its key is there."""
    number = session.insert(
        "INSERT INTO messages (key, sender, size, queued, due, expires, owed, owner, until, tries)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (key) DO NOTHING",
        row,
    )
    if number is None:
        return None
    session.run("INSERT INTO contents VALUES (?, ?, ?, ?)", (number, *content))
    session.many(
        "INSERT INTO fates VALUES (?, ?, ?, 'queued', '', '', '', ?)",
        [(number, place, address, row.queued) for place, address in enumerate(recipients)],
    )
    return number


def is_any_ready(now: float, owner: str) -> tuple[str, tuple[Any, ...]]:
    """The query, and its values, that has a row if ``take`` would find something."""
    query = "SELECT 1 FROM messages WHERE owed > 0 AND due <= ? AND owner <> ?"
    return f"{query} AND (until <= ? OR until > ?) LIMIT 1", (now, owner, now, now + LEASE + 1)


HOLDERS: Final = "SELECT DISTINCT owner FROM messages WHERE until > 0 AND owner <> ''"


def take(session: Session, owner: str, most: int) -> list[Taken]:
    """Those that are due and held by nobody; see ``Store.take``."""
    now = time.time()
    # The clock was set back: nobody holds anything for longer than one who took it just now.
    # That it is above 0 is said, too: else SQLite cannot tell that the index of these has all of them.
    session.run(
        f"UPDATE messages SET until = ? WHERE number IN"
        f" (SELECT number FROM messages WHERE until > 0 AND until > ? {session.skip})",
        (now + LEASE, now + LEASE + 1),
    )
    ready = session.all(
        "SELECT number, size, tries, queued, expires FROM messages"
        " WHERE owed > 0 AND due <= ? AND until <= ? AND owner <> ?"
        f" ORDER BY due, number LIMIT ? {session.skip}",
        (now, now, owner, most),
    )
    known: dict[int, list[Any]] = {}
    octets = 0
    for number, size, *more in ready:
        octets += size
        if known and octets > MOST_OCTETS:
            break
        known[number] = more
    if not known:
        return []
    these = _list(known)
    held = (owner, now + LEASE, *known)
    session.run(f"UPDATE messages SET owner = ?, until = ? WHERE number IN {these}", held)
    query = f"SELECT message, payload, file, digest FROM contents WHERE message IN {these}"
    contents = {number: Content._make(row) for number, *row in session.all(query, [*known])}
    to: dict[int, list[str]] = {number: [] for number in known}
    query = f"SELECT message, address FROM fates WHERE message IN {these} AND state = 'queued'"
    for number, address in session.all(f"{query} ORDER BY message, place", [*known]):
        to[number].append(address)
    gone = Content(None, None, b"")
    return [
        Taken(number, tries, queued, expires, contents.get(number, gone), tuple(to[number]))
        for number, (tries, queued, expires) in known.items()
    ]


def claim(session: Session, owner: str, key: str | None) -> tuple[int, int, float, float | None] | None:
    """Hold the message of this key: its number, tries, when it was queued, and for how long another has it.

    None where it was forgotten just now.
    """
    now = time.time()
    query = f"SELECT number, tries, queued, owner, until FROM messages WHERE key = ? {session.lock}"
    found = session.all(query, (key,))
    if not found:
        return None
    ((number, tries, queued, holder, until),) = found
    is_held = holder != "" and now < until <= now + LEASE + 1 and not ended([holder])
    if holder == owner or is_held:
        query = "SELECT 1 FROM fates WHERE message = ? AND state IN ('queued', 'doubt') LIMIT 1"
        if session.all(query, (number,)):
            return number, tries, queued, max(1.0, until - now)
    session.run("UPDATE messages SET owner = ?, until = ? WHERE number = ?", (owner, now + LEASE, number))
    return number, tries, queued, None


def renew(session: Session, owner: str, numbers: Iterable[int]) -> None:
    """Put off the end of these leases."""
    until = time.time() + LEASE
    rows = [(until, number, owner) for number in sorted(numbers)]
    session.many("UPDATE messages SET until = ? WHERE number = ? AND owner = ?", rows)


def release(session: Session, owner: str, numbers: Collection[int] | None) -> None:
    """Give these back; None is all."""
    statement = "UPDATE messages SET owner = '', until = 0 WHERE owner = ? AND until > 0"
    if numbers is None:
        session.run(statement, (owner,))
    else:
        session.many(f"{statement} AND number = ?", [(owner, number) for number in sorted(numbers)])


def doubt(session: Session, owner: str, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
    """Record who is about to be in doubt; see ``Store.doubt``."""
    now = time.time()
    these, numbers = _list(entries), sorted(number for number, _ in entries)
    query = f"SELECT number, owner FROM messages WHERE number IN {these} ORDER BY number {session.lock}"
    owners = dict(session.all(query, numbers))
    query = f"SELECT message, place, address, state, doubter FROM fates WHERE message IN {these}"
    ours: dict[int, dict[int, str]] = {number: {} for number in numbers}
    wanted = {number: set(addresses) for number, addresses in entries}
    for number, place, address, state, doubter in session.all(query, numbers):
        is_free = state == "queued" or (state == "doubt" and doubter == owner)
        if is_free and address in wanted[number]:
            ours[number][place] = address
    lost = [
        number
        for number, _ in entries
        if owners.get(number) != owner or {*ours[number].values()} != wanted[number]
    ]
    if lost:
        raise NotHeld(lost)
    session.many(
        "UPDATE fates SET state = 'doubt', doubter = ?, reply = '', stage = '', changed = ?"
        " WHERE message = ? AND place = ?",
        [(owner, now, number, place) for number in numbers for place in ours[number]],
    )
    session.run(f"UPDATE messages SET owed = {_OWED} WHERE number IN {these}", numbers)


_OWED: Final = "(SELECT count(*) FROM fates WHERE message = number AND state = 'queued')"


def settle(
    session: Session,
    number: int,
    owner: str,
    fates: Sequence[Fate],
    *,
    tries: int,
    due: float | None,
    keep: bool,
) -> None:
    """Record what became of recipients; see ``Store.settle``."""
    now = time.time()
    found = session.all(f"SELECT owner FROM messages WHERE number = ? {session.lock}", (number,))
    is_held = found == [(owner,)]
    told: dict[str, Fate] = {}
    for fate in fates:
        told.setdefault(fate.address, fate)
    query = "SELECT place, address, state, doubter FROM fates WHERE message = ? ORDER BY place"
    changes = []
    for place, address, state, doubter in session.all(query, (number,)):
        known = told.get(address)
        is_ours = (state == "doubt" and doubter == owner) or (state == "queued" and is_held)
        if known is not None and is_ours:
            changes.append((known.state, known.reply, known.stage, now, number, place))
    session.many(
        "UPDATE fates SET state = ?, reply = ?, stage = ?, changed = ? WHERE message = ? AND place = ?",
        changes,
    )
    values: dict[str, Any] = {}
    if is_held:
        values = {"tries": tries} | ({} if keep else {"owner": "", "until": 0.0})
        values |= {} if due is None else {"due": due}
    changed = "".join(f", {name} = ?" for name in values)
    session.run(f"UPDATE messages SET owed = {_OWED}{changed} WHERE number = ?", (*values.values(), number))


# -- by hand ------------------------------------------------------------------------------


def retry(session: Session, number: int, doubtful: bool) -> int:
    """Queue again who was refused, and who is in doubt if that is said; how many."""
    found = session.all(f"SELECT until FROM messages WHERE number = ? {session.lock}", (number,))
    is_free = not any(until > time.time() for (until,) in found)
    which = ("refused", "doubt") if doubtful and is_free else ("refused",)
    count = session.run(
        f"UPDATE fates SET state = 'queued' WHERE message = ? AND state IN {_list(which)}", (number, *which)
    )
    statement = f"UPDATE messages SET owed = {_OWED}, due = 0, tries = 0, expires = ? WHERE number = ?"
    session.run(statement, (NEVER, number))
    return count


def cancel(session: Session, number: int) -> int:
    """Refuse all who are still queued; how many."""
    session.all(f"SELECT 1 FROM messages WHERE number = ? {session.lock}", (number,))
    count = session.run(
        "UPDATE fates SET state = 'refused', reply = 'cancelled', stage = 'input', changed = ?"
        " WHERE message = ? AND state = 'queued'",
        (time.time(), number),
    )
    session.run(f"UPDATE messages SET owed = {_OWED} WHERE number = ?", (number,))
    return count


_HAS: Final = "EXISTS (SELECT 1 FROM fates WHERE message = number AND state = '{}')"
_WORST: Final[dict[State, str]] = {
    "doubt": _HAS.format("doubt"),
    "refused": f"NOT {_HAS.format('doubt')} AND {_HAS.format('refused')}",
    "accepted": "NOT EXISTS (SELECT 1 FROM fates WHERE message = number AND state <> 'accepted')",
}
"""Of messages of which nobody is queued, those of which this is the worst fate of a recipient."""


def purge(session: Session, before: float, fates: Collection[State], most: int) -> list[str | None]:
    """Forget what is over; the files of those that were forgotten, None where one had none."""
    which = " OR ".join(f"({_WORST[fate]})" for fate in fates)
    rows = session.all(
        f"SELECT number FROM messages WHERE owed = 0 AND queued < ? AND until <= ? AND ({which})"
        f" ORDER BY queued LIMIT ? {session.skip}",
        (before, time.time(), most),
    )
    if not rows:
        return []
    numbers = [number for (number,) in rows]
    files = session.all(f"SELECT file FROM contents WHERE message IN {_list(numbers)}", numbers)
    session.run(f"DELETE FROM messages WHERE number IN {_list(numbers)}", numbers)
    return [*(file for (file,) in files), *[None] * (len(numbers) - len(files))]


def _list(values: Collection[Any]) -> str:
    return f"({', '.join('?' * len(values))})"

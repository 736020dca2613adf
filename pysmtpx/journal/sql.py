"""A journal in a database: what a pool asks of it, and what somebody decides about it by hand."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Self, TypeVar

from ..errors import InputError
from . import statements
from .owner import Owner
from .statements import PURGEABLE, Content, Row, Session, Taken
from .store import LEASE, NEVER, Fate, JournalError, Owed, State
from .transactions import NotKept, Transactions

_T = TypeVar("_T")
FORMAT: Final = "3"
KEEP: Final = 7 * 86400.0
_TIDY: Final = 600.0
"""Seconds between two looks for what is to be forgotten."""
MOST_FORGOTTEN: Final = 500
"""Messages by one look: whoever waits to write meanwhile must not wait long."""


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


class Claim(NamedTuple):
    """What ``SqlJournal.claim`` found."""

    number: int
    tries: int
    queued: float
    """Seconds since the epoch."""
    fates: list[Fate]
    wait: float | None
    """None: whoever claimed it holds it. Else another one does: seconds until to look again."""


class SqlJournal(ABC):
    """A ``Store`` for ``SmtpPool``, and what can be asked of it and decided by hand; a context manager.

    ``keep`` is how many seconds after it was queued a message is forgotten of which nobody is queued or in
    doubt; None is never. By the worst fate of a recipient it may be said for each:
    ``{"accepted": 86400.0, "refused": None}``; who is in doubt is forgotten only where that is said, too.
    """

    def __init__(self, keep: float | Mapping[State, float | None] | None) -> None:
        self._keep = _seconds_by_fate(keep)
        self._holder = Owner()
        self._tidied = 0.0

    @property
    @abstractmethod
    def _transactions(self) -> Transactions[Any]:
        """The connection."""

    @abstractmethod
    def _write(self, action: Callable[[Session], _T], *, durable: bool = True) -> _T:
        """Do it in a transaction."""

    @abstractmethod
    def _read(self, query: str, *values: Any) -> list[Any]:
        """The rows of a query."""

    @property
    def _owner(self) -> str:
        return self._holder.name

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
        now, recipients = time.time(), payload["recipients"]
        owner, until = (self._owner, now + LEASE) if take else ("", 0.0)
        sender = str(payload.get("sender", ""))
        row = Row(key, sender, len(octets), now, due, expires, len(recipients), owner, until)
        content = self._content(octets)
        added: list[int] = []
        number: int | None = None

        def action(session: Session) -> int | None:
            found = statements.add(session, row, content, recipients)
            added[:] = [] if found is None else [found]
            return found

        try:
            number = self._write(action, durable=durable)
        except NotKept:  # its caller is told that it was not taken in, and nobody must send it then
            with suppress(JournalError):
                self._write(partial(_forget, numbers=added), durable=False)
            raise
        finally:
            if number is None:
                self._remove(content)
        return number

    def take(self, most: int) -> list[Owed]:
        """Messages that are due and that nobody holds; see ``Store.take``."""
        self._tidy()
        self._free()
        query, values = statements.is_any_ready(time.time(), self._owner)
        if not self._read(query, *values):
            return []  # looked at often, and most often so: without the lock that others write by
        return [
            self._owed(each) for each in self._write(partial(statements.take, owner=self._owner, most=most))
        ]

    def renew(self, numbers: Collection[int]) -> None:
        """Put off the end of these leases; see ``Store.renew``."""
        self._write(partial(statements.renew, owner=self._owner, numbers=tuple(numbers)), durable=False)

    def release(self, numbers: Collection[int]) -> None:
        """Give these back; see ``Store.release``."""
        self._write(partial(statements.release, owner=self._owner, numbers=tuple(numbers)), durable=False)

    def doubt(self, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """Record who is about to be in doubt; see ``Store.doubt``."""
        self._write(partial(statements.doubt, owner=self._owner, entries=entries))

    def settle(
        self, number: int, fates: Sequence[Fate], *, tries: int, due: float | None = None, keep: bool = False
    ) -> None:
        """Record what became of recipients; see ``Store.settle``."""
        owner = self._owner
        self._write(
            lambda session: statements.settle(session, number, owner, fates, tries=tries, due=due, keep=keep),
            durable=False,
        )

    # -- for a queue that hands out its messages itself ------------------------------------------

    def claim(self, key: str | None, payload: Mapping[str, Any], *, due: float = 0.0) -> Claim:
        """Hold the message of this key, which is added if it is not there; None is a message without one.

        Where another one holds it, or this process itself, it says for how long. A holder that has died
        may have brought somebody into doubt: who that is can be told when its lease has ended.
        """
        while True:
            queued = time.time()
            number = self.add(payload, key=key, due=due, take=True, durable=False)
            if number is not None:
                return Claim(
                    number, 0, queued, [Fate(each, "queued") for each in payload["recipients"]], None
                )
            found = self._write(partial(statements.claim, owner=self._owner, key=key), durable=False)
            if found is not None:
                number, tries, queued, wait = found
                return Claim(number, tries, queued, self.fates(number), wait)

    # -- by hand ------------------------------------------------------------------------------

    def retry(self, number: int, *, doubtful: bool = False) -> int:
        """Queue again who was refused, and who is in doubt if that is said; how many those are.

        Whoever is in doubt may get it twice. Those of a message that a process has are left alone: it is
        about to know what became of them.
        """
        return self._write(partial(statements.retry, number=number, doubtful=doubtful))

    def cancel(self, number: int) -> int:
        """Refuse all who are still queued, so that nobody is sent it any more; how many those are.

        Also where a process has it: whoever is not in doubt by now will not be.
        """
        return self._write(partial(statements.cancel, number=number))

    def purge(
        self, before: float, most: int = MOST_FORGOTTEN, *, fates: Collection[State] = PURGEABLE
    ) -> int:
        """Forget messages queued before this moment that are over; how many.

        ``fates`` says which: a message counts by the worst that became of one of its recipients, ``doubt``
        before ``refused`` before ``accepted``. What somebody is queued of is never forgotten (``cancel`` it
        first), and what a process has under way is not either. Raises ``InputError`` for another fate.
        """
        _check_fates(fates)
        if not fates:
            return 0
        files = self._write(partial(statements.purge, before=before, fates=tuple(fates), most=most))
        for file in files:
            self._remove(Content(None, file, b""))
        return len(files)

    def summaries(self, state: State | None = None, *, after: int = 0, most: int = 100) -> list[Summary]:
        """Messages with somebody in ``state``, in the order of their numbers: those above ``after``."""
        which = {
            None: "",
            "queued": "AND owed > 0",
            "doubt": "AND number IN (SELECT message FROM fates WHERE state = 'doubt')",
        }.get(state, "AND EXISTS (SELECT 1 FROM fates WHERE message = number AND state = ?)")
        query = f"""
        SELECT number, sender, queued, due, expires, tries, size, until FROM messages
        WHERE number > ? {which} ORDER BY number LIMIT ?
        """
        values = (after, state, most) if "?" in which else (after, most)
        rows = self._read(query, *values)
        return [Summary._make((*row, self._states(row[0]))) for row in rows]

    def summary(self, number: int) -> Summary | None:
        """One message; None where there is none of this number."""
        found = self.summaries(after=number - 1, most=1)
        return found[0] if found and found[0].number == number else None

    def _states(self, number: int) -> dict[str, int]:
        query = "SELECT state, count(*) FROM fates WHERE message = ? GROUP BY state"
        return dict(self._read(query, number))

    def payload(self, number: int) -> Mapping[str, Any] | None:
        """What was added; None where it is damaged or gone."""
        rows = self._read("SELECT payload, file, digest FROM contents WHERE message = ?", number)
        return self._plain(Content._make(rows[0])) if rows else None

    def fates(self, number: int) -> list[Fate]:
        """What is known of each recipient of a message, in their order."""
        query = "SELECT address, state, reply, stage, changed FROM fates WHERE message = ? ORDER BY place"
        return [Fate(*row) for row in self._read(query, number)]

    def doubtful(self, most: int = 1000) -> list[tuple[int, str]]:
        """Whoever is in doubt: the number of the message, and the address."""
        query = "SELECT message, address FROM fates WHERE state = 'doubt' ORDER BY message, place LIMIT ?"
        return [(number, address) for number, address in self._read(query, most)]

    def counts(self) -> dict[str, int]:
        """How many recipients are in each state."""
        return dict(self._read("SELECT state, count(*) FROM fates GROUP BY state"))

    # -- payloads -----------------------------------------------------------------------------

    def _content(self, octets: bytes) -> Content:
        return Content(octets, None, digest(octets))

    @abstractmethod
    def _remove(self, content: Content) -> None:
        """Remove the file of it, if it has one."""

    def _octets(self, content: Content) -> bytes | None:
        """Raises ``OSError`` where it has a file that is gone."""
        return content.payload

    def _owed(self, taken: Taken) -> Owed:
        number, tries, queued, expires, content, recipients = taken
        payload = self._plain(content)
        if payload is None or not recipients or not {*recipients} <= {*payload["recipients"]}:
            payload = None  # the content, an address, or a state is not what it was
        return Owed(number, payload, recipients, tries, queued, expires)

    def _plain(self, content: Content) -> Mapping[str, Any] | None:
        try:
            octets = self._octets(content)
            if octets is None or digest(octets) != content.digest:
                return None
            plain = json.loads(octets)
        except (OSError, ValueError, TypeError):
            return None
        return plain if isinstance(plain, dict) else None

    def _free(self) -> None:
        """Give back what processes of this machine held that have ended, without waiting for their leases."""
        for name in self._holder.left_by(lambda: [each for (each,) in self._read(statements.HOLDERS)]):
            self._write(partial(statements.release, owner=name, numbers=None), durable=False)

    def _tidy(self) -> None:
        if self._keep and time.monotonic() - self._tidied > _TIDY:
            now = time.time()
            is_over = True
            for seconds in {*self._keep.values()}:
                fates = [fate for fate, each in self._keep.items() if each == seconds]
                is_over &= self.purge(now - seconds, fates=fates) < MOST_FORGOTTEN
            self._tidied = time.monotonic() if is_over else 0.0

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what is held, and the connection; does nothing twice."""
        if self._transactions.is_closed:
            return
        try:
            self._write(partial(statements.release, owner=self._owner, numbers=None), durable=False)
        finally:
            self._transactions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _forget(session: Session, numbers: Sequence[int]) -> None:
    session.many("DELETE FROM messages WHERE number = ?", [(number,) for number in numbers])


def _seconds_by_fate(keep: float | Mapping[State, float | None] | None) -> dict[State, float]:
    by_fate = keep if isinstance(keep, Mapping) else dict.fromkeys(PURGEABLE, keep)
    _check_fates(by_fate)
    return {fate: seconds for fate, seconds in by_fate.items() if seconds is not None}


def _check_fates(fates: Collection[State]) -> None:
    if not {*fates} <= {*PURGEABLE, "doubt"}:
        raise InputError('what is forgotten is "accepted", "refused" or "doubt"')


def digest(octets: bytes) -> bytes:
    """By which an octet that a disk has changed is found."""
    return blake2b(octets, digest_size=16).digest()

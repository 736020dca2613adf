"""What a journal has of a queue's message, looked up before each try: a queue hands some out twice."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from ...errors import InputError
from ...journal.opening import open_journal
from ...journal.sql import Claim, SqlJournal
from ...journal.store import Fate, JournalError, Owed, fates_of
from ...records import fields
from .tries import Account

_log: Final = logging.getLogger("pysmtpx")

Given: TypeAlias = str | os.PathLike[str] | SqlJournal
_NOT_OF_A_POOL: Final = 32_503_680_000.0
"""The year 3000: until then no pool that opens the file sends it, since the queue does."""
_PAUSE: Final = 60.0
"""Seconds until the next try, where the journal could not be written."""


class Waiting(JournalError):
    """Nothing was sent: another process has the message, or died with it less than a lease ago."""

    def __init__(self, seconds: float) -> None:
        super().__init__("another process has the message, or had it a moment ago")
        self.seconds = seconds


def pause(error: JournalError) -> float:
    """Seconds until the next try, where none could be made because of this."""
    return error.seconds if isinstance(error, Waiting) else _PAUSE


class Records:
    """The journal of one sender, opened in each process that sends."""

    def __init__(self, given: object) -> None:
        if not isinstance(given, str | os.PathLike | SqlJournal):
            raise InputError(
                "the journal of a queue is the path of a file, the URL of a database, or a Journal"
            )
        self._given: Given = given
        self._own: SqlJournal | None = None
        self._lock = threading.Lock()
        self.store = _Claimed(self._opened)
        """For the pool."""

    def _opened(self) -> SqlJournal:
        if isinstance(self._given, SqlJournal):
            return self._given
        with self._lock:
            if self._own is None:
                self._own = open_journal(self._given)
            return self._own

    def close(self) -> None:
        """Give the file back; whoever asks next opens it again."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.close()

    @contextmanager
    def claimed(self, key: str | None, payload: Any, account: Account, *, whole: bool) -> Iterator[None]:
        """Enter what is known of the message, hold it meanwhile, and record then what the account says.

        Raises ``Waiting``, and ``JournalError`` where the journal cannot be read or written.
        """
        journal = self._opened()
        claim: Claim = journal.claim(key, payload, due=_NOT_OF_A_POOL)
        if claim.wait is not None:
            raise Waiting(claim.wait)
        is_settled = False
        try:
            account.learn(claim.fates, tries=claim.tries, queued=claim.queued, whole=whole)
            with self.store.of(claim.number, claim.tries):
                yield
            is_settled = _settle(journal, claim.number, account)
        finally:
            if not is_settled:
                _give_back(journal, claim.number)


def _settle(journal: SqlJournal, number: int, account: Account) -> bool:
    """Record who is owed the message still. Who has it, or is in doubt, was recorded by the pool."""
    owed = {str(account.ledger.recipients[place]) for place in account.owed}
    try:
        journal.settle(number, fates_of(account.outcome(), owed), tries=account.attempts)
    except JournalError:
        text = "message %s: its outcome could not be recorded; who is in doubt in the journal stays so"
        _log.exception(text, number, extra=fields(event="failed"))
        return False
    return True


def _give_back(journal: SqlJournal, number: int) -> None:
    try:
        journal.release([number])
    except JournalError:
        text = "message %s could not be given back; its lease ends"
        _log.exception(text, number, extra=fields(event="failed"))


class _Claimed:
    """The journal as a pool sees it that sends only what was claimed, and takes nothing up by itself."""

    def __init__(self, opened: Callable[[], SqlJournal]) -> None:
        self._opened = opened
        self._here = threading.local()
        self._tries: dict[int, int] = {}

    @contextmanager
    def of(self, number: int, tries: int) -> Iterator[None]:
        """What this thread hands to the pool meanwhile is this message, after so many tries."""
        self._here.number, self._tries[number] = number, tries
        try:
            yield
        finally:
            del self._here.number, self._tries[number]

    # -- see Store ------------------------------------------------------------------------

    def add(self, payload: Mapping[str, Any], **_: Any) -> int:
        """The message that was claimed."""
        number: int = self._here.number
        return number

    def take(self, most: int) -> list[Owed]:
        """Nothing: the queue hands out."""
        return []

    def renew(self, numbers: Collection[int]) -> None:
        """As the journal does."""
        self._opened().renew(numbers)

    def release(self, numbers: Collection[int]) -> None:
        """Not yet: whoever claimed it gives it back."""

    def doubt(self, entries: Sequence[tuple[int, Sequence[str]]]) -> None:
        """As the journal does."""
        self._opened().doubt(entries)

    def settle(
        self, number: int, fates: Sequence[Fate], *, tries: int, due: float | None = None, keep: bool = False
    ) -> None:
        """Who was refused is queued until the queue's policy has decided that it is over."""
        told = [each._replace(state="queued") if each.state == "refused" else each for each in fates]
        self._opened().settle(number, told, tries=self._tries.get(number, 0) + tries, keep=True)

    def close(self) -> None:
        """The journal is not the pool's."""

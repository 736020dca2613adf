"""One connection to a database for many threads: those that write at the same time share a transaction."""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from .store import JournalError

_T = TypeVar("_T")
_S = TypeVar("_S")


class NotKept(JournalError):
    """It is written, and holds after ``kill -9``; whether it is on disk nobody can say."""


@dataclass(slots=True)
class _Ticket(Generic[_S, _T]):
    """What one thread wants to be written."""

    action: Callable[[_S], _T]
    durable: bool
    is_done: bool = False
    turn: int = 0
    """Of its transaction."""
    result: list[_T] = field(default_factory=list)
    error: Exception | None = None


class Transactions(ABC, Generic[_S]):
    """A database by one connection; safe in any thread, and in a child of ``os.fork``, which opens its own.

    ``name`` is what errors call it. Its methods raise ``JournalError``.
    """

    errors: tuple[type[Exception], ...]
    """What the database raises, which is told as a ``JournalError``."""

    def __init__(self, name: str) -> None:
        self.name: str = name
        self._is_closed = False
        self.abandon()
        self._opened()
        _open.add(self)

    def abandon(self) -> None:
        """Begin anew, as after a fork: by other locks, and by a connection of this process."""
        self._lock = threading.Lock()
        """Whoever holds it has the connection."""
        self._gate = threading.Lock()
        """Guards the list of those who wait to write."""
        self._waiting: list[_Ticket[_S, Any]] = []
        self._store: _S | None = None
        self._committing: Sequence[_Ticket[_S, Any]] = ()
        """Those whose transaction is about to end, or has, and is not noted yet."""
        self._turn = 0
        """Transactions that have ended."""

    # -- what each database does in its own way --------------------------------------------

    @abstractmethod
    def _connected(self) -> _S:
        """A connection, with all tables there; raises ``errors``."""

    @abstractmethod
    def _begin(self, store: _S, *, durable: bool) -> None:
        """Begin a transaction."""

    @abstractmethod
    def _commit(self, store: _S) -> None:
        """End it; what raises has changed nothing."""

    @abstractmethod
    def _undo(self, store: _S) -> bool:
        """Undo the transaction, if one is under way; whether one was."""

    @abstractmethod
    def _fetched(self, store: _S, query: str, values: Sequence[Any]) -> list[Any]:
        """The rows of a query."""

    @abstractmethod
    def _shut(self, store: _S) -> None:
        """Close the connection."""

    @abstractmethod
    def _advice(self, error: Exception) -> str:
        """What went wrong and what to do about it, for the end of a sentence."""

    def _keep(self, turn: int) -> None:
        """Return when the transaction of this number is on disk, if its end alone does not say that.

        Raises ``NotKept``.
        """

    # -- for all ------------------------------------------------------------------------------

    def _opened(self) -> _S:
        if self._is_closed:
            raise JournalError(f"the journal {self.name} is closed")
        if self._store is None:
            try:
                self._store = self._connected()
            except self.errors as error:
                raise self._failed("opened", error) from error
        return self._store

    def _failed(self, what: str, error: Exception) -> JournalError:
        return JournalError(f"the journal {self.name} cannot be {what}: {self._advice(error)}")

    def begin(self, action: Callable[[_S], object], *, durable: bool = True) -> None:
        """The first ``write``, which may find that this is nothing to write to: it is closed then."""
        try:
            self.write(action, durable=durable)
        except BaseException:
            self.close()
            raise

    def write(self, action: Callable[[_S], _T], *, durable: bool = True) -> _T:
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
        if isinstance(ticket.error, self.errors):
            raise self._failed("written", ticket.error) from ticket.error
        if ticket.error is not None:
            raise ticket.error
        if durable:
            self._keep(ticket.turn)
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
            if self._store is None or not self._undo(self._store):
                self._committed()  # it came behind the end of the transaction: nothing of that is done again
            self._committing = ()
            with self._gate:
                self._waiting = [*(ticket for ticket in batch if not ticket.is_done), *self._waiting]
            raise

    def _write_together(self, tickets: Sequence[_Ticket[_S, Any]]) -> None:
        """Do these in one transaction. What fails is done, with its error, if it is one alone."""
        try:
            store = self._opened()
        except JournalError as error:
            for ticket in tickets:
                ticket.error, ticket.is_done = error, True
            return
        try:
            self._begin(store, durable=any(ticket.durable for ticket in tickets))
            for ticket in tickets:
                ticket.result = [ticket.action(store)]
            self._committing = tickets
            self._commit(store)
            self._committed()
        except Exception as error:
            self._committing = ()
            self._undo(store)
            if len(tickets) == 1 or isinstance(error, NotKept):
                for ticket in tickets:
                    ticket.error, ticket.is_done = error, True

    def _committed(self) -> None:
        if self._committing:
            self._turn += 1
        for ticket in self._committing:
            ticket.turn, ticket.is_done = self._turn, True
        self._committing = ()

    def read(self, query: str, *values: Any) -> list[Any]:
        """The rows; the lock is kept until they are read: cursors of one query share a prepared statement."""
        with self._lock:
            store = self._opened()
            try:
                return self._fetched(store, query, values)
            except self.errors as error:
                raise self._failed("read", error) from error

    @property
    def is_closed(self) -> bool:
        """True once ``close`` was called."""
        return self._is_closed

    def close(self) -> None:
        """Give the connection back; does nothing twice."""
        with self._lock:
            self._is_closed = True
            store, self._store = self._store, None
            if store is not None:
                self._shut(store)


_open: Final[weakref.WeakSet[Transactions[Any]]] = weakref.WeakSet()
_inherited: Final[list[Any]] = []
"""Connections of a parent. A child must not even close one: SQLite would write to files it has no lock of."""


def _begin_anew() -> None:
    for each in tuple(_open):
        _inherited.append(each._store)
        each.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)

"""The threads of a bulk run: each takes a row, records that it is in doubt, sends, and records its fate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Final, Self

from ..errors import InputError, SmtpError
from ..journal.recipients import Fate, Journal
from ..journal.store import JournalError
from ..pool import SmtpPool
from ..pooling.ratelimit import RateLimit
from ..retry import RetryPolicy
from ..server import Server
from .exits import Exit, exit_of
from .recipients import Row
from .show import error_text

_MOST_LOST: Final = 20
"""Messages lost on the line one after the other, after which the server is taken to be out of order."""


class Source:
    """The rows of one turn, for all threads, no faster than the rate."""

    def __init__(self, rows: Iterator[Row], rate: float | None) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._rate = RateLimit(rate)

    def take(self) -> Row | None:
        """The next row, or None at the end. Raises ``InputError`` for a list that cannot be read."""
        with self._lock:
            return next(self._rows, None)

    def moment(self) -> float:
        """The moment from which the next message may go; each is given once."""
        return self._rate.reserve(1)


class Run:
    """One run over one server; a context manager."""

    def __init__(
        self,
        server: Server,
        journal: Journal,
        compose: Callable[[Row], EmailMessage],
        *,
        sender: str,
        connections: int,
        timeout: float,
    ) -> None:
        self._journal = journal
        self._compose = compose
        self._sender = sender
        self._timeout = timeout
        self._connections = connections
        # A line that fails is tried again at once; a refusal for now waits for the next turn.
        self._pool = SmtpPool(server, max_connections=connections, retry=RetryPolicy())
        self._stopping = threading.Event()
        self._lost = 0
        self._threads: list[threading.Thread] = []
        self._counting = threading.Lock()
        self.done = 0
        """Rows of this turn that are through: sent, refused, or not owed it."""
        self.accepted = 0
        """Messages that the server took in this run."""
        self.why = ""
        """Why it stopped early; empty where it did not."""

    def start(self, source: Source, turn: int) -> None:
        """Begin a turn over all rows."""
        self.done = 0
        self._threads = [
            threading.Thread(target=self._work, args=(source, turn), name=f"pysmtpx bulk {number}")
            for number in range(self._connections)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the turn; whether it is there."""
        limit = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, limit - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def pause(self, seconds: float) -> bool:
        """Wait for the next turn; False where the run is at its end."""
        return not self._stopping.wait(seconds)

    def stop(self, why: str) -> None:
        """Take no further row."""
        self.why = self.why or why
        self._stopping.set()

    def _work(self, source: Source, turn: int) -> None:
        fates: list[Fate] = []
        try:
            while not self._stopping.is_set() and (row := source.take()) is not None:
                fates = self._serve(row, source, turn, fates)
                with self._counting:
                    self.done += 1
        except (InputError, JournalError) as error:
            self.stop(error_text(error))
        except BaseException as error:
            self.stop(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._settle(fates)

    def _settle(self, fates: list[Fate]) -> None:
        try:
            self._journal.settle(*fates)
        except JournalError as error:
            self.stop(error_text(error))

    def _serve(self, row: Row, source: Source, turn: int, fates: list[Fate]) -> list[Fate]:
        """One row, from the journal to the server; what is to be recorded with the next one."""
        known = self._journal.get(row.key)
        if known is not None and not known.is_owed:
            return fates
        try:
            row.check()
            message = self._compose(row)
        except InputError as error:
            return [*fates, Fate(row.key, "refused", error_text(error), "input")]
        # Before the doubt: one that waits for the rate is not in doubt.
        if (seconds := source.moment() - time.monotonic()) > 0:
            self._journal.settle(*fates)
            fates = []
            if self._stopping.wait(seconds):
                return []
        if not self._journal.begin(row.key, turn, *fates):
            return []
        return [self._send(row, message)]

    def _send(self, row: Row, message: EmailMessage) -> Fate:
        try:
            result = self._pool.send_message(
                message, sender=self._sender, recipients=[row.address], timeout=self._timeout
            )
        except SmtpError as error:
            return self._failed(row, error)
        self._lost = 0
        if result.withheld_recipients:  # nobody of them is the one of this row
            instead = ", ".join(result.accepted_recipients)
            return Fate(row.key, "refused", f"redirected to {instead} ({result.reply})", "final")
        with self._counting:
            self.accepted += 1
        return Fate(row.key, "accepted", str(result.reply), "final")

    def _failed(self, row: Row, error: SmtpError) -> Fate:
        code = exit_of(error)
        stage = str(error.stage or "")
        if code is Exit.UNKNOWN:
            return Fate(row.key, "doubt", error_text(error), stage)
        if code is Exit.NO_CONNECTION:
            self.stop(error_text(error))
        elif code is Exit.UNSENT:
            self._lost += 1
            if self._lost >= _MOST_LOST:
                self.stop(
                    f"{_MOST_LOST} messages one after the other were lost on the line, "
                    f"the last: {error_text(error)}"
                )
        else:
            self._lost = 0
        is_final = code in (Exit.REJECTED, Exit.USAGE) and not error.temporary
        reply = str(error.rejected_recipients[-1].reply) if error.rejected_recipients else error_text(error)
        return Fate(row.key, "refused" if is_final else "queued", reply, stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop("interrupted" if kind is not None else "")
        if kind is not None and not issubclass(kind, Exception):
            self._pool.close(0)  # whoever is under way then is in doubt, and recorded so
        self.wait(self._timeout)
        self._pool.close()

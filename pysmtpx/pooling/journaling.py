"""A pool's messages in a journal: recorded before they are in doubt, settled, and taken up again."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from ..errors import InputError, SmtpError, UsageError
from ..flow.plan import Recorder, as_options
from ..journal.store import LEASE, JournalError, NotHeld, Owed, Store, fates_of
from ..lock import Wakeup
from ..net.deadline import Deadline, now
from ..outgoing import Outgoing
from ..payload import make_submission, pack, unpack
from ..records import fields
from ..wire.limits import Stage
from ..wire.result import SendResult
from .job import Job
from .tries import is_of_message

_log: Final = logging.getLogger("pysmtpx")

ANY_SIZE: Final = 1 << 62
"""Octets of a message: what a disk takes, a server may refuse."""
_POLL: Final = 1.0
"""Seconds between two looks for what is due by now, or was left by another process."""
_REST: Final = 5.0
"""Seconds until the next look after one that failed."""
_BATCH: Final = 16
_MOST_OCTETS: Final = 64 * 1024 * 1024
"""Of content that was taken up, from which on no more is."""
_PATIENCE: Final = 5 * 86400.0
"""Seconds for which a message that nobody waits for is tried again (RFC 5321 4.5.4.1)."""
_FIRST_PAUSE: Final = 30.0
_LONGEST_PAUSE: Final = 3600.0
_UNRECORDED: Final = "message %s: its outcome could not be recorded; who is in doubt in the journal stays so"


class Entry:
    """What the journal has of one message of a pool."""

    __slots__ = ("_keeper", "is_alone", "number", "queued")

    def __init__(self, keeper: Keeper, number: Any, queued: float, *, is_alone: bool) -> None:
        self._keeper = keeper
        self.number = number
        self.queued = queued
        """Seconds since the epoch."""
        self.is_alone = is_alone
        """Nobody waits for what becomes of it: it was left by another process, or until it was due."""

    def recorder(self, job: Job) -> Recorder:
        """What is called before the write by which it is in doubt, and others of the same flight."""
        return partial(self._keeper.doubt, job)

    def is_for_another(self, error: SmtpError) -> bool:
        """Whether it was kept back only for the sake of another message of its flight."""
        return isinstance(error, NotHeld) and self.number not in error.numbers

    def tried(self, job: Job, delay: float) -> None:
        """It is to be tried again by this process, and whoever is owed that has nothing."""
        self._keeper.settle(job, job.owed, due=time.time() + delay, keep=True)

    def end(self, job: Job, *, stays: bool) -> None:
        """It has its outcome. ``stays``: nobody decided that it is over, so who is owed it still is."""
        outcome, due = job.outcome, None
        stays = stays or isinstance(outcome, JournalError)
        owed = [*job.owed, *_unsent(outcome)] if stays else []
        if self.is_alone and not stays:
            owed = _later(outcome)
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(job.attempts, 20))
            due = time.time() + pause
            if due > self.queued + _PATIENCE:
                owed, due = [], None
        self._keeper.settle(job, owed, due=due)


def _unsent(outcome: SendResult | SmtpError | None) -> tuple[str, ...]:
    return outcome.unsent_recipients if isinstance(outcome, SmtpError) else ()


def _later(outcome: SendResult | SmtpError | None) -> list[str]:
    """Who is to be sent to again where nobody waits: all who have nothing, but for what is for good."""
    if outcome is None:
        return []
    owed = [str(each.recipient) for each in outcome.rejected_recipients if each.temporary]
    if not is_of_message(outcome):
        owed += map(str, _unsent(outcome))
    return owed


class Keeper:
    """The journal of one pool: what the pool holds of it, and the thread that renews that and takes more."""

    def __init__(
        self, store: Store, is_own: bool, room: int, put: Callable[[Job], None], outgoing: Outgoing | None
    ) -> None:
        self._store = store
        self._is_own = is_own
        """It is closed with the pool."""
        self._room = room
        self._put = put
        self._outgoing = outgoing
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._held: set[Any] = set()
        """Numbers whose leases are renewed."""
        self._fed: dict[Any, int] = {}
        """Those that were taken up and have no outcome, with the octets of each."""
        self._wakeup = Wakeup()
        self._thread: threading.Thread | None = None
        self._is_stopped = self._is_ended = False
        self._has_failed = False

    def abandon(self) -> None:
        """Begin with nothing, as after a fork: what was held is the parent's."""
        self._begin()

    # -- in ---------------------------------------------------------------------------

    def enter(self, job: Job, *, durable: bool) -> None:
        """Put a message on disk: in octets, as it is sent from now on.

        Without ``durable`` it may be forgotten by a loss of power, until it is in doubt.
        Raises ``JournalError``, and what is wrong with the message; then it is not there.
        """
        self.start()
        options = job.options
        submission = make_submission(
            *job.given,
            all_or_nothing=options.all_or_nothing,
            allow_long_lines=options.as_is,
            max_size=ANY_SIZE,
        )
        payload, moment = pack(submission, ANY_SIZE), time.time()
        job.written_as(submission.mail)
        number = self._store.add(payload, take=True, durable=durable)
        job.record = Entry(self, number, moment, is_alone=False)
        with self._lock:
            self._held.add(number)

    def resolved(self, job: Job, future: Future[SendResult]) -> None:
        """The future of a message is done: if by a cancellation, nobody is to be sent it."""
        if future.cancelled():
            error = InputError("cancelled")
            error.unsent_recipients = job.recipients
            job.outcome = error
            self.settle(job, ())

    # -- what becomes of it -------------------------------------------------------------

    def doubt(self, job: Job, entries: Sequence[tuple[Any, Sequence[str]]]) -> None:
        """Record who is about to be in doubt; ``job`` is the message where the flow has no name for it."""
        named: list[tuple[Any, Sequence[str]]]
        named = [(job if token is None else token, paths) for token, paths in entries]
        try:
            self._store.doubt([(each.record.number, each.journaled(paths)) for each, paths in named])
        except SmtpError:
            raise
        except Exception as error:
            raise JournalError("the journal could not be written", stage=Stage.CONTENT) from error

    def settle(self, job: Job, owed: Sequence[str], *, due: float | None = None, keep: bool = False) -> None:
        """Record what is known of a message; what cannot be recorded leaves the doubt that is there."""
        record, outcome = job.record, job.outcome
        if record is None or outcome is None:
            return
        try:
            fates = job.fates(fates_of(outcome, owed))
            self._store.settle(record.number, fates, tries=job.attempts, due=due, keep=keep)
        except Exception:
            _log.exception(_UNRECORDED, record.number, extra=fields(event="failed"))
        if not keep:
            self._let_go(record.number)

    def give_back(self, job: Job) -> None:
        """Its caller was interrupted: whoever is queued still is, and whoever is in doubt, too.

        Whoever is known to have it is no longer in doubt. What else is known may be older than the doubt.
        """
        if job.record is None:
            return
        number = job.record.number
        if job.outcome is not None and job.outcome.accepted_recipients:
            self._record_accepted(job, number, job.outcome)
        self._let_go(number)
        try:
            self._store.release([number])
        except Exception:
            text = "message %s could not be given back; its lease ends"
            _log.exception(text, number, extra=fields(event="failed"))

    def _record_accepted(self, job: Job, number: Any, outcome: SendResult | SmtpError) -> None:
        try:
            fates = job.fates(fates_of(outcome))
            # An address that comes twice may be owed the other one still.
            others = {fate.address for fate in fates if fate.state != "accepted"}
            known = [fate for fate in fates if fate.address not in others]
            self._store.settle(number, known, tries=job.attempts, keep=True)
        except Exception:
            _log.exception(_UNRECORDED, number, extra=fields(event="failed"))

    def _let_go(self, number: Any) -> None:
        with self._lock:
            self._held.discard(number)
            was_fed = self._fed.pop(number, None) is not None
            if was_fed and len(self._fed) <= self._room // 2:
                self._wakeup.wake()

    # -- the thread ---------------------------------------------------------------------

    def start(self) -> None:
        """Let the thread run, unless it does or the pool is closed."""
        with self._lock:
            if self._thread is not None or self._is_stopped:
                return
            me = weakref.ref(self)
            self._thread = threading.Thread(
                target=_run, args=(me, self._wakeup), name="pysmtpx-journal", daemon=True
            )
            self._thread.start()

    def stop_feeding(self) -> None:
        """Take nothing more up; what is held is renewed still."""
        self._is_stopped = True

    def end(self) -> None:
        """Give back whatever is left, and close the journal if it is the pool's own; does nothing twice."""
        if self._is_ended:
            return
        self._is_stopped = self._is_ended = True
        thread, self._thread = self._thread, None
        self._wakeup.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_REST)
        with self._lock:
            left, self._held = tuple(self._held), set()
        try:
            try:
                self._store.release(left)
            finally:
                if self._is_own:
                    self._store.close()
        except Exception:
            text = "messages of the journal could not be given back; their leases end"
            _log.exception(text, extra=fields(event="failed"))

    def turn(self, is_time: bool) -> float:
        """Renew what is held, if it is time, and take up what is owed; seconds until the next turn."""
        try:
            if is_time:
                with self._lock:
                    held = tuple(self._held)
                if held:
                    self._store.renew(held)
            while not self._is_stopped and self._take_up():
                pass
            self._has_failed = False
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                _log.exception("the journal fails: %s", error, extra=fields(event="failed"))
            return _REST
        return _POLL

    def _take_up(self) -> bool:
        """Take some more, if there is room; whether there may be more still."""
        with self._lock:
            room = min(_BATCH, self._room - len(self._fed))
            if room <= 0 or sum(self._fed.values()) >= _MOST_OCTETS:
                return False
        taken = self._store.take(room)
        with self._lock:
            self._held.update(owed.number for owed in taken)
        for owed in taken:
            self._feed(owed)
        return len(taken) == room

    def _feed(self, owed: Owed) -> None:
        record = Entry(self, owed.number, owed.queued or time.time(), is_alone=True)
        job = self._job(owed)
        job.record = record
        with self._lock:
            self._fed[owed.number] = job.resident
        if job.outcome is not None:
            job.finish()
            return
        try:
            self._put(job)
        except UsageError:  # the pool takes nothing in any more: another one will
            self._is_stopped = True
            job.withdraw()
            self.give_back(job)

    def _job(self, owed: Owed) -> Job:
        """The message as it was handed in, to those who are owed it; or why it is not sent."""
        flaw: SmtpError
        try:
            if time.time() > owed.expires:
                raise InputError("it expired before it was sent")
            whole = unpack(owed.payload, ANY_SIZE)
            there = set(owed.recipients)
            mail = whole.part(
                [place for place, path in enumerate(whole.mail.recipients) if str(path) in there]
            )
        except SmtpError as error:
            flaw = error
            flaw.unsent_recipients = owed.recipients
        else:
            left = None if owed.expires > 1e100 else Deadline.after(owed.expires - time.time())
            job = Job(
                mail,
                outgoing=self._outgoing,
                options=as_options(False, whole.all_or_nothing, whole.allow_long_lines),
                deadline=left,
                done=_ignore,
            )
            job.attempts = owed.tries
            job.freeze()
            return job
        text = "message %s of the journal is not sent: %s"
        _log.warning(text, owed.number, flaw.text, extra=fields(event="failed"))
        job = Job(b"", done=_ignore)
        job.outcome = flaw
        return job


def _ignore(job: Job) -> None:
    """Nobody waits for it: the pool's events and the journal tell what became of it."""


def _run(keeper: weakref.ref[Keeper], wakeup: Wakeup) -> None:
    """Until the pool is closed, or forgotten."""
    seconds, renewed = 0.0, now()
    while True:
        wakeup.wait(seconds)
        here = keeper()
        if here is None or here._thread is not threading.current_thread():
            return
        is_time = now() - renewed >= LEASE / 3
        if is_time:
            renewed = now()
        seconds = here.turn(is_time)
        del here


_OF_STORE: Final = ("add", "take", "renew", "release", "doubt", "settle", "close")


def opened(journal: str | os.PathLike[str] | Store | None) -> tuple[Store | None, bool]:
    """The store of the option ``journal``, and whether it is the pool's to close.

    Raises ``JournalError``, and ``InputError`` for what is no journal.
    """
    if journal is None:
        return None, False
    if isinstance(journal, str | os.PathLike):
        from ..journal.opening import open_journal

        return open_journal(journal), True
    if not all(callable(getattr(journal, name, None)) for name in _OF_STORE):
        raise InputError("journal is the path of a file, the URL of a database, or a journal")
    return journal, False

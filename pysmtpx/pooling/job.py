"""One message in a pool: what is sent of it, to whom, how often it was tried, and how it ended."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from email.message import Message
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from .. import cures, observing
from ..errors import ConnectionLost, DeliveryUnknown, InputError, SessionLimitReached, SmtpError
from ..flow.allowance import Allowance
from ..flow.plan import DEFAULT, Options, Plan, Recorder, goes_whole, make_plan
from ..journal.store import Fate, JournalError, NotHeld, State
from ..message import NARROW, WIDE, AnyMessage, prepare
from ..mime import raw
from ..mime.parts import Part
from ..net.deadline import Deadline, now
from ..observing import Peer, Step
from ..outcome import Outcome, Status
from ..outgoing import Outgoing, Screen, told
from ..retry import RetryPolicy
from ..sending import account_for
from ..wire.capabilities import Capabilities
from ..wire.content import Unwritten
from ..wire.envelope import MailObject, envelope_twice, part
from ..wire.limits import Stage
from ..wire.params import MailFromParams, RcptParams
from ..wire.result import SendResult
from .blame import Blame, Suspicion
from .connection import PooledConnection
from .tries import Tries

_Email: TypeAlias = "Message[Any, Any]"


class Envelope(NamedTuple):
    """What the caller says of a message's envelope; None is what its headers say."""

    sender: str | None = None
    recipients: str | Sequence[str] | None = None
    mail_params: MailFromParams | None = None
    rcpt_params: RcptParams = None


_NONE: Final = Envelope()


def taken_apart(
    mail: MailObject | AnyMessage, envelope: Envelope
) -> tuple[MailObject | AnyMessage, Envelope]:
    """A mail object whose content is an email message as the two; any other message as it is."""
    if not (isinstance(mail, MailObject) and isinstance(mail.content, Unwritten)):
        return mail, envelope
    return mail.content.message, Envelope(mail.sender, mail.recipients, mail.mail_params, mail.rcpt_params)


class Forms:
    """The mail objects of one message, for servers with and without 8BITMIME.

    An ``email`` message, or the octets or file of one, becomes a mail object
    once, so Date and Message-ID stay the same in all tries. ``envelope`` is for
    these: with a ``MailObject`` it raises ``UsageError``.
    """

    def __init__(
        self, mail: MailObject | AnyMessage, envelope: Envelope | None, outgoing: Outgoing | None = None
    ) -> None:
        if isinstance(mail, MailObject) and envelope is not None and any(e is not None for e in envelope):
            raise envelope_twice(mail)
        self._mail, self._envelope = taken_apart(mail, envelope or _NONE)
        self._outgoing = outgoing
        self.withheld: tuple[str, ...] = ()
        """Whom it is kept from."""
        self._screen: Screen | None = None
        self._finished: MailObject | None = None
        """What leaves for a server that offers everything, where functions have a say in that."""
        self.whole = self._mail if isinstance(self._mail, MailObject) and outgoing is None else None
        """To all recipients, for a server that offers everything; None before the first look at it."""
        self._flaw: SmtpError | None = None
        """Why no mail object can be made of the message."""
        self._narrow: MailObject | None = None
        """The same for a server without 8BITMIME, where that makes a difference."""
        self._original: _Email | Part | None = None
        """What that is made from."""

    @property
    def given(self) -> tuple[MailObject | AnyMessage, Envelope]:
        """The message, and what the caller said of its envelope."""
        return self._mail, self._envelope

    def freeze(self) -> None:
        """Make sure that what the caller does to the message from now on changes nothing.

        Where no mail object can be made of it, ``fitting`` tells why.
        """
        try:
            mail = self.prepared()
        except SmtpError:
            return
        content = mail.content.frozen()
        if content is not mail.content:
            self.whole = part(mail, range(len(mail.recipients)), content)
        if isinstance(self._original, Message):
            self._original = Part(self._original)

    def prepared(self) -> MailObject:
        """The whole message for a server that offers everything; the plan tells what one does not."""
        if self._flaw is not None:
            raise self._flaw
        if self.whole is None:
            try:
                given = self._mail
                whole = given if isinstance(given, MailObject) else self._prepare(given, WIDE)
                self.whole = whole if self._outgoing is None else self._screened(whole, self._outgoing)
            except SmtpError as error:
                self._flaw = error  # for good: what the caller changes later must not count
                raise
            if isinstance(self._mail, Message) and _is_8bit(self.whole):
                self._original = self._mail
        return self.whole

    def fitting(self, capabilities: Capabilities) -> MailObject:
        """The whole message, for a server with these capabilities."""
        whole = self.prepared() if self.whole is None else self.whole
        if self._original is None or capabilities.eightbitmime:
            return whole if self._outgoing is None else self._leaving(whole, self._outgoing)
        if self._narrow is None:
            narrow = self._prepare(self._original, NARROW, like=whole)
            if self._screen is not None:
                narrow = self._screen.applied(narrow)
            self._narrow = narrow if self._outgoing is None else self._outgoing.finished(narrow)
        return self._narrow

    def _screened(self, whole: MailObject, outgoing: Outgoing) -> MailObject:
        """As it goes; who is not sent to is decided once, and tries know their recipients by place."""
        self._screen = outgoing.screen(whole)
        if self._screen is None:
            return whole
        self.withheld = self._screen.withheld
        return self._screen.applied(whole)

    @property
    def redirection(self) -> Screen | None:
        """Who has it instead of others; None where it goes to nobody but those whom it is for."""
        screen = self._screen
        return screen if screen is not None and screen.is_redirected else None

    def _leaving(self, whole: MailObject, outgoing: Outgoing) -> MailObject:
        """What leaves for a server that offers everything; made once."""
        if self._finished is None:
            self._finished = outgoing.finished(whole)
            if self._original is None:
                self.whole = self._finished  # and what it was read from is no more needed
        return self._finished

    def _prepare(
        self, message: AnyMessage | Part, capabilities: Capabilities, like: MailObject | None = None
    ) -> MailObject:
        try:
            if like is not None and isinstance(message, Message | Part):
                message = _stamped(message, like)
            return prepare(message, capabilities, **self._envelope._asdict())
        except SmtpError:
            raise
        except Exception as error:
            raise InputError("the message could not be read") from error


class Record(Protocol):
    """What a pool's journal has of one message."""

    number: Any
    """What it is called there."""

    def recorder(self, job: Job) -> Recorder:
        """What is called before the write by which it is in doubt, and others of the same flight."""

    def is_for_another(self, error: SmtpError) -> bool:
        """Whether it was kept back only for the sake of another message of its flight."""

    def tried(self, job: Job, delay: float) -> None:
        """Record a try after which another one is to come in so many seconds."""

    def end(self, job: Job, *, stays: bool) -> None:
        """Record its outcome. ``stays``: who is owed it still is, since only the pool came to its end."""


class Job:
    """One message, from when it is handed to a pool to its outcome, which it gets exactly once.

    ``future`` is resolved with the outcome, and may be cancelled until ``begin``;
    ``done`` is called with the job afterwards, outside every lock. A call that
    sends in its own thread needs neither.

    ``begin``, ``finish`` and ``end`` are safe in any thread. The rest belongs to
    whoever has the job: its caller, the queue, or the worker that took it.
    """

    def __init__(
        self,
        mail: MailObject | AnyMessage,
        *,
        envelope: Envelope | None = None,
        outgoing: Outgoing | None = None,
        options: Options = DEFAULT,
        deadline: Deadline | None = None,
        future: Future[SendResult] | None = None,
        done: Callable[[Job], None] | None = None,
        began: float | None = None,
    ) -> None:
        self.mail: Any = mail
        """As the caller gave it; what is sent is another matter once it is frozen."""
        self._forms = Forms(mail, envelope, outgoing)
        self._outgoing = outgoing
        self.deadline = deadline
        self.attempts = 0
        """Tries so far."""
        self.began = now() if began is None else began
        """When it was handed in; from the first ``begin`` with a moment on, that."""
        self.newer_than = -math.inf
        """It goes only on a connection that was made after this moment."""
        self.is_recalled = False
        """Its caller has left: what is under way ends, and nothing more is begun."""
        self.connection: PooledConnection | None = None
        """On which it is under way in a worker."""
        self.outcome: SendResult | SmtpError | None = None
        """What is known by now, None before the first try; final once it is finished."""
        self.suspicion: Suspicion | None = None
        """Why it is about to be tried on a new connection."""
        self.step = observing.begin("send", mail=mail) if observing.observers else None
        """The message, for those who observe; begun in the thread that hands it in."""
        self.trying: Step | None = None
        """The try that is under way."""
        self.record: Record | None = None
        """What the journal has of it, where the pool has one."""
        self.options = options
        self._future = future
        self._done = done
        # Nobody but its caller ends what is nobody's future.
        self._lock = _NO_LOCK if future is None and done is None else threading.Lock()
        self._has_begun = self._is_finished = False
        self._finisher: int | None = None
        self._spared = 0
        self._is_part = False
        """The next transaction goes on with what a session had no room for."""
        self._tries: Tries | None = None

    # -- what is sent -------------------------------------------------------------------

    @property
    def given(self) -> tuple[MailObject | AnyMessage, Envelope]:
        """The message, and what its caller said of the envelope."""
        return self._forms.given

    def written_as(self, mail: MailObject) -> None:
        """Send this from now on, which is the message in octets, with its envelope."""
        self._forms = Forms(mail, None, self._outgoing)

    def freeze(self) -> None:
        """Make sure that what the caller does to the message from now on changes nothing."""
        self._forms.freeze()

    @property
    def whole(self) -> MailObject | None:
        """To all recipients; None before the first look at it, or if no mail object can be made of it."""
        return self._forms.whole

    @property
    def resident(self) -> int:
        """Octets of content that are kept in memory for it."""
        whole = self.whole
        return 0 if whole is None else whole.content.resident

    @property
    def recipients(self) -> tuple[str, ...]:
        """Every recipient; nobody before the message was first looked at, or if it has no envelope."""
        whole = self.whole
        return () if whole is None else whole.recipients

    @property
    def recipients_count(self) -> int:
        """How many the next try goes to, for the rate of the pool; 1 if not known, 0 for a later part."""
        if self._is_part:
            return 0  # they were counted with the first part
        if self._tries is not None:
            return len(self._tries.owed)
        try:
            return len(self._forms.prepared().recipients)
        except SmtpError:
            return 1

    def count_on(self, connection: PooledConnection) -> int:
        """To how many it goes on this connection, for the rate of its server."""
        allowance, whole = connection.allowance, self.whole
        if whole is None:
            return max(1, self.recipients_count)
        owed = self._owed(whole)
        return len(owed) if allowance is None else max(1, len(allowance.places(owed)))

    def fits(self, allowance: Allowance) -> bool:
        """Whether a session that has this left is of use for it; it is found out there if nobody can tell."""
        whole = self.whole
        if whole is None:
            return True
        # In a new session the plan says what no session takes: else there would be one dial after the other.
        is_whole = goes_whole(whole, self.options)
        return allowance.is_unused or allowance.takes(self._owed(whole), whole=is_whole)

    def plan(self, connection: PooledConnection, *, bdat: bool = False) -> Plan:
        """The transaction for those who are owed one, on this connection.

        ``bdat``: by BDAT, whatever the options say. Raises an ``SmtpError`` that
        names the recipients if there can be none.
        """
        channel, server, whole = connection.channel, connection.server, None
        assert channel is not None
        options = replace(self.options, bdat=True) if bdat and not self.options.bdat else self.options
        try:
            whole = self._forms.fitting(connection.capabilities)
            plan = make_plan(
                whole if self._tries is None else self._owed_of(whole),
                connection.capabilities,
                protocol=server.server.protocol,
                is_tls=channel.is_tls,
                options=options,
                is_local=server.is_local,
                allowance=channel.allowance,
            )
        except SmtpError as error:
            self._account_for(error, whole)
            raise
        except Exception as cause:
            flaw = InputError("the message could not be read", stage=Stage.INPUT)
            self._account_for(flaw, whole)
            raise flaw from cause
        if self.record is not None:
            plan = plan._replace(recorder=self.record.recorder(self))
        learnt = server.recipient_limit
        return plan if learnt is None else plan.at_most(learnt)

    def _account_for(self, error: SmtpError, whole: MailObject | None) -> None:
        whole = whole or self.whole
        if whole is None and isinstance(self.mail, MailObject):
            whole = self.mail  # it has its envelope whether or not its message can be written
        if whole is not None:
            account_for(error, self._owed_of(whole))

    def in_doubt(self, error: BaseException) -> SmtpError:
        """Its outcome if it was under way when something failed that should not."""
        doubt = DeliveryUnknown("the sending broke off in the middle", stage=Stage.FINAL)
        if (whole := self.whole) is not None:
            doubt.unknown_recipients = tuple(self._owed(whole))
        doubt.__cause__ = error
        return doubt

    def _owed_of(self, mail: MailObject) -> MailObject:
        """The part of a mail object for those who are owed it."""
        places = self._owed_places(mail)
        return mail if places is None else part(mail, places)

    def _owed(self, mail: MailObject) -> Sequence[str]:
        places = self._owed_places(mail)
        return mail.recipients if places is None else [mail.recipients[place] for place in places]

    def _owed_places(self, mail: MailObject) -> Sequence[int] | None:
        """None: all of them. Another thread may look at it while a try ends, hence once."""
        owed = () if self._tries is None else self._tries.owed
        return None if len(owed) in (0, len(mail.recipients)) else owed

    # -- tries ----------------------------------------------------------------------------

    @property
    def is_late(self) -> bool:
        """True if its time has passed."""
        return self.deadline is not None and self.deadline.remaining() <= 0

    def begin(self, moment: float | None = None) -> bool:
        """Begin, or go on; False where it was cancelled before it began, or has its outcome.

        ``moment``, at the first time, is when its tries begin.
        """
        with self._lock:
            if self._is_finished or self._has_begun:
                return not self._is_finished
            if self._future is not None and not self._future.set_running_or_notify_cancel():
                self._is_finished = True
                self.observed()
                return False
            self._has_begun = True
        if moment is not None:
            self.began = moment
        return True

    @property
    def may_spare(self) -> bool:
        """Whether what a connection came to that had been used before need not be noted as a try.

        Not if the content could be read only once, nor for ever: each of a
        pool's connections might have died, or have sent all that it may.
        """
        if self._spared >= _MOST_SPARED or self.is_late:
            return False
        whole = self.whole
        return whole is None or not _is_spent(whole)

    def spare(self, blame: Blame) -> None:
        """The connection alone is to blame: that was no try."""
        if not blame.is_sure:
            self._spared += 1
        if blame.retires:
            self.newer_than = now()
        self.suspicion = blame.suspicion or self.suspicion

    def on(self, connection: PooledConnection) -> None:
        """A try on this connection begins, for those who observe."""
        channel, server = connection.channel, connection.server
        assert channel is not None
        about = {"mail": self.mail, "attempt": self.attempts, "parent": self.step, "link": channel.step}
        peer = Peer.of(server.server)
        self.trying = observing.begin("try", peer, **about)
        if self.step is not None:
            self.step.peer = peer

    def observed(self, outcome: SendResult | BaseException | None = None) -> None:
        """Its time is over, for those who observe; does nothing twice."""
        if self.step is not None:
            self.step.mail = self.whole or self.mail
            observing.end(self.step, outcome)

    def goes_on(
        self, error: SessionLimitReached, policy: RetryPolicy, moment: float, *, moves: bool = False
    ) -> bool:
        """Enter what a part of it came to, if the rest may go over another connection at once.

        No try is charged: with each part there are fewer left. ``moves`` is that of ``note``.
        """
        tries, whole = self._tries, self.whole
        is_late = self.is_late or policy.pause(0, self.began, moment, at_once=True) is None
        has_part = bool(error.accepted_recipients or error.rejected_recipients)
        if whole is None or not has_part or is_late or self.is_recalled:
            return False
        if tries is None:
            tries = self._tries = Tries(whole.recipients)
        self.newer_than, self._spared, self._is_part = -math.inf, 0, True
        try:
            tries.go_on(error, policy, moves=moves)
        finally:  # where ``retryable`` raises, too
            self._take_stock(tries, error)
        if self.record is not None:
            self.record.tried(self, 0.0)
        return True

    def note(
        self, outcome: SendResult | SmtpError, policy: RetryPolicy, moment: float, *, moves: bool = False
    ) -> float | None:
        """Enter what a try came to, which counts; seconds until the next one, or None: it is over.

        ``moves``: another server may have at once what this one refused for its
        own sake. The four tuples of an error are made to account for the whole message.
        """
        record = self.record
        if record is not None and isinstance(outcome, SmtpError) and record.is_for_another(outcome):
            return 0.0
        self.attempts += 1
        self.newer_than, self._is_part = -math.inf, False
        if self._tries is None and isinstance(outcome, SendResult) and not outcome.rejected_recipients:
            self.outcome = outcome  # everybody has it, and nobody is owed another try
            if self._forms.withheld:
                self.outcome = told(outcome, self._forms.withheld)
            return None
        self._enter(outcome, policy, moves)
        tries, whole = self._tries, self.whole
        if tries is None or whole is None or not tries.owed or self.is_recalled:
            return None
        delay = policy.pause(self.attempts, self.began, moment, at_once=moves)
        if delay is None or (self.deadline is not None and self.deadline.remaining() <= delay):
            return None
        if _is_spent(whole):
            return None
        if record is not None:
            record.tried(self, delay)
        return delay

    def _enter(self, outcome: SendResult | SmtpError, policy: RetryPolicy, moves: bool = False) -> None:
        if self._tries is None:
            try:
                self._tries = Tries(self._forms.prepared().recipients)
            except SmtpError:  # it cannot be written, and perhaps nobody can tell its recipients
                if isinstance(outcome, SmtpError):
                    self._account_for(outcome, None)
                self.outcome = outcome
                return
        try:
            self._tries.enter(outcome, policy, whole=self.options.all_or_nothing, moves=moves)
        finally:  # where ``retryable`` raises, too
            self._take_stock(self._tries, outcome)

    def has_noted(self, outcome: SendResult | SmtpError) -> bool:
        """Whether this is the try, or the part of one, that was entered last."""
        return self._tries is not None and self._tries.noted is outcome

    def stand(self, outcome: SendResult | SmtpError) -> None:
        """Something raised where this was weighed: it counts all the same, beside the tries before it."""
        if self._tries is None:
            self.outcome = outcome
        elif not self.has_noted(outcome):
            self._enter(outcome, _NO_MORE)

    def _take_stock(self, tries: Tries, outcome: SendResult | SmtpError) -> None:
        """What is known by now; nothing new where this could not be entered."""
        if not self.has_noted(outcome):
            return
        self.outcome = tries.outcome()
        if self._forms.withheld:
            self.outcome = told(self.outcome, self._forms.withheld)

    # -- the end --------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The status of the outcome; ``"unsent"`` before there is one."""
        if isinstance(self.outcome, SendResult):
            return "accepted"
        return "unsent" if self.outcome is None else Outcome.of(self.mail, self.outcome).status

    def end(self, error: SmtpError, *, stays: bool = False) -> bool:
        """Finish with what is known or, where it was never tried, with this error.

        False where it has its outcome already, or was cancelled. ``stays`` is that of ``finish``.
        """
        if not (self.begin() or self._finisher is not None):
            return False
        if self.outcome is None:
            self._enter(error, _NO_MORE)
        return self.finish(stays=stays)

    def finish(self, *, stays: bool = False) -> bool:
        """Hand over the outcome as it is known by now; False, and nothing, the second time.

        ``stays``: in the journal, if there is one, it is owed still, since only the pool came to its end.
        """
        if not (self.begin() or self._finisher is not None):
            return False
        me, future = threading.get_ident(), self._future
        with self._lock:
            # A thread that an interrupt took out of the middle of this may do it again.
            if self._is_finished and (self._finisher != me or future is None or future.done()):
                return False
            self._is_finished, self._finisher = True, me
        if self.outcome is None:
            self._enter(ConnectionLost("the message was not sent", stage=Stage.INPUT), _NO_MORE)
        if self.record is not None:
            self.recorded(stays=stays)
        if self.step is None:
            self._hand_over()
            return True
        try:
            self.observed(self.outcome)
            with observing.within(self.step):
                self._hand_over()
        except BaseException:
            # An observer may end this thread by SystemExit, and nobody must wait in vain.
            if future is None or not future.done():
                self._hand_over()
            raise
        return True

    def recorded(self, *, stays: bool = False) -> None:
        """Record its outcome in the journal, where there is one."""
        if self.record is None:
            return
        outcome = self.outcome
        is_unrecorded = isinstance(outcome, JournalError) and not isinstance(outcome, NotHeld)
        if isinstance(outcome, SmtpError) and (stays or is_unrecorded):
            outcome.cure = cures.stays_in_journal()
        self.record.end(self, stays=stays)

    @property
    def owed(self) -> list[str]:
        """Who is to be sent to again, as it stands."""
        tries = self._tries
        places = () if tries is None else (*tries.owed, *tries.put_off)
        return [] if tries is None else [str(tries.ledger.recipients[place]) for place in places]

    def journaled(self, paths: Sequence[str]) -> Sequence[str]:
        """Those of the journal for whom a transaction with these recipients is."""
        screen = self._forms.redirection
        if screen is None:
            return paths
        return [*(path for path in paths if path not in screen.instead), *screen.withheld]

    def fates(self, told: list[Fate]) -> list[Fate]:
        """What became of those of the journal, by what became of those whom the message was sent to.

        Whoever it was kept from is sent nothing; with those whose mail goes to others it is not over before
        these have it.
        """
        withheld, screen = self._forms.withheld, self._forms.redirection
        if not withheld:
            return told
        states = {fate.state for fate in told if screen is not None and fate.address in screen.instead}
        state = next((each for each in _UNDECIDED if each in states), _REFUSED)
        return [*told, *(Fate(str(path), state, "withheld", str(Stage.INPUT)) for path in withheld)]

    def withdraw(self) -> None:
        """It is not to be sent by this pool: nothing of it is told to anybody."""
        with self._lock:
            self._is_finished = True

    def _hand_over(self) -> None:
        future = self._future
        if future is not None:
            if isinstance(self.outcome, SmtpError):
                future.set_exception(self.outcome)
            elif self.outcome is not None:
                future.set_result(self.outcome)
        if self._done is not None:
            self._done(self)

    def __repr__(self) -> str:
        return f"<Job {self.status}, {self.attempts} tries, {len(self.recipients)} recipients>"


_NO_LOCK: Final = contextlib.nullcontext()
_NO_MORE: Final = RetryPolicy(attempts=1)
_MOST_SPARED: Final = 3
_UNDECIDED: Final[tuple[State, ...]] = ("queued", "doubt")
_REFUSED: Final[State] = "refused"


def _is_spent(mail: MailObject) -> bool:
    """Whether the content could be read only once, and was."""
    try:
        mail.content.check_unspent()
    except InputError:
        return True
    return False


def _is_8bit(mail: MailObject) -> bool:
    measure = mail.content.measure
    return measure is not None and measure.is_8bit


_STAMPS: Final = {"date": "Date", "message-id": "Message-ID"}


def _stamped(message: _Email | Part, sent: MailObject) -> Part:
    """A copy of the message with the Date and Message-ID that it was given in its first form."""
    copy = message.copy() if isinstance(message, Part) else Part(message)
    head = b"".join(map(bytes, sent.content.for_bdat(binary=True)))[: raw.MAX_HEADER + 1]
    for field in raw.section(head).fields:
        if field.name in _STAMPS and not copy.has(field.name):
            copy.put(_STAMPS[field.name], field.text)
    return copy

"""One message in a pool: what is sent of it, to whom, how often it was tried, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, NamedTuple

from ..errors import ConnectionLost, DeliveryUnknown, InputError, SmtpError, UsageError
from ..flow.plan import DEFAULT, Options, Plan
from ..message import AnyMessage
from ..net.deadline import Deadline, now
from ..outcome import Outcome, Status
from ..retry import RetryPolicy
from ..sending import account_for, plan_for
from ..wire.capabilities import Capabilities, Protocol
from ..wire.envelope import MailObject, part
from ..wire.limits import Stage
from ..wire.params import MailFromParams, RcptToParams
from ..wire.result import SendResult
from .forms import Envelope, Forms
from .health import Health, refusal_of
from .tries import Tries


class Suspicion(NamedTuple):
    """That a connection which had worked took no more, whatever the message."""

    health: Health
    refusal: object
    messages: int | None
    """How many it had taken; None where that says nothing."""

    def judge(self, outcome: SendResult | SmtpError) -> None:
        """See by what became of the message on a new connection whether that was so."""
        if refusal_of(outcome) == self.refusal:
            self.health.refusal_repeated(self.refusal)
        elif self.messages is not None and isinstance(outcome, SendResult):
            self.health.limit_found(self.messages, self.refusal)


class Job:
    """One message, from when it is handed to a pool to its outcome, which it gets exactly once.

    ``future`` is resolved with the outcome, and may be cancelled until ``begin``;
    ``done`` is called with the job afterwards, outside every lock. A call that
    sends in its own thread needs neither.

    ``sender`` and the rest of the envelope are for an ``email`` message, or the
    octets or file of one: with a ``MailObject`` they raise ``UsageError``.

    ``begin``, ``finish`` and ``end`` are safe in any thread. The rest belongs to
    whoever has the job: its caller, the queue, or the worker that took it.
    """

    __slots__ = (
        "_done",
        "_forms",
        "_future",
        "_has_begun",
        "_is_finished",
        "_lock",
        "_options",
        "_spared",
        "_tries",
        "attempts",
        "began",
        "deadline",
        "is_recalled",
        "mail",
        "not_before",
        "outcome",
        "suspicion",
    )

    def __init__(
        self,
        mail: MailObject | AnyMessage,
        *,
        sender: str | None = None,
        recipients: str | Sequence[str] | None = None,
        mail_params: MailFromParams | None = None,
        rcpt_params: Sequence[RcptToParams] | None = None,
        options: Options = DEFAULT,
        deadline: Deadline | None = None,
        future: Future[SendResult] | None = None,
        done: Callable[[Job], None] | None = None,
        began: float | None = None,
    ) -> None:
        envelope = Envelope(sender, recipients, mail_params, rcpt_params)
        if isinstance(mail, MailObject) and any(each is not None for each in envelope):
            raise UsageError("a MailObject has an envelope of its own")
        self.mail: Any = mail
        """As the caller gave it; what is sent is another matter once it is frozen."""
        self.deadline = deadline
        self.attempts = 0
        """Tries so far."""
        self.began = now() if began is None else began
        """When it was handed in; from the first ``begin`` with a moment on, that."""
        self.not_before = self.began
        """When the next try may begin."""
        self.is_recalled = False
        """Its caller has left: what is under way ends, and nothing more is begun."""
        self.outcome: SendResult | SmtpError | None = None
        """What is known by now, None before the first try; final once it is finished."""
        self._forms = Forms(mail, envelope)
        self._options = options
        self._future = future
        self._done = done
        self._lock = threading.Lock()
        self._has_begun = self._is_finished = False
        self._spared = 0
        self.suspicion: Suspicion | None = None
        """Why it is about to be tried on a new connection."""
        self._tries: Tries | None = None

    # -- what is sent -------------------------------------------------------------------

    def freeze(self) -> None:
        """Make sure that what the caller does to the message from now on changes nothing."""
        self._forms.freeze()

    @property
    def resident(self) -> int:
        """Octets of content that are kept in memory for it."""
        return self._forms.resident

    @property
    def recipients(self) -> tuple[str, ...]:
        """Every recipient; nobody before the message was first looked at, or where it has no envelope."""
        whole = self._forms.whole
        return () if whole is None else whole.recipients

    @property
    def recipients_count(self) -> int:
        """How many the next try goes to; 1 where nobody can tell."""
        if self._tries is not None:
            return len(self._tries.owed)
        try:
            return len(self._forms.prepared().recipients)
        except SmtpError:
            return 1

    def plan(
        self,
        capabilities: Capabilities,
        protocol: Protocol,
        *,
        is_tls: bool,
        is_local: bool = False,
        bdat: bool = False,
    ) -> Plan | SmtpError:
        """The transaction for those who are owed one, or why there is none, on such a connection.

        ``is_local``: the server is on this host. ``bdat``: by BDAT, whatever the
        options say.
        """
        options = replace(self._options, bdat=True) if bdat and not self._options.bdat else self._options
        try:
            mail = self._owed_of(self._forms.fitting(capabilities))
        except SmtpError as error:
            if self._forms.whole is not None:
                account_for(error, self._owed_of(self._forms.whole))
            return error
        return plan_for(mail, capabilities, protocol, is_tls, options, is_local)

    def in_doubt(self, error: BaseException) -> SmtpError:
        """Its outcome if it was under way when something failed that should not."""
        doubt = DeliveryUnknown("the sending broke off in the middle", stage=Stage.FINAL)
        if self._forms.whole is not None:
            doubt.unknown_recipients = self._owed_of(self._forms.whole).recipients
        doubt.__cause__ = error
        return doubt

    def _owed_of(self, mail: MailObject) -> MailObject:
        """The part of a mail object for those who are owed it."""
        tries = self._tries
        if tries is None or len(tries.owed) in (0, len(mail.recipients)):
            return mail
        return part(mail, tries.owed)

    # -- tries ----------------------------------------------------------------------------

    def begin(self, moment: float | None = None) -> bool:
        """Begin, or go on; False where it was cancelled before it began, or has its outcome.

        ``moment``, at the first time, is when its tries begin.
        """
        with self._lock:
            if self._is_finished or self._has_begun:
                return not self._is_finished
            if self._future is not None and not self._future.set_running_or_notify_cancel():
                self._is_finished = True
                return False
            self._has_begun = True
        if moment is not None:
            self.began = moment
        return True

    def spare(self) -> bool:
        """Whether what a connection came to that had been used before need not be noted as a try.

        Not where the content could be read only once, nor for ever: each of a
        pool's connections might have died, or have sent all that it may.
        """
        self._spared += 1
        whole = self._forms.whole
        if self.deadline is not None and self.deadline.remaining() <= 0:
            return False
        return self._spared <= _MOST_SPARED and not (whole is not None and _is_spent(whole))

    def note(self, outcome: SendResult | SmtpError, policy: RetryPolicy, moment: float) -> float | None:
        """Enter what a try came to, which counts; seconds until the next one, or None: it is over.

        The four tuples of an error are made to account for the whole message.
        """
        self.attempts += 1
        self._enter(outcome, policy)
        tries, whole = self._tries, self._forms.whole
        if tries is None or whole is None or not tries.owed or self.is_recalled:
            return None
        delay = policy.pause(self.attempts, self.began, moment)
        if delay is None or (self.deadline is not None and self.deadline.remaining() <= delay):
            return None
        if _is_spent(whole):
            return None
        self.not_before = moment + delay
        return delay

    def _enter(self, outcome: SendResult | SmtpError, policy: RetryPolicy) -> None:
        if self._tries is None:
            if isinstance(outcome, SendResult) and not outcome.rejected_recipients:
                self.outcome = outcome  # everybody has it, and nobody is owed another try
                return
            try:
                self._tries = Tries(self._forms.prepared().recipients)
            except SmtpError:  # it cannot be written
                if isinstance(self.mail, MailObject) and isinstance(outcome, SmtpError):
                    account_for(outcome, self.mail)
                self.outcome = outcome
                return
        self._tries.enter(outcome, policy, whole=self._options.all_or_nothing)
        self.outcome = self._tries.outcome()

    # -- the end --------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The status of the outcome; ``"unsent"`` before there is one."""
        return "unsent" if self.outcome is None else Outcome.of(self.mail, self.outcome).status

    def end(self, error: SmtpError) -> bool:
        """Finish with what is known or, where it was never tried, with this error.

        False where it has its outcome already, or was cancelled.
        """
        if not self.begin():
            return False
        if self.outcome is None:
            self._enter(error, _NO_MORE)
        return self.finish()

    def finish(self) -> bool:
        """Hand over the outcome as it is known by now; False, and nothing, the second time."""
        if not self.begin():
            return False
        with self._lock:
            if self._is_finished:
                return False
            self._is_finished = True
        if self.outcome is None:
            self._enter(ConnectionLost("the message was not sent", stage=Stage.INPUT), _NO_MORE)
        if self._future is not None:
            if isinstance(self.outcome, SmtpError):
                self._future.set_exception(self.outcome)
            elif self.outcome is not None:
                self._future.set_result(self.outcome)
        if self._done is not None:
            self._done(self)
        return True

    def __repr__(self) -> str:
        return f"<Job {self.status}, {self.attempts} tries, {len(self.recipients)} recipients>"


_NO_MORE: Final = RetryPolicy(attempts=1)
_MOST_SPARED: Final = 3


def _is_spent(mail: MailObject) -> bool:
    """Whether the content could be read only once, and was."""
    try:
        mail.content.check_unspent()
    except InputError:
        return True
    return False

"""One message in a pool: what is sent of it, to whom, how often it was tried, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from email.message import Message
from typing import Any, Final, TypeAlias

from ..errors import ConnectionLost, InputError, SmtpError, UsageError
from ..flow.plan import DEFAULT, Options
from ..flow.stream import Entry
from ..message import AnyMessage, prepare
from ..mime import bodies, raw
from ..net.deadline import Deadline, now
from ..outcome import Outcome, Status
from ..retry import RetryPolicy
from ..sending import account_for, make_entry
from ..wire.capabilities import Capabilities, Protocol
from ..wire.envelope import MailObject
from ..wire.limits import Stage
from ..wire.params import MailFromParams, RcptToParams
from ..wire.result import SendResult
from .standing import Standing

_WIDE: Final = Capabilities({"8BITMIME": (), "SMTPUTF8": ()})
_NARROW: Final = Capabilities({"SMTPUTF8": ()})
"""Of all that a server may offer, 8BITMIME alone changes the octets of a message."""

_Email: TypeAlias = "Message[Any, Any]"


class Job:
    """One message, from when it is handed to a pool to its outcome, which it gets exactly once.

    ``future`` is resolved with the outcome, and may be cancelled until ``begin``;
    ``done`` is called with the job afterwards, outside every lock. A call that
    sends in its own thread needs neither.

    An ``email`` message, or the octets or file of one, becomes a mail object
    once, so Date and Message-ID stay the same in all tries. ``sender`` and the
    rest of the envelope are for these only: with a ``MailObject`` they raise
    ``UsageError``.

    ``begin``, ``finish`` and ``end`` are safe in any thread. The rest belongs to
    whoever has the job: its caller, the queue, or the worker that took it.
    """

    __slots__ = (
        "_done",
        "_envelope",
        "_flaw",
        "_future",
        "_has_begun",
        "_is_finished",
        "_is_forgiven",
        "_lock",
        "_narrow",
        "_options",
        "_original",
        "_standing",
        "_whole",
        "attempts",
        "began",
        "deadline",
        "is_recalled",
        "mail",
        "not_before",
        "outcome",
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
        envelope = (sender, recipients, mail_params, rcpt_params)
        if isinstance(mail, MailObject) and any(part is not None for part in envelope):
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
        self._envelope = envelope
        self._options = options
        self._future = future
        self._done = done
        self._lock = threading.Lock()
        self._has_begun = self._is_finished = self._is_forgiven = False
        self._flaw: SmtpError | None = None
        """Why no mail object can be made of the message."""
        self._whole: MailObject | None = None
        """To all recipients, for a server that offers everything."""
        self._narrow: MailObject | None = None
        """The same for one without 8BITMIME, where that makes a difference."""
        self._original: _Email | None = None
        """What that is made from."""
        self._standing: Standing | None = None

    # -- what is sent -------------------------------------------------------------------

    def freeze(self) -> None:
        """Make sure that what the caller does to the message from now on changes nothing.

        Where no mail object can be made of it, its entry tells why.
        """
        try:
            mail = self._prepared()
        except SmtpError:
            return
        content = mail.content.frozen()
        if content is not mail.content:
            self._whole = _part(mail, range(len(mail.recipients)), content)
        if self._original is not None:
            self._original = bodies.twin(self._original)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Every recipient; nobody before the message was first looked at, or where it has no envelope."""
        return () if self._whole is None else self._whole.recipients

    @property
    def recipients_count(self) -> int:
        """How many the next try goes to; 1 where nobody can tell."""
        if self._standing is not None:
            return len(self._standing.owed)
        try:
            return len(self._prepared().recipients)
        except SmtpError:
            return 1

    def entry(
        self, capabilities: Capabilities, protocol: Protocol, *, is_tls: bool, bdat: bool = False
    ) -> Entry:
        """The transaction for those who are owed one, or why there is none, on such a connection.

        ``bdat``: by BDAT, whatever the options say.
        """
        options = replace(self._options, bdat=True) if bdat and not self._options.bdat else self._options
        try:
            mail = self._fitting(capabilities)
        except SmtpError as error:
            if self._whole is not None:
                account_for(error, self._owed_of(self._whole))
            return Entry(self, None, error, self.deadline)
        entry = make_entry(self, self._owed_of(mail), capabilities, protocol, is_tls, options)
        return entry._replace(deadline=self.deadline)

    def _prepared(self) -> MailObject:
        """The whole message for a server that offers everything; the plan tells what one does not."""
        if self._flaw is not None:
            raise self._flaw
        if self._whole is None:
            if isinstance(self.mail, MailObject):
                self._whole = self.mail
                return self._whole
            try:
                self._whole = self._prepare(self.mail, _WIDE)
            except SmtpError as error:
                self._flaw = error  # for good: what the caller changes later must not count
                raise
            if isinstance(self.mail, Message) and _is_8bit(self._whole):
                self._original = self.mail
        return self._whole

    def _prepare(self, message: AnyMessage, capabilities: Capabilities) -> MailObject:
        sender, recipients, mail_params, rcpt_params = self._envelope
        try:
            return prepare(
                message,
                capabilities,
                sender=sender,
                recipients=recipients,
                mail_params=mail_params,
                rcpt_params=rcpt_params,
            )
        except SmtpError:
            raise
        except Exception as error:
            raise InputError("the message could not be read") from error

    def _fitting(self, capabilities: Capabilities) -> MailObject:
        """The whole message, for a server with these capabilities."""
        whole = self._prepared()
        if self._original is None or capabilities.eightbitmime:
            return whole
        if self._narrow is None:
            self._narrow = self._prepare(_stamped(self._original, whole), _NARROW)
        return self._narrow

    def _owed_of(self, mail: MailObject) -> MailObject:
        """The part of a mail object for those who are owed it."""
        standing = self._standing
        if standing is None or len(standing.owed) in (0, len(mail.recipients)):
            return mail
        return _part(mail, standing.owed, mail.content)

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

    def forgive(self) -> bool:
        """Whether a try on a connection that had died while it was idle need not be noted: once."""
        first, self._is_forgiven = not self._is_forgiven, True
        return first

    def note(self, outcome: SendResult | SmtpError, policy: RetryPolicy, moment: float) -> float | None:
        """Enter what a try came to, which counts; seconds until the next one, or None: it is over.

        The four tuples of an error are made to account for the whole message.
        """
        self.attempts += 1
        self._enter(outcome, policy)
        standing, whole = self._standing, self._whole
        if standing is None or whole is None or not standing.owed or self.attempts >= policy.attempts:
            return None
        if self.is_recalled:
            return None
        delay = policy.delay(self.attempts)
        if self.deadline is not None and self.deadline.remaining() <= delay:
            return None
        if policy.total is not None and moment + delay > self.began + policy.total:
            return None
        if _is_spent(whole):
            return None
        self.not_before = moment + delay
        return delay

    def _enter(self, outcome: SendResult | SmtpError, policy: RetryPolicy) -> None:
        if self._standing is None:
            try:
                self._standing = Standing(self._prepared().recipients)
            except SmtpError:  # nobody can tell its recipients
                self.outcome = outcome
                return
        self._standing.enter(outcome, policy, whole=self._options.all_or_nothing)
        self.outcome = self._standing.outcome()

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


def _part(mail: MailObject, indices: Sequence[int], content: Any) -> MailObject:
    """The same for some of the recipients, by place."""
    params = mail.rcpt_params
    return MailObject(
        mail.sender,
        [mail.recipients[i] for i in indices],
        content,
        mail_params=mail.mail_params,
        rcpt_params=None if params is None else [params[i] for i in indices],
    )


def _is_8bit(mail: MailObject) -> bool:
    measure = mail.content.measure
    return measure is not None and measure.is_8bit


def _is_spent(mail: MailObject) -> bool:
    """Whether the content could be read only once, and was."""
    try:
        mail.content.check_unspent()
    except InputError:
        return True
    return False


def _stamped(message: _Email, sent: MailObject) -> _Email:
    """A copy of the message with the Date and Message-ID that it was given in its first form."""
    twin = bodies.twin(message)
    head = b"".join(map(bytes, sent.content.for_bdat(binary=True)))[: raw.MAX_HEADER + 1]
    for field in raw.section(head).fields:
        if field.name in ("date", "message-id") and field.name not in twin:
            twin[field.name] = field.text
    return twin

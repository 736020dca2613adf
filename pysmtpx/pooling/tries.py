"""The tries that one message is given: what they come to together, and who is owed another one.

A try has several parts if a session has no room for all recipients (RFC 9422 4.1, 4.3).
"""

from __future__ import annotations

from typing import Final

from ..errors import DeliveryUnknown, InputError, NotSupportedError, SessionLimitReached, SmtpError
from ..flow.recipients import DOUBT, Ledger, recipients_rejected
from ..retry import RetryPolicy
from ..wire.limits import Stage
from ..wire.result import RejectedRecipient, SendResult
from .replies import goes_elsewhere

_SHUTDOWN: Final = 421
"""Not about the recipient: the server is closing the connection (RFC 5321 3.8)."""


class Tries:
    """A message over all its tries; ``owed`` are the places of those to whom the next one goes."""

    __slots__ = ("_doubt", "_last", "_refusal", "_result", "ledger", "noted", "owed", "put_off")

    def __init__(self, recipients: tuple[str, ...]) -> None:
        self.ledger = Ledger(recipients)
        self.owed = list(range(len(recipients)))
        self.put_off: list[int] = []
        """Who is owed another try when the parts of this one are through."""
        self.noted: SendResult | SmtpError | None = None
        """What was entered last, whether or not it is settled by now who is owed another try."""
        self._result: SendResult | None = None
        """Of the last try, if no other one told anything: it knows which of two equals was refused."""
        self._last: SmtpError | None = None
        """The error of the last try that had one."""
        self._refusal: SmtpError | None = None
        """The error that refused somebody last."""
        self._doubt: SmtpError | None = None
        """The error that left somebody in doubt last."""

    def enter(
        self, outcome: SendResult | SmtpError, policy: RetryPolicy, *, whole: bool, moves: bool = False
    ) -> None:
        """Enter what a try for those ``owed`` came to, and settle who is owed another one.

        ``whole``: all or nothing was asked, so all of them or nobody. ``moves``:
        there is another server for those whom this one refused for its own sake.
        """
        told, sent_to = self._note(outcome), self.owed
        self.owed = []  # before the policy is asked, which may raise
        again = [sent_to[place] for place in _owed(told, outcome, policy, moves)]
        again, self.put_off = sorted((*self.put_off, *again)), []
        # To a part of them it would be neither all nor nothing.
        self.owed = [] if whole and len(again) < len(self.ledger.recipients) else again

    def go_on(self, error: SessionLimitReached, policy: RetryPolicy, *, moves: bool) -> None:
        """Enter what a part of a try came to; the next part goes to those whom this one is not about.

        Whoever may be sent to again comes after them: else those might never have a part of their own.
        """
        told, sent_to = self._note(error), self.owed
        # Before the policy is asked, which may raise.
        self.owed = [sent_to[place] for place, fate in enumerate(told.fates) if fate is None]
        if rejected := told.rejected:
            refusal = recipients_rejected(rejected, len(rejected))
            self.put_off += [sent_to[place] for place in _owed(told, refusal, policy, moves, parts=True)]

    def _note(self, outcome: SendResult | SmtpError) -> Ledger:
        """Enter what became of those ``owed``."""
        recipients = self.ledger.recipients
        is_first = len(self.ledger.unsent) == len(self.owed) == len(recipients)
        self._result = outcome if is_first and isinstance(outcome, SendResult) else None
        told = Ledger.told(outcome, [recipients[place] for place in self.owed])
        self.ledger.merge(told, self.owed)
        if isinstance(outcome, SmtpError):
            self._last = outcome
            if told.rejected:
                self._refusal = outcome
            if told.unknown:
                self._doubt = outcome
        self.noted = outcome
        return told

    def outcome(self) -> SendResult | SmtpError:
        """What all tries together amount to.

        A result if somebody accepted and everybody else was refused; else an
        error whose four tuples name every recipient once. It is that of the
        last try, the one that left the doubt if there is one, or if all
        were refused the one that says so.
        """
        if self._result is not None:
            return self._result
        refusal = self._refusal
        if refusal is not None and len(refusal.rejected_recipients) < len(self.ledger.recipients):
            rejected = self.ledger.rejected
            error = recipients_rejected(rejected, len(rejected))
            error.transcript, error.__cause__ = refusal.transcript, refusal
            refusal = error
        return self.ledger.outcome(self._last, refusal=refusal, doubt=self._doubt)


def is_of_message(outcome: object) -> bool:
    """Whether the message itself cannot be sent as it is, and nothing is wrong with the way to the server."""
    return isinstance(outcome, InputError | NotSupportedError) and outcome.stage is not Stage.CONNECT


def _owed(
    told: Ledger, outcome: SendResult | SmtpError, policy: RetryPolicy, moves: bool, *, parts: bool = False
) -> list[int]:
    """Of those to whom a try went, the places of whoever may be sent to again.

    ``parts``: who was not sent to has another part of it.
    """
    if told.accepted_count == len(told.recipients):
        return []
    rejected = told.rejected
    error = outcome if isinstance(outcome, SmtpError) else recipients_rejected(rejected, len(rejected))
    if isinstance(error, InputError | NotSupportedError):
        return []
    may_unsent = isinstance(error, DeliveryUnknown) or policy.covers(error)
    again = []
    for place, fate in enumerate(told.fates):
        if isinstance(fate, RejectedRecipient):
            may = fate.reply.code == _SHUTDOWN or (policy.temporary and fate.temporary)
            may = may or (moves and goes_elsewhere(fate.reply, fate.stage, policy))
        elif fate is None:
            may = may_unsent and not parts
        else:
            may = fate is DOUBT and policy.unknown
        if may:
            again.append(place)
    return again if again and policy.allows(error) else []

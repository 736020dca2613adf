"""One mail object in as many transactions as the server's limit on recipients asks for.

A server takes at least 100 recipients in a transaction and may refuse more by
452 (RFC 5321 4.5.3.1.10), or state its limit beforehand (RFC 9422 4.2). Those
beyond it get a transaction of their own on the same connection.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import AllRecipientsFailed, RecipientsRejected, SmtpError
from ..wire.envelope import MailObject
from ..wire.limits import Stage
from ..wire.reply import Reply
from ..wire.result import RejectedRecipient, SendResult
from .effects import Flow
from .plan import Plan
from .transaction import transaction


def delivery(plan: Plan) -> Flow[SendResult]:
    """Send one mail object and return who was accepted, in all its transactions together.

    Raises what ``transaction`` raises. Where an earlier transaction was accepted
    the error's ``accepted_recipients`` say so, and it is not safe to retry.
    Content that can be read only once, and all-or-nothing, go in one transaction.
    """
    if len(plan.mail.recipients) == 1 or plan.options.all_or_nothing or not plan.content.replayable:
        return transaction(plan)
    return _transactions(plan)


def _transactions(plan: Plan) -> Flow[SendResult]:
    count = len(plan.mail.recipients)
    tally = _Tally(plan)
    owed = list(range(count))
    while owed:
        batch, later = owed[: plan.limit], owed[plan.limit :] if plan.limit else []
        try:
            result = yield from transaction(plan if len(batch) == count else _part(plan, batch))
        except RecipientsRejected as error:
            if len(batch) == count:
                raise
            tally.reject(batch, error.rejected_recipients)
            owed = later
        except SmtpError as error:
            tally.broken(error, batch, later)
            raise
        else:
            owed = tally.note(batch, result) + later
    return tally.result()


def _part(plan: Plan, indices: list[int]) -> Plan:
    """The same transaction for some of the recipients."""
    mail, params = plan.mail, plan.mail.rcpt_params
    part = MailObject(
        mail.sender,
        [mail.recipients[i] for i in indices],
        mail.content,
        mail_params=mail.mail_params,
        rcpt_params=None if params is None else [params[i] for i in indices],
    )
    head, *lines = plan.envelope
    return plan._replace(mail=part, envelope=(head, *(lines[i] for i in indices)))


def _is_beyond_limit(rejection: RejectedRecipient) -> bool:
    """Refused for the number of recipients; 552 is what RFC 821 had servers say.

    A full mailbox has the same codes, and another enhanced code (RFC 3463 3.3, 3.6).
    """
    enhanced = rejection.reply.enhanced
    return (
        rejection.stage is Stage.RCPT
        and rejection.reply.code in (452, 552)
        and (enhanced is None or (enhanced.subject, enhanced.detail) == (5, 3))
    )


class _Tally:
    """What became of each recipient, by its place in the caller's list."""

    def __init__(self, plan: Plan) -> None:
        self._recipients = plan.mail.recipients
        self._accepted: dict[int, Reply] = {}
        self._rejected: dict[int, RejectedRecipient] = {}
        self._reply: Reply | None = None

    def note(self, batch: list[int], result: SendResult) -> list[int]:
        """Enter a transaction in which somebody was accepted; who is owed another one."""
        self._reply = result.reply
        left = list(result.rejected_recipients)
        replies = iter(result.replies)
        accepted = list(result.accepted_recipients)
        owed = []
        for index in batch:
            if accepted and accepted[0] == self._recipients[index]:
                del accepted[0]
                self._accepted[index] = next(replies)
                self._rejected.pop(index, None)
            else:
                rejection = left.pop(0)
                self._rejected[index] = rejection
                if _is_beyond_limit(rejection):
                    owed.append(index)
        return owed

    def reject(self, batch: list[int], rejections: Iterable[RejectedRecipient]) -> None:
        """Enter a transaction in which nobody was."""
        self._rejected.update(zip(batch, rejections, strict=True))

    def broken(self, error: SmtpError, batch: list[int], later: list[int]) -> None:
        """An error in one transaction, accounting for those before it and those never begun."""
        before = (r for i, r in sorted(self._rejected.items()) if i not in batch)
        never = (self._recipients[i] for i in later if i not in self._rejected)
        error.accepted_recipients = (*self._paths(), *error.accepted_recipients)
        error.rejected_recipients = (*before, *error.rejected_recipients)
        error.unsent_recipients = (*error.unsent_recipients, *never)

    def result(self) -> SendResult:
        """The result of all transactions together."""
        rejections = tuple(r for _, r in sorted(self._rejected.items()))
        if self._reply is None:
            error = AllRecipientsFailed(
                len(self._recipients), [r.reply for r in rejections], stage=rejections[-1].stage
            )
            error.rejected_recipients = rejections
            raise error
        replies = tuple(reply for _, reply in sorted(self._accepted.items()))
        return SendResult(self._paths(), rejections, self._reply, replies)

    def _paths(self) -> tuple[str, ...]:
        return tuple(self._recipients[i] for i in sorted(self._accepted))

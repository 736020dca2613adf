"""One mail object in as many transactions as the server's limit on recipients asks for.

A server takes at least 100 recipients in a transaction and may refuse more by
452 (RFC 5321 4.5.3.1.10), or state its limit beforehand (RFC 9422 4.2). Those
beyond it get a transaction of their own on the same connection.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import AllRecipientsFailed, DeliveryUnknown, RecipientsRejected, SmtpError
from ..wire.envelope import MailObject
from ..wire.limits import MIN_RECIPIENTS, Stage
from ..wire.reply import Reply
from ..wire.result import RejectedRecipient, SendResult
from .account import Account
from .effects import Flow
from .plan import Plan
from .transaction import transaction


def delivery(plan: Plan) -> Flow[SendResult]:
    """Send one mail object and return who was accepted, in all its transactions together.

    Raises what ``transaction`` raises, with two differences. Where somebody was
    accepted before, and a further transaction for those refused by 452 fails
    without leaving a doubt, they stay refused by that 452. Any other failure
    after an acceptance names those who have the message in
    ``accepted_recipients``, and is not safe to retry. Content that can be read
    only once, and all-or-nothing, go in one transaction.
    """
    if len(plan.mail.recipients) == 1 or plan.options.all_or_nothing or not plan.content.replayable:
        return transaction(plan)
    return _transactions(plan)


def _transactions(plan: Plan) -> Flow[SendResult]:
    count = len(plan.mail.recipients)
    limit = plan.limit or count
    tally = _Tally(plan)
    owed = list(range(count))
    while owed:
        batch, later = owed[:limit], owed[limit:]
        part = plan if len(batch) == count else _part(plan, batch)
        account = Account(part.mail.recipients, lmtp=plan.lmtp)
        try:
            yield from transaction(part, account)
        except RecipientsRejected as error:
            if len(batch) == count:
                raise
            tally.reject(batch, error.rejected_recipients)
            owed = tally.untold(later)  # who was refused before is not asked for again
        except SmtpError as error:
            if tally.may_stand(owed) and not isinstance(error, DeliveryUnknown):
                break
            tally.broken(error, batch, later)
            raise
        except BaseException as error:
            tally.tell(error)
            raise
        else:
            beyond = tally.note(batch, account)
            if beyond:  # what it takes it has shown, and never is it less than 100
                limit = min(limit, max(len(batch) - len(beyond), MIN_RECIPIENTS))
            owed = beyond + later
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

    def note(self, batch: list[int], account: Account) -> list[int]:
        """Enter a transaction in which somebody was accepted; who is owed another one.

        By position: an address may stand twice.
        """
        finals = iter(account.finals)
        beyond = []
        for index, rcpt in zip(batch, account.rcpts, strict=True):
            final = rcpt
            if rcpt.is_positive:
                final = next(finals) if account.lmtp else account.finals[0]
            if final.is_positive:
                self._reply = self._accepted[index] = final
                self._rejected.pop(index, None)
                continue
            stage = Stage.FINAL if rcpt.is_positive else Stage.RCPT
            self._rejected[index] = RejectedRecipient(self._recipients[index], final, stage)
            if _is_beyond_limit(self._rejected[index]):
                beyond.append(index)
        return beyond

    def reject(self, batch: list[int], rejections: Iterable[RejectedRecipient]) -> None:
        """Enter a transaction in which nobody was."""
        self._rejected.update(zip(batch, rejections, strict=True))

    def untold(self, indices: list[int]) -> list[int]:
        """Those of whom nothing is known yet."""
        return [i for i in indices if i not in self._rejected]

    def may_stand(self, owed: list[int]) -> bool:
        """Whether what is known is a result: somebody was accepted, and those owed have a reply."""
        return bool(self._accepted) and not self.untold(owed)

    def tell(self, error: BaseException) -> None:
        """Note on an error that is not ours who has the message already."""
        if self._accepted:
            error.add_note(f"the message had been accepted for {', '.join(self._paths())}")

    def broken(self, error: SmtpError, batch: list[int], later: list[int]) -> None:
        """An error in one transaction, accounting for those before it and those never begun."""
        now = set(batch)
        before = (r for i, r in sorted(self._rejected.items()) if i not in now)
        never = (self._recipients[i] for i in self.untold(later))
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

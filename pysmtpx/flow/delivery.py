"""One mail object in as many transactions as the server's limit on recipients asks for.

A server takes at least 100 recipients in a transaction and may refuse more by
452 (RFC 5321 4.5.3.1.10), or state its limit beforehand (RFC 9422 4.2). Those
beyond it get a transaction of their own on the same connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..errors import AllRecipientsFailed, DeliveryUnknown, RecipientsRejected, SmtpError
from ..shortening import listed
from ..wire.envelope import part
from ..wire.limits import MIN_RECIPIENTS, Stage
from ..wire.reply import Reply
from ..wire.result import RejectedRecipient, SendResult
from .account import Account
from .effects import Flow
from .plan import Plan
from .tail import Fate, Tail
from .transaction import BROKEN, Meanwhile, begin, settle


def delivery(plan: Plan) -> Flow[SendResult]:
    """Send one mail object and return who was accepted, in all its transactions together.

    Raises ``SenderRejected``, ``RecipientsRejected``, ``AllRecipientsFailed``
    or ``DataRejected`` for a refusal, ``ServiceUnavailable`` for a 421,
    ``Timeout``, ``ConnectionLost`` or ``ProtocolError`` where the line broke
    before the end of data was written, and ``DeliveryUnknown`` after it.

    Where somebody was accepted before, and a further transaction for those
    refused by 452 fails without leaving a doubt, they stay refused by that 452.
    Any other failure after an acceptance names those who have the message in
    ``accepted_recipients``, and is not safe to retry. Content that can be read
    only once, and all-or-nothing, go in one transaction.
    """
    tail = yield from deliver(plan)
    yield from settle(tail)
    return tail.value()


def deliver(
    plan: Plan, lead: Tail | None = None, meanwhile: Meanwhile | None = None, *, idle: bool = False
) -> Flow[Tail]:
    """The same up to the tail of its last transaction; the arguments are those of ``begin``."""
    if len(plan.mail.recipients) == 1 or plan.options.all_or_nothing or not plan.content.replayable:
        account = Account(plan.mail.recipients, lmtp=plan.lmtp)
        return begin(plan, account, lead, meanwhile, idle=idle)
    return _transactions(plan, lead, meanwhile, idle)


def _transactions(plan: Plan, lead: Tail | None, meanwhile: Meanwhile | None, idle: bool) -> Flow[Tail]:
    tally = _Tally(plan)
    try:
        while True:
            part, account = tally.next()
            tail = yield from begin(part, account, lead, meanwhile, idle=idle)
            if account.accepted_count == len(plan.mail.recipients):
                return tail  # everybody is in this one, and nobody is owed another
            lead, idle = None, False
            if tail.is_shiftable:
                yield from settle(tail)
            tail.conclude, tail.tell = partial(tally.conclude, account), tally.tell
            if tail.fate is None:
                if not tally.is_owed_another(account):
                    return tail  # whoever comes next may share its last write
                yield from settle(tail)
            else:
                tail.fate = tail.conclude(tail.fate)
            if not tally.owed:
                return tail
            yield from settle(tail)
    except BaseException as error:
        tally.tell(error)
        raise


def _part(plan: Plan, indices: list[int]) -> Plan:
    """The same transaction for some of the recipients."""
    head, *lines = plan.envelope
    return plan._replace(mail=part(plan.mail, indices), envelope=(head, *(lines[i] for i in indices)))


def _beyond_limit(replies: Sequence[Reply]) -> set[int]:
    """Which replies to RCPT refused for the number of recipients, if some were accepted.

    452 says so, 552 as RFC 821 had it, 431 (Courier), and 4.5.3 with any code
    (451 of OpenSMTPD and Dovecot). A full mailbox has the code 452 too, and 4.2.2;
    but if that holds for all from some place on, it is what smtp-server says of
    the number (RFC 3463 3.3, 3.6).
    """
    end = len(replies)
    while end and _is_full(replies[end - 1]):
        end -= 1
    return {index for index, reply in enumerate(replies) if _is_limit(reply) or index >= end}


def _owe_those_beyond(error: SmtpError, account: Account) -> None:
    """Who was refused for the number of recipients has still to be sent to: the session ended before that."""
    places = _beyond_limit(account.rcpts)
    rows = list(enumerate(zip(account.recipients, account.rcpts, strict=False)))
    error.rejected_recipients = tuple(
        RejectedRecipient(path, reply, Stage.RCPT)
        for place, (path, reply) in rows
        if not reply.is_positive and place not in places
    )
    refused = {place for place, (_, reply) in rows if not reply.is_positive and place not in places}
    error.unsent_recipients = tuple(
        path for place, path in enumerate(account.recipients) if place not in refused
    )


def _is_limit(reply: Reply) -> bool:
    enhanced = reply.enhanced
    if reply.code < 400:
        return False
    if enhanced is not None and (enhanced.subject, enhanced.detail) == (5, 3):
        return True
    return reply.code == 431 or (reply.code in (452, 552) and enhanced is None)


def _is_full(reply: Reply) -> bool:
    enhanced = reply.enhanced
    return reply.code == 452 and enhanced is not None and (enhanced.subject, enhanced.detail) == (2, 2)


class _Tally:
    """What became of each recipient, by its place in the caller's list, and who is owed a transaction."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._recipients = plan.mail.recipients
        self._limit = plan.limit or len(self._recipients)
        self.owed = list(range(len(self._recipients)))
        self._accepted: dict[int, Reply] = {}
        self._rejected: dict[int, RejectedRecipient] = {}
        self._reply: Reply | None = None

    def next(self) -> tuple[Plan, Account]:
        """The next transaction, for as many as it may have."""
        batch = self.owed[: self._limit]
        plan = self._plan if len(batch) == len(self._recipients) else _part(self._plan, batch)
        return plan, Account(plan.mail.recipients, lmtp=plan.lmtp)

    def is_owed_another(self, account: Account) -> bool:
        """Whether a transaction whose envelope is settled will not be the last, if it succeeds."""
        return len(self.owed) > len(account.recipients) or bool(_beyond_limit(account.rcpts))

    def conclude(self, account: Account, fate: Fate) -> Fate:
        """Enter what a transaction came to; the fate of the whole, where nobody is ``owed`` any more."""
        count = len(account.recipients)
        batch, later = self.owed[:count], self.owed[count:]
        if isinstance(fate, SendResult):
            beyond = self._note(batch, account)
            if beyond:  # what it takes it has shown, and never is it less than 100
                self._limit = min(self._limit, max(count - len(beyond), MIN_RECIPIENTS))
            self.owed = beyond + later
            return fate if self.owed else self._result()
        if isinstance(fate, RecipientsRejected) and count < len(self._recipients):
            self._rejected.update(zip(batch, fate.rejected_recipients, strict=True))
            self.owed = self._untold(later)  # who was refused before is not asked for again
            return fate if self.owed else self._result()
        if isinstance(fate, BROKEN) and account.accepted_count:
            _owe_those_beyond(fate, account)
        owed, self.owed = self.owed, []
        if self._may_stand(owed) and not isinstance(fate, DeliveryUnknown):
            return self._result()
        if count < len(self._recipients):
            self._broken(fate, batch, later)
        return fate

    def _note(self, batch: list[int], account: Account) -> list[int]:
        """Enter a transaction in which somebody was accepted; who is owed another one.

        By position: an address may stand twice.
        """
        finals = iter(account.finals)
        places = _beyond_limit(account.rcpts)
        beyond = []
        for place, (index, rcpt) in enumerate(zip(batch, account.rcpts, strict=True)):
            final = rcpt
            if rcpt.is_positive:
                final = next(finals) if account.lmtp else account.finals[0]
            if final.is_positive:
                self._reply = self._accepted[index] = final
                self._rejected.pop(index, None)
                continue
            stage = Stage.FINAL if rcpt.is_positive else Stage.RCPT
            self._rejected[index] = RejectedRecipient(self._recipients[index], final, stage)
            if place in places:
                beyond.append(index)
        return beyond

    def _untold(self, indices: list[int]) -> list[int]:
        """Those of whom nothing is known yet."""
        return [i for i in indices if i not in self._rejected]

    def _may_stand(self, owed: list[int]) -> bool:
        """Whether what is known is a result: somebody was accepted, and those owed have a reply."""
        return bool(self._accepted) and not self._untold(owed)

    def tell(self, error: BaseException) -> None:
        """Note on an error that is not ours who has the message already."""
        if self._accepted:
            error.add_note(f"the message had been accepted for {listed(self._paths())}")

    def _broken(self, error: SmtpError, batch: list[int], later: list[int]) -> None:
        """An error in one transaction, accounting for those before it and those never begun."""
        now = set(batch)
        before = (r for i, r in sorted(self._rejected.items()) if i not in now)
        never = (self._recipients[i] for i in self._untold(later))
        error.accepted_recipients = (*self._paths(), *error.accepted_recipients)
        error.accepted_replies = (*self._replies(), *error.accepted_replies)
        error.rejected_recipients = (*before, *error.rejected_recipients)
        error.unsent_recipients = (*error.unsent_recipients, *never)

    def _result(self) -> Fate:
        """The fate of all transactions together."""
        rejections = tuple(r for _, r in sorted(self._rejected.items()))
        if self._reply is None:
            error = AllRecipientsFailed(
                len(self._recipients), [r.reply for r in rejections], stage=rejections[-1].stage
            )
            error.rejected_recipients = rejections
            return error
        return SendResult(self._paths(), rejections, self._reply, self._replies())

    def _paths(self) -> tuple[str, ...]:
        return tuple(self._recipients[i] for i in sorted(self._accepted))

    def _replies(self) -> tuple[Reply, ...]:
        return tuple(self._accepted[i] for i in sorted(self._accepted))

"""One mail object in as many transactions as the server's limit on recipients asks for.

A server takes at least 100 recipients in a transaction and may refuse more by
452 (RFC 5321 4.5.3.1.10), or state its limit beforehand (RFC 9422 4.2). Those
beyond it get a transaction of their own on the same connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..errors import DeliveryUnknown, RecipientsRejected
from ..shortening import listed
from ..wire.envelope import part
from ..wire.limits import MIN_RECIPIENTS
from ..wire.reply import Reply
from ..wire.result import SendResult
from .account import Account
from .effects import Flow
from .plan import Plan
from .recipients import Ledger
from .transaction import BROKEN, Fate, Transaction


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
    transaction = yield from begin(plan)
    yield from transaction.end()
    return transaction.value()


def begin(
    plan: Plan, before: Transaction | None = None, deadline: Any = None, *, is_idle: bool = False
) -> Flow[Transaction]:
    """The same up to the end of its last transaction; the arguments are those of that one."""
    if len(plan.mail.recipients) == 1 or plan.options.all_or_nothing or not plan.content.replayable:
        # Nobody can be owed a further transaction.
        account = Account(plan.mail.recipients, lmtp=plan.lmtp)
        return Transaction(plan, account, deadline).begin(before, is_idle=is_idle)
    return _several(plan, before, deadline, is_idle=is_idle)


def _several(plan: Plan, before: Transaction | None, deadline: Any, *, is_idle: bool) -> Flow[Transaction]:
    batches = _Batches(plan)
    try:
        while True:
            part, account = batches.next()
            transaction = Transaction(part, account, deadline)
            yield from transaction.begin(before, is_idle=is_idle)
            if account.accepted_count == len(plan.mail.recipients):
                return transaction  # everybody is in this one, and nobody is owed another
            before, is_idle = None, False
            if transaction.is_shiftable:
                yield from transaction.end()
            transaction.conclude, transaction.tell = partial(batches.conclude, account), batches.tell
            if transaction.fate is None:
                if not batches.is_owed_another(account):
                    return transaction  # whoever comes next may share its last write
                yield from transaction.end()
            else:
                transaction.fate = transaction.conclude(transaction.fate)
            if not batches.owed:
                return transaction
            yield from transaction.end()
    except BaseException as error:
        batches.tell(error)
        raise


def _part(plan: Plan, indices: list[int]) -> Plan:
    """The same transaction for some of the recipients."""
    head, *lines = plan.envelope
    return plan._replace(mail=part(plan.mail, indices), envelope=(head, *(lines[i] for i in indices)))


def _beyond_limit(replies: Sequence[Reply]) -> list[int]:
    """Which replies to RCPT refused for the number of recipients, if some were accepted.

    452 says so, 552 as RFC 821 had it, 431 (Courier), and 4.5.3 with any code
    (451 of OpenSMTPD and Dovecot). A full mailbox has the code 452 too, and 4.2.2;
    but if that holds for all from some place on, it is what smtp-server says of
    the number (RFC 3463 3.3, 3.6).
    """
    end = len(replies)
    while end and _is_full(replies[end - 1]):
        end -= 1
    return [index for index, reply in enumerate(replies) if _is_limit(reply) or index >= end]


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


class _Batches:
    """Who is owed a transaction, and what those before it came to."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ledger = Ledger(plan.mail.recipients)
        self._limit = plan.limit or len(plan.mail.recipients)
        self._beyond: set[int] = set()
        """Refused for the number of recipients: that stands unless a further transaction does better."""
        self.owed = list(range(len(plan.mail.recipients)))

    def next(self) -> tuple[Plan, Account]:
        """The next transaction, for as many as it may have."""
        batch = self.owed[: self._limit]
        plan = self._plan if len(batch) == len(self._ledger.recipients) else _part(self._plan, batch)
        return plan, Account(plan.mail.recipients, lmtp=plan.lmtp)

    def is_owed_another(self, account: Account) -> bool:
        """Whether a transaction whose envelope is settled will not be the last, if it succeeds."""
        return len(self.owed) > len(account.recipients) or bool(_beyond_limit(account.rcpts))

    def conclude(self, account: Account, fate: Fate) -> Fate:
        """Enter what a transaction came to; the fate of the whole, if nobody is ``owed`` any more."""
        count = len(account.recipients)
        batch, later = self.owed[:count], self.owed[count:]
        if self._may_stand(fate):
            self.owed = []
            return self._ledger.outcome(None)
        beyond = self._enter(account, batch)
        if isinstance(fate, SendResult):
            if beyond:  # what it takes it has shown, and never is it less than 100
                self._limit = min(self._limit, max(count - len(beyond), MIN_RECIPIENTS))
            self.owed = beyond + later
        elif isinstance(fate, RecipientsRejected):
            # Who was refused for the number before is not asked for again.
            self.owed = [place for place in later if place not in self._beyond]
        else:
            self.owed = []
            if isinstance(fate, BROKEN):
                # The session ended before those beyond the limit could be sent to.
                for place in self._beyond:
                    self._ledger.withdraw(place)
            return self._ledger.on(fate)
        return fate if self.owed else self._ledger.outcome(None)

    def _may_stand(self, fate: Fate) -> bool:
        """Whether a transaction failed that was for those beyond the limit only: their refusals stand."""
        is_failure = not isinstance(fate, SendResult | RecipientsRejected | DeliveryUnknown)
        return is_failure and bool(self._ledger.accepted_count) and self._beyond.issuperset(self.owed)

    def _enter(self, account: Account, batch: list[int]) -> list[int]:
        """Enter what a transaction says; the places of those who were beyond the limit in it."""
        for place in self._beyond.intersection(batch):
            self._ledger.withdraw(place)  # it was asked for again
        self._ledger.merge(account.ledger(), batch)
        beyond = [batch[i] for i in _beyond_limit(account.rcpts)] if account.accepted_count else []
        self._beyond = self._beyond.difference(batch).union(beyond)
        return beyond

    def tell(self, error: BaseException) -> None:
        """Note on an error that is not ours who has the message already."""
        if self._ledger.accepted_count:
            error.add_note(f"the message had been accepted for {listed(self._ledger.accepted)}")

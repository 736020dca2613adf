"""Who is in which transaction, where a server takes fewer recipients in one than a message has.

A server takes at least 100 recipients in a transaction and may refuse more by
452 (RFC 5321 4.5.3.1.10), or state its limit beforehand (RFC 9422 4.2). Those beyond it
get a transaction of their own on the same connection, as long as the session has room for one (RFC 9422
4.1), and for their domains (RFC 9422 4.3); the rest is unsent.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DeliveryUnknown, RecipientsRejected
from ..shortening import listed
from ..wire.envelope import part
from ..wire.limits import MIN_RECIPIENTS
from ..wire.reply import Reply
from ..wire.result import SendResult
from .account import BROKEN, Account, Conclusion
from .plan import Plan
from .recipients import Ledger


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


class Batches:
    """Who is owed a transaction, and what those before it came to."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ledger = Ledger(plan.mail.recipients)
        self._beyond: set[int] = set()
        """Refused for the number of recipients: that stands unless a further transaction does better."""
        self.owed: list[int]
        if plan.allowance is None:
            self.owed = list(range(len(plan.mail.recipients)))
        else:
            self.owed = plan.allowance.places(plan.mail.recipients)

    def next(self) -> Plan:
        """The next transaction, for as many as it may have."""
        batch = self.owed[: self._plan.limit]
        return self._plan if len(batch) == len(self._ledger.recipients) else _part(self._plan, batch)

    def is_owed_another(self, account: Account) -> bool:
        """Whether a transaction whose envelope is settled will not be the last, if it succeeds."""
        return len(self.owed) > len(account.recipients) or bool(_beyond_limit(account.rcpts))

    def conclude(self, account: Account, fate: Conclusion) -> Conclusion:
        """Enter what a transaction came to; the fate of the whole, if nobody is ``owed`` any more."""
        count = len(account.recipients)
        batch, later = self.owed[:count], self.owed[count:]
        if self._may_stand(fate):
            self.owed = []
            return self._told()
        beyond = self._enter(account, batch)
        if isinstance(fate, SendResult):
            if beyond:  # what it takes it has shown, and never is it less than 100
                self._plan = self._plan.at_most(max(count - len(beyond), MIN_RECIPIENTS))
            self.owed = beyond + later
        elif isinstance(fate, RecipientsRejected):
            # Who was refused for the number before is not asked for again.
            self.owed = [place for place in later if place not in self._beyond]
        else:
            self.owed = []
            if isinstance(fate, BROKEN):
                self._put_off_beyond()
            return self._ledger.on(fate)
        if self.owed and self._plan.allowance is not None and self._plan.allowance.is_over:
            self.owed = []
            self._put_off_beyond()
        return fate if self.owed else self._told()

    def _put_off_beyond(self) -> None:
        """The session is over, or has room for no more, before those beyond the limit could be sent to."""
        for place in self._beyond:
            self._ledger.withdraw(place)

    def _told(self) -> Conclusion:
        """What all of it came to."""
        allowance, last = self._plan.allowance, None
        if allowance is not None and self._ledger.unsent:
            last = allowance.reached()
        return self._ledger.outcome(last)

    def _may_stand(self, fate: Conclusion) -> bool:
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

"""What became of a message of the outbox, as the receivers of signals are told it."""

from __future__ import annotations

import re
from typing import Any, Final

from ....errors import DeliveryUnknown, RecipientsRejected, SmtpError
from ....wire.limits import Stage
from ....wire.reply import Reply
from ....wire.result import RejectedRecipient, SendResult
from ..signals import announce
from .models import State
from .rows import messages, recipients

_REPLY: Final = re.compile(r"([2-5][0-9][0-9])(?: (.*))?", re.DOTALL)


def tell(sender: type, using: str, number: Any) -> None:
    """Send the signals for a message that is over; ``message`` is the row of the outbox."""
    for message in messages(using, [number]).filter(is_told=True):
        announce(sender, message, *outcome(list(recipients(using, [number]))))


def outcome(fates: list[Any]) -> tuple[SendResult | None, SmtpError | None]:
    """The result, where somebody has it, and the error, where somebody has not and was not just refused."""
    known: dict[Any, list[Any]] = {state: [] for state in State.values}
    for fate in fates:
        known[fate.state].append(fate)
    accepted = known[State.ACCEPTED]
    rejected, unsent = [], [*known[State.QUEUED]]
    for fate in known[State.REFUSED]:
        reply = _reply(fate.reply)
        if reply is None or reply.is_positive:
            unsent.append(fate)
        else:
            rejected.append(RejectedRecipient(fate.address, reply, _stage(fate.stage) or Stage.RCPT))
    result = None
    if accepted:
        replies = tuple(_reply(fate.reply) or Reply(250) for fate in accepted)
        paths = tuple(fate.address for fate in accepted)
        result = SendResult(paths, tuple(rejected), replies[-1], replies)
    error = _error(known[State.DOUBT], unsent, rejected, len(fates), is_alone=not accepted)
    if error is not None:
        error.rejected_recipients = tuple(rejected)
        error.unsent_recipients = tuple(fate.address for fate in unsent)
        error.unknown_recipients = tuple(fate.address for fate in known[State.DOUBT])
        if result is not None:
            error.accepted_recipients, error.accepted_replies = result.accepted_recipients, result.replies
    return result, error


def _error(
    doubt: list[Any], unsent: list[Any], rejected: list[RejectedRecipient], total: int, *, is_alone: bool
) -> SmtpError | None:
    if doubt:
        return DeliveryUnknown(doubt[0].reply or "nobody knows", stage=_stage(doubt[0].stage) or Stage.FINAL)
    if unsent:
        return SmtpError(unsent[0].reply or "not sent", stage=_stage(unsent[0].stage))
    if rejected and is_alone:
        return RecipientsRejected(total, [each.reply for each in rejected], stage=rejected[0].stage)
    return None


def _reply(text: str) -> Reply | None:
    found = _REPLY.fullmatch(text)
    return None if found is None else Reply(int(found[1]), ((found[2] or "").encode(),))


def _stage(text: str) -> Stage | None:
    try:
        return Stage(text)
    except ValueError:
        return None

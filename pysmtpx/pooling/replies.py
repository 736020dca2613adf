"""What a reply says about the server or the connection, besides what it says about the message. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..errors import ConnectionLost, DeliveryUnknown, ProtocolError, ServiceUnavailable, SmtpError, Timeout
from ..wire.limits import MIN_RECIPIENTS, Stage
from ..wire.reply import EnhancedCode, Reply
from ..wire.result import SendResult

_SHUTDOWN: Final = 421
_UNRECOGNIZED: Final = 500
_OUT_OF_SEQUENCE: Final = (500, 501, 502, 503)
_TRANSACTION: Final = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL)
_SLOWER: Final = frozenset({432, 451, 452, 454})
_TOO_MANY: Final = 432
"""Exchange says it if its threads or connections for us are used up."""


class Refusal(NamedTuple):
    """By what a whole message was refused."""

    stage: Stage
    code: int
    enhanced: EnhancedCode | None


def is_break(outcome: SendResult | SmtpError) -> bool:
    """Whether the connection broke on a message of which something had been written."""
    cause = outcome.__cause__ if isinstance(outcome, DeliveryUnknown) else outcome
    return isinstance(cause, Timeout | ConnectionLost | ProtocolError) and cause.stage is not Stage.INPUT


def is_hang_up_on_recipients(outcome: SendResult | SmtpError) -> bool:
    """Whether it ended the session within more recipients than it must take (chasquid: 421; FAULTS 116)."""
    if not isinstance(outcome, ServiceUnavailable | ConnectionLost) or outcome.stage is not Stage.RCPT:
        return False
    return len(outcome.rejected_recipients) + len(outcome.unsent_recipients) > MIN_RECIPIENTS


def refusal_of(outcome: SendResult | SmtpError) -> Refusal | None:
    """The refusal of a whole message that may be about the connection: stage, code and enhanced code.

    A server that takes so many messages on a connection says it by 4xx (4.5.3,
    4.4.5, or none of its own), by 421, or by 500 to 503, at whatever command. What
    it says of an address or a mailbox (4.1.x, 4.2.x) is not that, nor what it says
    of a recipient or the content for reasons of policy (4.6.x, 4.7.x behind MAIL).
    """
    reply, stage = outcome.reply, getattr(outcome, "stage", None)
    if isinstance(outcome, SendResult | DeliveryUnknown) or reply is None or stage not in _TRANSACTION:
        return None
    if outcome.accepted_recipients or getattr(outcome, "unknown_recipients", ()):
        return None
    replies = [rejected.reply for rejected in outcome.rejected_recipients] or [reply]
    if not all(_may_be_about_connection(each, stage) for each in replies):
        return None
    return Refusal(stage, reply.code, reply.enhanced)


def _may_be_about_connection(reply: Reply, stage: Stage) -> bool:
    if reply.code in _OUT_OF_SEQUENCE:
        return True
    if not reply.is_temporary:
        return False
    subject = None if reply.enhanced is None else reply.enhanced.subject
    return subject not in ((1, 2) if stage is Stage.MAIL else (1, 2, 6, 7))


def is_idle_end(error: SmtpError) -> bool:
    """Whether this answer to the first MAIL after a rest says that the rest was too long (FAULTS 114)."""
    reply = error.reply
    if reply is None or error.stage is not Stage.MAIL:
        return False
    enhanced = reply.enhanced
    return reply.code in (_SHUTDOWN, _UNRECOGNIZED) or (
        enhanced is not None and (enhanced.subject, enhanced.detail) == (4, 2)
    )


def is_policy(outcome: SendResult | SmtpError) -> bool:
    """Whether the reply that decided speaks of policy (4.7.x, RFC 3463 3.8)."""
    enhanced = None if outcome.reply is None else outcome.reply.enhanced
    return enhanced is not None and enhanced.subject == 7


def is_slowdown(outcome: SendResult | SmtpError) -> bool:
    """Whether the server asks us to go slower, in a reply to anybody; not where it took the message for one.

    421 and 432 say so at any stage; 4.7.x and 4.5.3 in answer to MAIL, where they
    can only mean who we are and how many messages we send (at RCPT and behind the
    content they are about a recipient, as greylisting is, or the content); 4.3.x
    and 4.4.x, the system's own trouble, in 451, 452 and 454; and these codes alone,
    but for RCPT, where they are used for greylisting and for the number of
    recipients. What is about an address or a mailbox (4.1.x, 4.2.x, RFC 3463 3.2,
    3.3) is not.
    """
    if isinstance(outcome, SendResult):
        return False
    replies = [(rejected.reply, rejected.stage) for rejected in outcome.rejected_recipients]
    if outcome.reply is not None:
        replies.append((outcome.reply, outcome.stage or Stage.COMMAND))
    return any(_asks_for_less(reply, stage) for reply, stage in replies)


def _asks_for_less(reply: Reply, stage: Stage) -> bool:
    enhanced = reply.enhanced
    if reply.code in (_SHUTDOWN, _TOO_MANY):
        return True
    if not reply.is_temporary:
        return False
    if enhanced is None:
        return reply.code in _SLOWER and stage is not Stage.RCPT
    if enhanced.subject == 7 or (enhanced.subject, enhanced.detail) == (5, 3):
        return stage not in (Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL)
    return reply.code in _SLOWER and enhanced.subject not in (1, 2)

"""What a reply says about the server or the connection, besides what it says about the message. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..errors import ConnectionLost, DeliveryUnknown, ProtocolError, ServiceUnavailable, SmtpError, Timeout
from ..retry import RetryPolicy
from ..wire.limits import MIN_RECIPIENTS, Stage
from ..wire.reply import EnhancedCode, Reply
from ..wire.result import SendResult

_SHUTDOWN: Final = 421
_UNRECOGNIZED: Final = 500
_OUT_OF_SEQUENCE: Final = (500, 501, 502, 503)
_TRANSACTION: Final = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL)
_LOCAL_ERROR: Final = 451
_THROTTLED: Final = 454
_SLOWER: Final = frozenset({432, 451, 452, 454})
_TOO_MANY: Final = 432
"""Exchange says it if its threads or connections for us are used up."""
_QUOTAS: Final = frozenset({(4, 5), (1, 90), (7, 232), (7, 233), (7, 236)})
"""Subject and detail. Gmail's 5.4.5 is the daily limit (RFC 3463 3.5: congestion); Exchange Online's 5.1.90
is that of recipients, and 5.7.232, 233 and 236 are those of a tenant."""
_DOUBTFUL_REST: Final = 5.0
"""Seconds for which a server is passed over that refused what may also be about the message, as greylisting
is; then one message asks again."""


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


class Rest(NamedTuple):
    """That a server takes no more for now, as it seems."""

    seconds: float
    reply: Reply
    """By which it said so."""


def rest_after(outcome: SendResult | SmtpError, policy: RetryPolicy) -> Rest | None:
    """For how long a server is passed over that said this; None if nothing is to go elsewhere."""
    if policy.move_on == "never":
        return None
    said = [(reply, stage) for reply, stage in _said(outcome) if goes_elsewhere(reply, stage, policy)]
    for reply, stage in said:
        if _is_quota(reply, stage):
            return Rest(policy.quota_rest, reply)
    return Rest(min(policy.quota_rest, _DOUBTFUL_REST), said[0][0]) if said else None


def goes_elsewhere(reply: Reply, stage: Stage, policy: RetryPolicy) -> bool:
    """Whether another server may have what one refuses by this: it is about the server, or so by policy."""
    if policy.move_on == "temporary" and reply.is_temporary:
        return True
    if policy.move_on == "never" or reply.code < 400:
        return False
    if _is_quota(reply, stage) or _asks_for_less(reply, stage):
        return True
    return reply.code in _SLOWER and reply.enhanced is not None and reply.enhanced.subject == 7


def _is_quota(reply: Reply, stage: Stage) -> bool:
    """Whether it can only mean how much was sent by us.

    421 may be about the connection. 451 with 4.7.x is also greylisting, at RCPT,
    and what a filter says behind the content. Amazon SES says 454 with no
    enhanced code for the rate and for the daily quota.
    """
    enhanced = reply.enhanced
    if reply.code < 400 or reply.code == _SHUTDOWN:
        return False
    if enhanced is None:
        return reply.code == _THROTTLED and stage in _TRANSACTION
    if (enhanced.subject, enhanced.detail) in _QUOTAS:
        return True
    if enhanced.subject != 7 or reply.code not in _SLOWER:
        return False
    return reply.code != _LOCAL_ERROR or stage in (Stage.MAIL, Stage.DATA)


def _said(outcome: SendResult | SmtpError) -> list[tuple[Reply, Stage]]:
    """The replies that refused something, each with its stage."""
    replies = [(rejected.reply, rejected.stage) for rejected in outcome.rejected_recipients]
    if isinstance(outcome, SmtpError) and outcome.reply is not None:
        replies.append((outcome.reply, outcome.stage or Stage.COMMAND))
    return replies


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
    return any(_asks_for_less(reply, stage) for reply, stage in _said(outcome))


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

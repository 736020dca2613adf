"""Whether a connection alone is to blame for what became of a message: that is no try of the message.

So for whatever was taken behind the message on which a connection broke, which
has had its try; and if a connection that has worked before does so no more: it
died while it was idle (FAULTS 87, 114), or its server takes no more messages on
it (FAULTS 113). That one is retired, and the message tried on a new connection,
where the answer is about the message. So too if the session has no room for it (RFC 9422). Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..errors import (
    ConnectionLost,
    DeliveryUnknown,
    ProtocolError,
    ServiceUnavailable,
    SessionLimitReached,
    SmtpError,
    Timeout,
)
from ..wire.limits import Stage
from .connection import PooledConnection, PooledServer
from .replies import Refusal, is_idle_end, refusal_of

_GONE: Final = (ConnectionLost, Timeout, ServiceUnavailable, ProtocolError)
"""What a connection fails with that died while it was idle, or at its last message."""
_BREAKS: Final = (*_GONE, DeliveryUnknown)
"""What ends a connection with the message on which it happened."""
_BEFORE_MAIL: Final = (Stage.INPUT, Stage.MAIL)
_BEFORE_CONTENT: Final = (Stage.INPUT, Stage.MAIL, Stage.RCPT, Stage.DATA)
"""Also RCPT and DATA: 221 in answer to MAIL is an acceptance by its code, and the loss comes behind it."""
_IN_A_ROW: Final = 3
"""So many messages refused in a row by what was about the message before mean the connection after all."""
_SHORT_REST: Final = 1.0
"""Seconds in which no server gives up an idle connection: what it says then is about how many it takes."""


class Suspicion(NamedTuple):
    """That a connection which had worked took no more, whatever the message."""

    server: PooledServer
    refusal: Refusal
    messages: int | None
    """How many it had taken; None if that says nothing."""


class Blame(NamedTuple):
    """What a failure says of the connection."""

    broke: bool = False
    """It ends with this message."""
    spares: bool = False
    """The message may be excused from this try."""
    is_sure: bool = False
    """And there is no limit to how often."""
    retires: bool = False
    """The connection is to serve no more, and the message to go on a newer one."""
    in_a_row: bool = False
    """One more refusal as if the server took no more on it."""
    others_too: bool = False
    """What has been idle for as long is as dead."""
    suspicion: Suspicion | None = None


def blame_for(connection: PooledConnection, error: SmtpError, *, was_tried: bool, trouble: bool) -> Blame:
    """What an error says of the connection on which a message ended with it.

    ``was_tried``: the message has had a try before. ``trouble``: with an
    envelope that overlapped with the message before.
    """
    if isinstance(error, SessionLimitReached):
        return Blame(spares=not (error.accepted_recipients or error.rejected_recipients))
    broke = isinstance(error, _BREAKS)
    if trouble and not (error.accepted_recipients or error.unknown_recipients):
        return Blame(broke, spares=True)
    is_gone = error.safe_to_retry and isinstance(error, _GONE)
    if is_gone and connection.has_broken and error.stage in _BEFORE_MAIL:
        return Blame(broke, spares=True, is_sure=True)
    refusal = refusal_of(error)
    if not (is_gone or refusal):
        return Blame(broke)  # above all what is in doubt
    is_idle = error.stage in _BEFORE_CONTENT if is_gone else is_idle_end(error)
    has_rested = connection.has_rested and is_idle
    if not (connection.accepted or has_rested):
        return Blame(broke)
    in_a_row = False
    if not has_rested:
        is_suspect, in_a_row = _is_suspect(connection, error, refusal, was_tried)
        if not is_suspect:
            return Blame(broke, in_a_row=in_a_row)
    suspicion = None
    if refusal is not None:
        says_how_many = connection.accepted and (not has_rested or connection.rest < _SHORT_REST)
        messages = connection.accepted if says_how_many else None
        suspicion = Suspicion(connection.server, refusal, messages)
    others_too = has_rested and error.stage in _BEFORE_MAIL
    return Blame(broke, True, False, True, in_a_row, others_too, suspicion)


def _is_suspect(
    connection: PooledConnection, error: SmtpError, refusal: Refusal | None, was_tried: bool
) -> tuple[bool, bool]:
    """Whether a connection that has not rested may take no more, and whether that is one more in a row.

    421 says so, and hanging up at MAIL.
    """
    if isinstance(error, ServiceUnavailable):
        return True, False
    if refusal is None:
        return error.stage in _BEFORE_MAIL and not isinstance(error, Timeout), False
    if was_tried:
        return False, False  # it was refused before, and is none to tell by
    return refusal not in connection.server.refusals or connection.refused + 1 >= _IN_A_ROW, True

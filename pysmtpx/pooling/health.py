"""What is known of one server: how many connections it allows, and until when it is to be left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import random
from typing import Final

from ..errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryUnknown,
    ProtocolError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
)
from ..wire.limits import MIN_RECIPIENTS, Stage
from ..wire.reply import EnhancedCode, Reply
from ..wire.result import SendResult

QUIET: Final = 10.0
"""Seconds without a complaint after which one more connection is tried."""
FIRST_REST, LONGEST_REST = 0.05, 30.0
"""Seconds for which a server that asks for less is left alone, from the first time on."""
FIRST_DIAL_REST, LONGEST_DIAL_REST = 1.0, 30.0
"""Seconds between dials that fail, where the pool's caller has not said what the longest is."""
FIRST_PROBE, LONGEST_PROBE = 30.0, 900.0
"""Seconds between tries of a password that was refused."""
_MOST_REFUSALS: Final = 64
_JITTER: Final = 0.5
_SHUTDOWN: Final = 421
_UNRECOGNIZED: Final = 500
_OUT_OF_SEQUENCE: Final = (500, 501, 502, 503)
_TRANSACTION: Final = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL)
_SLOWER: Final = frozenset({432, 451, 452, 454})
_TOO_MANY: Final = 432
"""Exchange says it where its threads or connections for us are used up."""
_LIMITED_CONNECTIONS: Final = 8
"""Connections that keep a number of messages that was learnt, until one tries whether it still holds."""


class Health:
    """The state of one server. Pure: time is passed in, and the caller holds the lock of the pool."""

    def __init__(
        self, most: int, share: Callable[[], float] = random, *, longest_dial_rest: float = LONGEST_DIAL_REST
    ) -> None:
        self.cap = self._most = most
        """Connections that it seems to allow, from 1 to the most that are wanted."""
        self.rest_until = -math.inf
        """Nothing is sent to it, nor is it dialled, until then."""
        self.refused: AuthenticationError | None = None
        """By this it refused our credentials, and has not accepted them since."""
        self.chunking_works = True
        """False once it hung or broke on several transactions by BDAT (an Exchange server may hang)."""
        self.overlap_works = True
        """False once it mishandled an envelope behind another message's end of data."""
        self.recipient_limit: int | None = None
        """Recipients of a transaction, once it hung up on more than every server has to take."""
        self.message_limit = math.inf
        """Messages after which it refuses all others of the same connection, where it was seen to do so."""
        self.refusals: set[object] = set()
        """Refusals that a new connection repeated: what they say of the message holds on any."""
        self._share = share
        self._longest_dial_rest = longest_dial_rest
        self._limited = 0
        """Connections that were told of ``message_limit``."""
        self._refused_at = -math.inf
        self._dial_at = -math.inf
        self._dial_rest = self._probe_rest = self._rest = 0.0
        self._quiet_since = -math.inf
        self._cap_before: int | None = None
        """The cap before dials that began together were refused, where none of them has come off."""

    @property
    def is_well(self) -> bool:
        """True where nothing is held against it that an acceptance would mend."""
        return self.cap == self._most and not self._rest

    # -- dialling ---------------------------------------------------------------------

    def may_dial(self, open_now: int, now: float) -> float:
        """From when on it may be dialled, where ``open_now`` connections are open or being dialled.

        Now or earlier: at once. Infinity: not before one of them ends or the cap grows.
        """
        if open_now >= self.cap:
            return math.inf
        return max(self._dial_at, self.rest_until)

    def dialling(self, now: float) -> None:
        """A dial begins: where the credentials were refused it is the only one for a while."""
        if self.refused is not None:
            self._dial_at = now + self._probe_rest

    def dialled(self, now: float) -> None:
        """A session was opened."""
        self.refused = self._cap_before = None
        self._dial_rest = self._probe_rest = 0.0
        self._dial_at = -math.inf

    def dial_failed(
        self,
        error: SmtpError,
        others: int,
        now: float,
        *,
        established: bool = True,
        began: float = math.inf,
    ) -> None:
        """No session came about, while there are so many ``others``, open or being dialled.

        Credentials refused for good: nobody tries them again but a single probe
        after 30 seconds, then after twice as many, up to 900. Dials that ``began``
        before the first of them was refused are one failure. A refusal for now
        while others are open: that is how many it allows, unless none of them is
        ``established`` by the time when the last is refused: that says nothing of
        how many. Else it is left alone for a second, then twice as long, up to 30.
        """
        reply = error.reply
        if isinstance(error, AuthenticationError) and not error.temporary:
            self.refused = error  # one probe at a time from now on: no lockout (FAULTS 86)
            if began <= self._refused_at:
                return
            self._refused_at = now
            self._probe_rest = _grown(self._probe_rest, FIRST_PROBE, LONGEST_PROBE)
            self._dial_at = now + min(LONGEST_PROBE, self._probe_rest * (1 + _JITTER * self._share()))
        elif others and reply is not None and reply.is_temporary:
            if not established and self._cap_before is None:
                self._cap_before = self.cap
            self.cap = min(self.cap, others)  # which are enough: no message fails for that (FAULTS 90)
            self._quiet_since = now
        elif now >= self._dial_at:  # several that began together are one failure
            if self._cap_before is not None:
                self.cap, self._cap_before = self._cap_before, None
            self._dial_rest = _grown(self._dial_rest, FIRST_DIAL_REST, self._longest_dial_rest)
            self._dial_at = now + self._dial_rest * (1 - _JITTER * self._share())

    # -- sending ----------------------------------------------------------------------

    def slowed(self, now: float, open_now: int) -> None:
        """It asked for less: one connection fewer, after a rest of 50 ms, then twice as long, up to 30 s."""
        self._quiet_since = now
        if now < self.rest_until:
            return  # messages that were under way when it said so the first time
        self.cap = max(1, min(self.cap, open_now) - 1)
        self._rest = _grown(self._rest, FIRST_REST, LONGEST_REST)
        self.rest_until = now + self._rest

    def accepted(self, now: float) -> None:
        """It took a message: one connection more for each quiet spell of 10 seconds that has passed."""
        self._rest = 0.0
        if self.cap >= self._most:
            return
        spells = (now - self._quiet_since) / QUIET
        if spells >= 1:
            self.cap = int(min(self._most, self.cap + spells))
            self._quiet_since = now

    # -- how many messages a connection may send ----------------------------------------

    def is_next_limited(self) -> bool:
        """Whether the next connection keeps to ``message_limit``; now and then one tries whether it holds."""
        if math.isinf(self.message_limit):
            return True
        self._limited += 1
        return self._limited % (_LIMITED_CONNECTIONS + 1) != 0

    def limit_found(self, messages: int, refusal: object) -> None:
        """It refused by this what came behind so many on one connection, and took it on another."""
        self.refusals.discard(refusal)
        if messages < self.message_limit:
            self.message_limit, self._limited = messages, 0

    def limit_passed(self, messages: int) -> None:
        """It took so many on one connection."""
        if messages > self.message_limit:
            self.message_limit = math.inf

    def refusal_repeated(self, refusal: object) -> None:
        """A new connection refused the same message in the same way."""
        if len(self.refusals) >= _MOST_REFUSALS:
            self.refusals.clear()
        self.refusals.add(refusal)

    # -- what it can do ------------------------------------------------------------------

    def learn(self, outcome: SendResult | SmtpError, *, by_bdat: bool, trouble: bool) -> None:
        """What became of a message that went by BDAT, or overlapped with another.

        The first loss or breach rules out BDAT, several in flight, for good; the
        first ``trouble`` with an envelope behind an end of data rules that out.
        """
        if by_bdat and _is_break(outcome):
            self.chunking_works = False
        if trouble:
            self.overlap_works = False
        if _is_hang_up_on_recipients(outcome):
            self.recipient_limit = MIN_RECIPIENTS


def _grown(seconds: float, first: float, most: float) -> float:
    return min(most, seconds * 2 or first)


def _is_break(outcome: SendResult | SmtpError) -> bool:
    """Whether the connection broke on a message of which something had been written."""
    cause = outcome.__cause__ if isinstance(outcome, DeliveryUnknown) else outcome
    return isinstance(cause, Timeout | ConnectionLost | ProtocolError) and cause.stage is not Stage.INPUT


def _is_hang_up_on_recipients(outcome: SendResult | SmtpError) -> bool:
    """Whether it ended the session within more recipients than it must take (chasquid: 421; FAULTS 116)."""
    if not isinstance(outcome, ServiceUnavailable | ConnectionLost) or outcome.stage is not Stage.RCPT:
        return False
    return len(outcome.rejected_recipients) + len(outcome.unsent_recipients) > MIN_RECIPIENTS


def refusal_of(outcome: SendResult | SmtpError) -> tuple[Stage, int, EnhancedCode | None] | None:
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
    return stage, reply.code, reply.enhanced


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

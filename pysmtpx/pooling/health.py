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
    SmtpError,
    Timeout,
)
from ..wire.limits import Stage
from ..wire.reply import Reply
from ..wire.result import SendResult

QUIET: Final = 10.0
"""Seconds without a complaint after which one more connection is tried."""
FIRST_REST, LONGEST_REST = 0.05, 30.0
"""Seconds for which a server that asks for less is left alone, from the first time on."""
FIRST_DIAL_REST, LONGEST_DIAL_REST = 1.0, 300.0
"""Seconds between dials that fail."""
FIRST_PROBE, LONGEST_PROBE = 30.0, 900.0
"""Seconds between tries of a password that was refused."""
_JITTER: Final = 0.5
_SHUTDOWN: Final = 421
_SLOWER: Final = frozenset({432, 451, 452, 454})


class Health:
    """The state of one server. Pure: time is passed in, and the caller holds the lock of the pool."""

    def __init__(self, most: int, share: Callable[[], float] = random) -> None:
        self.cap = self._most = most
        """Connections that it seems to allow, from 1 to the most that are wanted."""
        self.rest_until = -math.inf
        """Nothing is sent to it, nor is it dialled, until then."""
        self.refused: AuthenticationError | None = None
        """By this it refused our credentials, and has not accepted them since."""
        self.chunking_works = True
        """False once it hung on BDAT (an Exchange server may)."""
        self.overlap_works = True
        """False once it mishandled an envelope behind another message's end of data."""
        self._share = share
        self._dial_at = -math.inf
        self._dial_rest = self._probe_rest = self._rest = 0.0
        self._quiet_since = -math.inf
        self._cap_before: int | None = None
        """The cap before dials that began together were refused, where none of them has come off."""
        self._lost_overlaps = 0

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

    def dial_failed(self, error: SmtpError, others: int, now: float, *, established: bool = True) -> None:
        """No session came about, while there are so many ``others``, open or being dialled.

        Credentials refused for good: nobody tries them again but a single probe
        after 30 seconds, then after twice as many, up to 900. A refusal for now
        while others are open: that is how many it allows, unless none of them is
        ``established`` by the time when the last is refused: that says nothing of
        how many. Else it is left alone for a second, then twice as long, up to 300.
        """
        reply = error.reply
        if isinstance(error, AuthenticationError) and not error.temporary:
            self.refused = error  # one probe at a time from now on: no lockout (FAULTS 86)
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
            self._dial_rest = _grown(self._dial_rest, FIRST_DIAL_REST, LONGEST_DIAL_REST)
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

    def learn(self, outcome: SendResult | SmtpError, *, by_bdat: bool, overlapped: bool) -> None:
        """What became of a message that went by BDAT, or with its envelope behind another's end of data.

        A timeout while BDAT is answered rules BDAT out; a breach of the
        protocol, or the second loss in a row, behind an end of data rules that out.
        """
        if by_bdat and _is_hang(outcome):
            self.chunking_works = False
        if not overlapped:
            return
        if not isinstance(outcome, ProtocolError | ConnectionLost | Timeout):
            self._lost_overlaps = 0
        elif outcome.stage is not Stage.INPUT:
            self._lost_overlaps += 2 if isinstance(outcome, ProtocolError) else 1
            self.overlap_works = self.overlap_works and self._lost_overlaps < 2


def _grown(seconds: float, first: float, most: float) -> float:
    return min(most, seconds * 2 or first)


def _is_hang(outcome: SendResult | SmtpError) -> bool:
    if isinstance(outcome, DeliveryUnknown):
        return isinstance(outcome.__cause__, Timeout)
    return isinstance(outcome, Timeout) and outcome.stage in (Stage.CONTENT, Stage.FINAL)


def is_slowdown(outcome: SendResult | SmtpError) -> bool:
    """Whether the server asks us to go slower: by 421, 432, 451, 452, 454 or 4.7.x, in a reply to anybody.

    Not so where it took the message for somebody; nor for what is about one
    address or mailbox (4.1.x, 4.2.x, RFC 3463 3.2, 3.3), or about the number of
    recipients (4.5.3, 3.6).
    """
    if isinstance(outcome, SendResult):
        return False
    replies = [rejected.reply for rejected in outcome.rejected_recipients]
    if outcome.reply is not None:
        replies.append(outcome.reply)
    return any(map(_asks_for_less, replies))


def _asks_for_less(reply: Reply) -> bool:
    enhanced = reply.enhanced
    if reply.code == _SHUTDOWN:
        return True
    if enhanced is None:
        return reply.code in _SLOWER
    if not reply.is_temporary or enhanced.subject in (1, 2) or (enhanced.subject, enhanced.detail) == (5, 3):
        return False
    return enhanced.subject == 7 or reply.code in _SLOWER

"""How long a server is left alone, and how many connections it seems to allow. Pure: time is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import random
from typing import Final

from ..errors import AuthenticationError, SmtpError
from ..wire.reply import Reply

QUIET: Final = 10.0
"""Seconds without a complaint after which one more connection is tried."""
FIRST_REST, LONGEST_REST = 0.05, 30.0
"""Seconds for which a server that asks for less is left alone, from the first time on."""
FIRST_DIAL_REST, LONGEST_DIAL_REST = 1.0, 30.0
"""Seconds between dials that fail, where the pool's caller has not said what the longest is."""
FIRST_PROBE, LONGEST_PROBE = 30.0, 900.0
"""Seconds between tries of a password that was refused."""
_JITTER: Final = 0.5


class Backoff:
    """How one server is spared. The lock of the pool's connections is held by whoever calls."""

    def __init__(
        self, most: int, share: Callable[[], float] = random, *, longest_dial_rest: float = LONGEST_DIAL_REST
    ) -> None:
        self.cap = self._most = most
        """Connections that it seems to allow, from 1 to the most that are wanted."""
        self.rest_until = -math.inf
        """Nothing is sent to it, nor is it dialled, until then."""
        self.passed_over_at = self.passed_over_until = -math.inf
        """It said that it takes no more for now: others have the mail until then, if there are any."""
        self.passed_over_for: Reply | None = None
        """By this it said so."""
        self.refused: AuthenticationError | None = None
        """By this it refused our credentials, and has not accepted them since."""
        self._share = share
        self._longest_dial_rest = longest_dial_rest
        self._refused_at = -math.inf
        self._dial_at = -math.inf
        self._dial_rest = self._probe_rest = self._rest = 0.0
        self._quiet_since = -math.inf
        self._cap_before: int | None = None
        """The cap before dials that began together were refused, while none of them has come off."""

    @property
    def is_over(self) -> bool:
        """True if nothing is held against it that an acceptance would mend."""
        return self.cap == self._most and not self._rest

    # -- dialling ---------------------------------------------------------------------

    def may_dial(self, open_now: int, now: float) -> float:
        """From when on it may be dialled, if ``open_now`` connections are open or being dialled.

        Now or earlier: at once. Infinity: not before one of them ends or the cap grows.
        """
        if open_now >= self.cap:
            return math.inf
        return max(self._dial_at, self.rest_until)

    def dial_begins(self, now: float) -> None:
        """If the credentials were refused it is the only dial for a while."""
        if self.refused is not None:
            self._dial_at = now + self._probe_rest

    def dial_succeeded(self) -> None:
        """A session was opened."""
        self.refused = self._cap_before = None
        self._dial_rest = self._probe_rest = 0.0
        self._dial_at = -math.inf

    def dial_failed(
        self, error: SmtpError, others: int, now: float, *, established: bool = True, began: float = math.inf
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

    def pass_over(self, now: float, seconds: float, reply: Reply) -> None:
        """It takes no more for now; of several replies the one that asks for most counts."""
        if now + seconds >= self.passed_over_until:
            self.passed_over_until, self.passed_over_for = now + seconds, reply
        self.passed_over_at = now

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


def _grown(seconds: float, first: float, most: float) -> float:
    return min(most, seconds * 2 or first)

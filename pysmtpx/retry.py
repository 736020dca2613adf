"""What is tried again, how often and when: a value, and nothing that waits."""

from __future__ import annotations

import logging
import random as _random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from .errors import (
    ConnectError,
    ConnectionLost,
    CredentialsUnavailable,
    DeliveryUnknown,
    InputError,
    NotSupportedError,
    ProtocolError,
    SessionLimitReached,
    SmtpError,
    Timeout,
)
from .options import suggesting
from .records import fields
from .telling import Telling
from .values import flag, from_zero, whole

_log: Final = logging.getLogger("pysmtpx")
_telling: Final = Telling("retryable")

_POINTLESS: Final = (InputError, NotSupportedError)
"""Nothing was written, and the next try would end the same."""
_BROKEN: Final = (ConnectError, ConnectionLost, ProtocolError, SessionLimitReached, Timeout)
"""Where no reply refused anything, these are about the connection and not about the message."""
_SHUTDOWN: Final = 421


@suggesting
@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What a pool sends again of its own accord, to the recipients that are still owed it.

    By default only what failed before the end of data was written and without
    a refusal: no connection, a lost one, a timeout, a breach of the protocol, 421,
    or no token because its provider is down or busy. What is in doubt is sent
    again only where ``unknown`` asks for it. A refusal for good (5xx), a
    certificate or password that was refused, and what is wrong with the call
    itself are never tried again.

    Where there are several servers, those who were refused by one of them for
    what ``move_on`` names are sent to by the next at once, as another try.

    Raises ``InputError`` for values that make no sense.
    """

    attempts: int = 3
    """Tries in all, the first one included; 1 is never again."""
    backoff: float = 0.2
    """Seconds before the second try, doubled for each further one."""
    max_backoff: float = 60.0
    """Seconds that a wait does not exceed, the first one included."""
    jitter: float = 0.5
    """The share of each wait that is left to chance: all connections may have died at once."""
    total: float | None = None
    """Seconds from the first try after which no further one begins; None is no limit of its own.

    If ``backoff`` is longer, there is a further try only where another server has it at once.
    """
    temporary: bool = False
    """Refusals for now (4xx) too, for the recipients that were refused so."""
    unknown: bool = False
    """``DeliveryUnknown`` too. This may deliver twice."""
    move_on: Literal["quota", "temporary", "never"] = "quota"
    """What lets another server have what one refused.

    ``"quota"``: replies that are about the server and not about the message: a
    quota or rate (432, 451, 452 and 454 with 4.7.x, 4.4.5, 5.4.5), or its own
    trouble (421, 4.3.x). ``"temporary"``: every refusal for now (4xx).
    """
    quota_rest: float = 600.0
    """Seconds for which a server that named a quota is left alone, as long as there is another one."""
    retryable: Callable[[SmtpError], bool] | None = None
    """Has a last word on each error that would be tried again; it can forbid that, and allow nothing more.

    One that raises forbids.
    """

    def __post_init__(self) -> None:
        whole("attempts", self.attempts)
        from_zero("backoff", self.backoff)
        from_zero("max_backoff", self.max_backoff)
        from_zero("jitter", self.jitter, most=1)
        if self.total is not None:
            from_zero("total", self.total)
        from_zero("quota_rest", self.quota_rest)
        for name in ("temporary", "unknown"):
            flag(name, getattr(self, name))
        if self.move_on not in ("quota", "temporary", "never"):
            raise InputError('move_on is "quota", "temporary" or "never"')
        if self.retryable is not None and not callable(self.retryable):
            raise InputError("retryable is a function of an error, or None")

    def wants(self, error: SmtpError) -> bool:
        """Whether what failed with this may be tried again: by kind, and by ``retryable``."""
        return self.covers(error) and self.allows(error)

    def covers(self, error: SmtpError) -> bool:
        """Whether errors of this kind are tried again, for those who have no message yet.

        Who has it already (``error.accepted_recipients``) plays no part: it is
        not sent to them again.
        """
        if isinstance(error, _POINTLESS):
            return False
        if isinstance(error, DeliveryUnknown):
            return self.unknown
        reply = error.reply
        if reply is None or reply.code < 400:
            is_without_token = isinstance(error, CredentialsUnavailable) and error.temporary
            return is_without_token or isinstance(error, _BROKEN)
        return reply.code == _SHUTDOWN or (self.temporary and error.temporary)

    def allows(self, error: SmtpError) -> bool:
        """What ``retryable`` says; True without it."""
        if self.retryable is None:
            return True
        try:
            return bool(self.retryable(error))
        except Exception:
            text = "retryable failed for %s: that is not tried again"
            extra = fields(event="failed", error=type(error).__name__)
            _telling.once(partial(_log.exception, text, type(error).__name__, extra=extra))
            return False

    def pause(self, attempts: int, began: float, moment: float, *, at_once: bool = False) -> float | None:
        """Seconds from ``moment`` until the next try, after so many; None where there is to be none.

        ``began``, when the first one did, is in seconds of the same clock.
        ``at_once``: another server is to have it, which needs no pause.
        """
        if attempts >= self.attempts:
            return None
        delay = 0.0 if at_once else self.delay(attempts)
        if self.total is not None and moment + delay > began + self.total:
            return None
        return delay

    def delay(self, attempt: int, random: Callable[[], float] = _random.random) -> float:
        """Seconds to wait after ``attempt`` tries; ``random`` gives a number from 0 to 1."""
        longest = min(self.max_backoff, self.backoff * 2.0 ** min(attempt - 1, 64))
        return longest * (1 - self.jitter * random())

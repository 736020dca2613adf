"""What a pool tells while it works: to the log, and to a hook of the user's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ..errors import SmtpError
from ..telling import Telling
from ..wire.result import SendResult

_log: Final = logging.getLogger("pysmtpx")

Kind: TypeAlias = Literal["connected", "sent", "refused", "retried", "closed"]

LEVELS: Final[dict[Kind, int]] = {
    "connected": logging.DEBUG,
    "sent": logging.DEBUG,
    "closed": logging.DEBUG,
    "retried": logging.INFO,
    "refused": logging.WARNING,
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``seconds`` is what it took, or what the connection lasted.

    ``"refused"`` is a message that ended with an error or, without ``mail``, a
    connection that could not be made.
    """

    kind: Kind
    server: str
    """Host and port, or path."""
    seconds: float
    mail: Any = field(default=None, repr=False)
    """As the caller gave it."""
    outcome: SendResult | SmtpError | None = None
    attempt: int = 0
    """Tries of this message so far."""
    delay: float | None = None
    """Seconds until the next one."""
    why: str = ""


_telling: Final = Telling("events")


class Events:
    """Tells each event to the log and the hook, in the thread in which it happened.

    Of mail that they send in turn nothing is told: a handler that mails what is
    logged, or a hook that reports by mail, would go on for ever.
    """

    def __init__(self, hook: Callable[[Event], None] | None = None) -> None:
        self.hook = hook

    def emit(self, event: Event) -> None:
        """Tell it. What the hook raises is logged, and changes nothing (FAULTS 92)."""
        _telling.once(self._emit, event)

    def _emit(self, event: Event) -> None:
        level = LEVELS[event.kind]
        if _log.isEnabledFor(level):
            _log.log(level, "%s", _line(event))
        if event.why and level > logging.DEBUG:
            _log.debug("%s %s: %s", event.server, event.kind, event.why)
        if self.hook is not None:
            try:
                self.hook(event)
            except Exception:
                _log.exception("the hook for %s events failed", event.kind)


def _line(event: Event) -> str:
    """What may stand in any log: of an error its kind and codes, for its text may name an address."""
    words = [f"{event.server or 'no server'} {event.kind} after {event.seconds:.3f} s"]
    if event.attempt:
        words.append(f"try {event.attempt}")
    if isinstance(event.outcome, SmtpError):
        words.append(_codes(event.outcome))
    if event.delay is not None:
        words.append(f"again in {event.delay:.1f} s")
    return ", ".join(words)


def _codes(error: SmtpError) -> str:
    words = [type(error).__name__]
    if error.stage is not None:
        words.append(f"at {error.stage.value}")
    if error.reply is not None:
        words.append(str(error.reply.code))
        words += [str(error.reply.enhanced)] if error.reply.enhanced is not None else []
    return " ".join(words)

"""What happens while mail is sent, told to the log, to a hook of the user's, and to those who observe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from . import observing
from .errors import SmtpError
from .identifiers import message_id, queue_id
from .observing import Event, Kind
from .outcome import Outcome
from .records import Fields, fields, reply_fields
from .telling import Telling
from .wire.result import SendResult

__all__ = ["LEVELS", "OF_CONNECTIONS", "PARTLY", "Event", "Events", "Kind"]

_log: Final = logging.getLogger("pysmtpx")

LEVELS: Final[dict[Kind, int]] = {
    "connected": logging.DEBUG,
    "sent": logging.DEBUG,
    "closed": logging.DEBUG,
    "retried": logging.INFO,
    "refused": logging.WARNING,
}
PARTLY: Final = logging.INFO
"""The level of a message that some of its recipients were refused."""
RAISED: Final = logging.INFO
"""The level of a refusal on a connection without a pool: its caller is told by the exception, and nobody else
sends for him."""


_telling: Final = Telling("events")


class Events:
    """Tells each event to the log, the hook and the observers, in the thread in which it happened.

    Of mail that they send in turn nothing is told: a handler that mails what is
    logged, or a hook that reports by mail, would go on for ever.
    """

    def __init__(
        self, hook: Callable[[Event], None] | None = None, levels: dict[Kind, int] | None = None
    ) -> None:
        self.hook = hook
        self._levels = levels or LEVELS

    def emit(self, event: Event) -> None:
        """Tell it. What the hook raises is logged, and changes nothing (FAULTS 92)."""
        _telling.once(self._emit, event)

    def are_wanted(self, kind: Kind, outcome: SendResult | SmtpError | None = None) -> bool:
        """Whether there is anybody to tell this to."""
        if self.hook is not None or observing.observers:
            return True
        return _log.isEnabledFor(self._levels[kind] if outcome is None else self._level(kind, outcome))

    def _level(self, kind: Kind, outcome: SendResult | SmtpError | None) -> int:
        level = self._levels[kind]
        is_partly = isinstance(outcome, SendResult) and bool(outcome.rejected_recipients)
        return max(level, PARTLY) if is_partly else level

    def _emit(self, event: Event) -> None:
        level = self._level(event.kind, event.outcome)
        if _log.isEnabledFor(level):
            _log.log(level, "%s", _line(event), extra=fields(_fields(event)))
        if event.why and level > logging.DEBUG:
            why = fields(_fields(event), why=event.why)
            _log.debug("%s %s: %s", event.server, event.kind, event.why, extra=why)
        if observing.observers:
            observing.tell(event)
        if self.hook is not None:
            try:
                self.hook(event)
            except Exception:
                failed = fields(event="failed", server=event.server)
                _log.exception("the hook for %s events failed", event.kind, extra=failed)


OF_CONNECTIONS: Final = Events(levels={**LEVELS, "refused": RAISED})
"""Of those that belong to no pool."""


def _line(event: Event) -> str:
    """What may stand in any log: of an error its kind and codes, for its text may name an address."""
    words = [f"{event.server or 'no server'} {event.kind} after {event.seconds:.3f} s"]
    if event.attempt:
        words.append(f"try {event.attempt}")
    if isinstance(event.outcome, SmtpError):
        words.append(_codes(event.outcome))
    elif event.outcome is not None and event.outcome.rejected_recipients:
        refused, all_of_them = len(event.outcome.rejected_recipients), len(event.outcome.accepted_recipients)
        words.append(f"{refused} of {refused + all_of_them} recipients refused")
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


def _fields(event: Event) -> Fields:
    """The same for programs."""
    found: Fields = {
        "event": event.kind,
        "server": event.server or None,
        "seconds": event.seconds,
        "attempt": event.attempt or None,
        "delay": event.delay,
    }
    if event.mail is not None:
        found["message_id"] = message_id(event.mail if event.written is None else event.written)
    found |= _outcome_fields(event.outcome, event.mail)
    if event.kind == "retried":
        del found["outcome"]  # it has none yet
    return found


def _outcome_fields(outcome: SendResult | SmtpError | None, mail: Any) -> Fields:
    if outcome is None:
        return {}
    found: Fields = reply_fields(outcome.reply)
    if isinstance(outcome, SendResult):
        found["queue_id"] = queue_id(outcome.reply)
    else:
        found |= {"error": type(outcome).__name__, "stage": outcome.stage and outcome.stage.value}
    if mail is not None:
        told = Outcome.of(mail, outcome)
        counts = [
            len(told.accepted_recipients),
            len(told.rejected_recipients),
            len(told.unknown_recipients),
            len(told.unsent_recipients),
        ]
        found["withheld"] = len(getattr(outcome, "withheld_recipients", ())) or None
        found |= {"outcome": told.status, "recipients": sum(counts)}
        found |= dict(zip(("accepted", "rejected", "unknown", "unsent"), counts, strict=True))  # type: ignore[typeddict-item]
    return found

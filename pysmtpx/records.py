"""The fields that the package's log records carry beside their text: one table of names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypedDict, Unpack

from .wire.reply import Reply

PREFIX: Final = "smtp_"
"""Of every name: the application may have a ``server`` or a ``code`` of its own on each record, and
``logging`` raises for a name that is taken."""


class Fields(TypedDict, total=False):
    """The names, without their prefix. None stands for what is not known, and is left out."""

    event: str | None
    """What happened: ``connected``, ``sent``, ``refused``, ``retried``, ``closed``, ``withheld``;
    ``wire`` is a line of the conversation, ``warning`` something that is worth a look, ``failed`` an
    exception that nobody else gets."""
    server: str | None
    """Host and port, or the path of a socket."""
    stage: str | None
    """Where in the conversation, as ``SmtpError.stage``."""
    code: int | None
    """Of the reply that decided."""
    enhanced: str | None
    """Its enhanced code, as 5.1.1."""
    outcome: str | None
    """Of a message: ``accepted``, ``rejected``, ``unknown`` or ``unsent``, as ``Outcome.status``."""
    error: str | None
    """The name of the class of the error."""
    queue_id: str | None
    """What the server calls the message, if its reply says so in a way that is known."""
    message_id: str | None
    """The Message-ID of the message, if its content is in memory."""
    seconds: float | None
    """What it took, or what the connection lasted."""
    recipients: int | None
    """How many; the next four add up to it."""
    accepted: int | None
    rejected: int | None
    unknown: int | None
    unsent: int | None
    withheld: int | None
    """To whom ``redirect_to`` or ``allow_recipients`` let nothing go; these are none of the recipients."""
    attempt: int | None
    """Tries of the message so far."""
    delay: float | None
    """Seconds until the next one."""
    why: str | None
    """In words that may name an address; at DEBUG alone."""
    direction: str | None
    """``C`` for a line of ours, ``S`` for one of the server's."""
    mechanism: str | None
    """The SASL mechanism."""
    in_flight: int | None
    """Messages that were to be under way at once."""
    task: str | None
    """The id of the Celery task."""


def fields(*parts: Fields, **given: Unpack[Fields]) -> dict[str, Any]:
    """For ``extra=``: those that are known, under their full names."""
    found: dict[str, Any] = {}
    for each in (*parts, given):
        found |= {PREFIX + name: value for name, value in each.items() if value is not None}
    return found


def reply_fields(reply: Reply | None) -> Fields:
    """Its codes."""
    if reply is None:
        return {}
    return {"code": reply.code, "enhanced": None if reply.enhanced is None else str(reply.enhanced)}


# What the handlers and filters of the application raise.

_NOBODY: Final = logging.NullHandler()


def _guarded(handle: Callable[[logging.LogRecord], None]) -> Callable[[logging.LogRecord], None]:
    """The same, but what it raises is shown as ``logging`` shows it of its own handlers, and goes no further.

    A filter that fails in the middle of a transaction would break that off and, behind the end of data,
    have the sender of a message that was accepted believe that it was not.
    """

    def guarded(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception:
            _NOBODY.handleError(record)

    return guarded


for _name in ("pysmtpx", "pysmtpx.wire"):
    _logger = logging.getLogger(_name)
    if "handle" not in vars(_logger):  # whoever loads the package anew has the same loggers
        _logger.handle = _guarded(_logger.handle)  # type: ignore[assignment,method-assign]

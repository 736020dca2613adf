"""Errors that existing handlers catch: one object of our own class and of that which ``smtplib`` would raise.

A view that was written for the standard library says ``except
smtplib.SMTPException`` or ``except OSError``, and reads ``smtp_code``. An error
that was joined answers to that, and keeps all that a ``SmtpError`` tells.
"""

from __future__ import annotations

import contextlib
import smtplib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from ..errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    NotSupportedError,
    RecipientsRejected,
    RejectedError,
    SenderRejected,
    SmtpError,
    Timeout,
)
from ..wire.reply import Reply

_PAIRS: Final[tuple[tuple[type[SmtpError], type[smtplib.SMTPException]], ...]] = (
    (NotSupportedError, smtplib.SMTPNotSupportedError),
    (SenderRejected, smtplib.SMTPSenderRefused),
    (RecipientsRejected, smtplib.SMTPRecipientsRefused),
    (DataRejected, smtplib.SMTPDataError),
    (AuthenticationError, smtplib.SMTPAuthenticationError),
    (ConnectError, smtplib.SMTPConnectError),
    (RejectedError, smtplib.SMTPResponseException),
    (Timeout, smtplib.SMTPServerDisconnected),
    (ConnectionLost, smtplib.SMTPServerDisconnected),
    # Whoever sends again after SMTPServerDisconnected would deliver this one twice.
    (DeliveryUnknown, smtplib.SMTPException),
    (SmtpError, smtplib.SMTPException),
)
"""The first that fits; those of smtplib are all OSErrors."""


@contextlib.contextmanager
def smtplib_errors(sender: str = "") -> Iterator[None]:
    """Within the block each ``SmtpError`` is raised ``joined``."""
    try:
        yield
    except SmtpError as error:
        raise joined(error, sender) from error.__cause__


def joined(error: SmtpError, sender: str = "") -> SmtpError:
    """The same error, of a class that is also the nearest one of ``smtplib``; one that is so already stays.

    It has ``smtp_code``, ``smtp_error``, ``recipients`` and ``sender`` (the
    reverse-path) where that exception has them, and it pickles. An
    ``InputError`` stays a ``ValueError`` too.
    """
    if isinstance(error, smtplib.SMTPException):
        return error
    face = next(face for kind, face in _PAIRS if isinstance(error, kind))
    if issubclass(face, smtplib.SMTPResponseException) and error.reply is None:
        face = smtplib.SMTPException  # nobody answered: there is no code to tell
    twin = _revive(type(error), face, error.args, vars(error) | _answers(error, face, sender))
    twin.__cause__, twin.__suppress_context__ = error.__cause__, True
    return twin.with_traceback(error.__traceback__)


def _answers(error: SmtpError, face: type[smtplib.SMTPException], sender: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if hasattr(error, "__notes__"):
        found["__notes__"] = list(error.__notes__)
    if issubclass(face, smtplib.SMTPRecipientsRefused):
        found["recipients"] = {str(each.recipient): _answer(each.reply) for each in error.rejected_recipients}
    elif issubclass(face, smtplib.SMTPResponseException) and error.reply is not None:
        found["smtp_code"], found["smtp_error"] = _answer(error.reply)
        if issubclass(face, smtplib.SMTPSenderRefused):
            found["sender"] = sender
    return found


def _answer(reply: Reply) -> tuple[int, bytes]:
    return reply.code, b"\n".join(reply.lines)


@cache
def _both(kind: Any, face: Any) -> type[SmtpError]:
    def reduce(self: SmtpError) -> tuple[Any, ...]:
        return _revive, (kind, face, self.args, vars(self))

    space = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduce}
    return type(kind.__name__, (kind, face), space)


def _revive(kind: Any, face: Any, args: tuple[Any, ...], state: dict[str, Any]) -> SmtpError:
    error: SmtpError = OSError.__new__(_both(kind, face))  # ValueError's would not do
    error.args = args
    vars(error).update(state)
    return error

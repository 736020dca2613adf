"""Errors that existing handlers catch: one object of our own class and of those that ``smtplib`` would raise.

A view that was written for the standard library says ``except
smtplib.SMTPException``, ``except ssl.SSLError`` or ``except
ConnectionRefusedError``, and reads ``smtp_code`` or ``errno``. An error that was
joined answers to that, and keeps all that a ``SmtpError`` tells.
"""

from __future__ import annotations

import contextlib
import smtplib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeAlias, cast

from ..errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    InputError,
    MessageTooLarge,
    NotSupportedError,
    ProtocolError,
    RecipientsRejected,
    RejectedError,
    SenderRejected,
    SmtpError,
    Timeout,
    TlsError,
)
from ..wire.limits import Stage

_Answer: TypeAlias = tuple[int, bytes]
_Faces: TypeAlias = tuple[type[Exception], ...]

_BY_KIND: Final[tuple[tuple[type[SmtpError], type[smtplib.SMTPException]], ...]] = (
    (MessageTooLarge, smtplib.SMTPSenderRefused),
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
_BY_STAGE: Final[dict[Stage | None, type[smtplib.SMTPException]]] = {
    Stage.GREETING: smtplib.SMTPConnectError,
    Stage.HELLO: smtplib.SMTPHeloError,
    Stage.STARTTLS: smtplib.SMTPResponseException,
    Stage.AUTH: smtplib.SMTPAuthenticationError,
    Stage.MAIL: smtplib.SMTPSenderRefused,
    Stage.RCPT: smtplib.SMTPRecipientsRefused,
    Stage.DATA: smtplib.SMTPDataError,
    Stage.CONTENT: smtplib.SMTPDataError,
    Stage.FINAL: smtplib.SMTPDataError,
}
"""What ``smtplib`` makes of an answer that is not the one it waits for, readable or not."""
_CLOSING: Final = 421
_TOO_LARGE: Final = 552
"""What a server says of a message over its SIZE (RFC 1870 6.1)."""
_NO_CODE: Final = -1
"""What ``smtplib`` gives for an answer that has none."""
_OF_PYTHON: Final = frozenset({"builtins", "socket", "ssl"})
_SLOTS: Final = ("errno", "strerror")
_OF_A_CAUSE: Final = (*_SLOTS, "library", "reason", "verify_code", "verify_message")


@contextlib.contextmanager
def smtplib_errors(sender: str = "") -> Iterator[None]:
    """Within the block each ``SmtpError`` is raised ``joined``."""
    try:
        yield
    except SmtpError as error:
        raise joined(error, sender) from error.__cause__


def joined(error: SmtpError, sender: str = "") -> SmtpError:
    """The same error, of a class that is also what ``smtplib`` would raise; one that is so already stays.

    It is an ``SMTPException`` with ``smtp_code``, ``smtp_error``, ``recipients``
    and ``sender`` (the reverse-path) where that exception has them. Where a
    dial, a look-up or TLS failed it is the system's error as well, with its
    ``errno``, or the ``ssl.SSLError``. It pickles. An ``InputError`` stays a
    ``ValueError`` too.
    """
    if isinstance(error, smtplib.SMTPException):
        return error
    answer = _answer(error)
    faces = _lowest([*_of_smtplib(error, answer), *_of_the_system(error)])
    state = vars(error) | _told(error, faces, answer, sender)
    if hasattr(error, "__notes__"):
        state["__notes__"] = list(error.__notes__)
    twin = _revive(type(error), faces, error.args, state)
    twin.__cause__, twin.__suppress_context__ = error.__cause__, True
    return twin.with_traceback(error.__traceback__)


def _answer(error: SmtpError) -> _Answer | None:
    """What the server said, or would have said, as ``smtplib`` gives it."""
    if error.reply is not None:
        return error.reply.code, b"\n".join(error.reply.lines)
    text = str(error).encode("ascii", "replace")
    if isinstance(error, MessageTooLarge):
        return _TOO_LARGE, text
    is_unreadable = isinstance(error, ProtocolError) and not isinstance(error, InputError)
    return (_NO_CODE, text) if is_unreadable else None


# -- classes -------------------------------------------------------------------


def _of_smtplib(error: SmtpError, answer: _Answer | None) -> Iterator[type[Exception]]:
    face = next(face for kind, face in _BY_KIND if isinstance(error, kind))
    if answer is None:
        # Nobody answered: there is no code to tell.
        yield smtplib.SMTPException if issubclass(face, smtplib.SMTPResponseException) else face
        return
    yield face
    if not isinstance(error, DeliveryUnknown | InputError):
        yield _BY_STAGE.get(error.stage, smtplib.SMTPException)
        if answer[0] == _NO_CODE:
            yield smtplib.SMTPResponseException  # of a line that is too long
        if answer[0] in (_CLOSING, _NO_CODE):
            yield smtplib.SMTPServerDisconnected  # which is what the next command meets


def _of_the_system(error: SmtpError) -> Iterator[type[Exception]]:
    """What ``smtplib`` lets pass as it is: the errors of a dial and of TLS."""
    if not isinstance(error, ConnectError | TlsError) or error.reply is not None:
        return
    cause = error.__cause__
    if isinstance(cause, OSError):
        # Of somebody's own class the nearest of Python's: theirs may not go together with others.
        yield next(each for each in type(cause).__mro__ if each.__module__ in _OF_PYTHON)
    elif isinstance(cause, ValueError):
        yield ValueError
    elif isinstance(error, TlsError):
        yield smtplib.SMTPNotSupportedError  # no STARTTLS
    if isinstance(error, TlsError) and not error.safe_to_retry:
        # Under TLS 1.3 it is the first reply that does not come (RFC 8446 4.4.2).
        yield smtplib.SMTPServerDisconnected


def _lowest(classes: list[type[Exception]]) -> _Faces:
    """These without repetition, and without one that is above another."""
    found = dict.fromkeys(classes)
    return tuple(
        each for each in found if not any(issubclass(other, each) for other in found.keys() - {each})
    )


# -- attributes ----------------------------------------------------------------


def _told(error: SmtpError, faces: _Faces, answer: _Answer | None, sender: str) -> dict[str, Any]:
    """What a handler reads."""
    found: dict[str, Any] = {}
    both: Any = _both(cast(Any, type(error)), faces)
    if issubclass(both, smtplib.SMTPRecipientsRefused):
        found["recipients"] = _refused(error, answer)
    if issubclass(both, smtplib.SMTPResponseException) and answer is not None:
        found["smtp_code"], found["smtp_error"] = answer
    if issubclass(both, smtplib.SMTPSenderRefused):
        found["sender"] = sender
    if isinstance(error, ConnectError | TlsError):
        values = {name: getattr(error.__cause__, name, None) for name in _OF_A_CAUSE}
        found |= {name: value for name, value in values.items() if value is not None}
    return found


def _refused(error: SmtpError, answer: _Answer | None) -> dict[str, _Answer]:
    found = {
        str(each.recipient): (each.reply.code, b"\n".join(each.reply.lines))
        for each in error.rejected_recipients
    }
    if not isinstance(error, RecipientsRejected) and answer is not None:
        # The answer to one ended it for all who were left.
        found |= dict.fromkeys(map(str, error.unsent_recipients), answer)
    return found


@cache
def _both(kind: Any, faces: _Faces) -> type[SmtpError]:
    def reduce(self: SmtpError) -> tuple[Any, ...]:
        slots = {name: getattr(self, name) for name in _SLOTS if getattr(self, name) is not None}
        return _revive, (kind, faces, self.args, vars(self) | slots)

    space = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduce}
    # What is also an ImportError, as where an extra is missing, cannot be an OSError: then what is above it.
    for nearest in (each for each in kind.__mro__ if issubclass(each, SmtpError)):
        with contextlib.suppress(TypeError):
            return type(kind.__name__, (nearest, *faces), space)
    raise AssertionError(kind)  # SmtpError itself goes together with all of them


def _revive(kind: Any, faces: _Faces, args: tuple[Any, ...], state: dict[str, Any]) -> SmtpError:
    error: SmtpError = OSError.__new__(_both(kind, faces))  # ValueError's would not do
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error

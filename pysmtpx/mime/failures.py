"""What the ``email`` package raises on messages that it let a caller build, told as one error."""

from __future__ import annotations

from email.errors import CharsetError, MessageError
from typing import Final

from ..errors import InputError, SmtpError
from ..shortening import shortened

FAILURES: Final = (MessageError, TypeError, ValueError, LookupError, AttributeError, RecursionError)
"""For a header that breaks, a payload or charset that is none, a surrogate, parts nested too deep."""
_SHOWN: Final = 100


class only_input_errors:
    """Within the block such a failure is raised as ``InputError``; a ``SmtpError`` stays what it is."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Nothing: what counts is how the block ends."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise it as ``InputError``."""
        if isinstance(error, FAILURES) and not isinstance(error, SmtpError):
            raise InputError(f"the message cannot be written: {told(error)}") from error


def told(error: Exception) -> str:
    """The kind of a failure and, where that holds nothing of the content, the reason in short."""
    kind = type(error).__name__
    if isinstance(error, MessageError) and not isinstance(error, CharsetError):
        return kind  # these quote the field
    reason = str(error)
    if isinstance(error, UnicodeError):
        reason = str(getattr(error, "reason", ""))
    return f"{kind}: {shortened(reason, _SHOWN)}" if reason else kind

"""What the Django backends share: every message is tried, told of and counted."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from ...errors import InputError, MessageTooLarge, RecipientsWithheld, SmtpError
from ...outcome import Outcome
from ...pooling.tries import is_of_message
from ...wire.result import SendResult
from ..smtplib_errors import joined
from .signals import announce

Result = SendResult | Exception | None
"""What became of a message; None is that somebody else sends it."""


class Sending:
    """The half of a backend that does not know where messages go."""

    alias: str | None
    fail_silently: bool

    def send_messages(self, email_messages: Iterable[Any]) -> int:
        """Send every message, and return how many were taken for one recipient at least.

        Each message then has ``send_result`` (a ``SendResult``, or None) and
        ``send_error`` (None where nothing went wrong), and the signals were
        sent. One without recipients is left out. Where the server cannot be reached at
        all, or does not let us in, the rest is not tried.

        When all were tried, the first error is raised: a ``SmtpError`` that is
        also the exception of ``smtplib``, or what made the message raised. With
        ``fail_silently`` only what is wrong with a message itself is.
        """
        sent, first = 0, None
        messages = [each for each in email_messages or () if each.recipients()]
        with contextlib.closing(self._send_each(messages)) as results:
            for message, result in results:
                is_sent, error = self._settle(message, result)
                sent += is_sent
                if first is None and not (self.fail_silently and self._is_ours(error)):
                    first = error
        if first is not None:
            raise first
        return sent

    def _settle(self, message: Any, given: Result) -> tuple[bool, Exception | None]:
        """Write down and announce what became of a message; whether it was taken, and what was wrong."""
        result, error = (None, given) if isinstance(given, Exception) else (given, None)
        if isinstance(given, SmtpError):
            result, error = Outcome.of(message, given).result, joined(given, str(message.from_email))
        message.send_result, message.send_error = result, error
        announce(type(self), message, result, error)
        return result is not None or error is None, error

    def _is_ours(self, error: Exception | None) -> bool:
        """Whether the line or the server is at fault, and not who wrote the message."""
        is_theirs = isinstance(error, InputError) and is_of_message(error)
        return isinstance(error, MessageTooLarge | RecipientsWithheld) or (
            isinstance(error, SmtpError) and not is_theirs
        )

    def _send_each(self, messages: Sequence[Any]) -> Generator[tuple[Any, Result], None, None]:
        raise NotImplementedError

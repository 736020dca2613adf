"""What a process that writes messages puts into a queue: a checked, complete message in plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from ...message import AnyMessage
from ...outgoing import Allowed, Outgoing
from ...payload import make_submission, pack
from ...pooling.job import Envelope
from ...wire.envelope import MailObject
from .signing import Keys, call


class Call(NamedTuple):
    """A call of the function that sends, as a queue carries it."""

    keywords: dict[str, Any]
    """Plain values that survive JSON."""
    shown: str
    """What the queue may show in its logs and events: the keywords hold the message."""


def submitted(
    name: str,
    message: AnyMessage | MailObject,
    envelope: Envelope,
    *,
    all_or_nothing: bool,
    allow_long_lines: bool,
    max_size: int,
    keys: Keys | None,
    redirect_to: Any = None,
    allow_recipients: Allowed | None = None,
) -> Call:
    """The first call of the task ``name`` for this message.

    Raises ``InputError`` (``MessageTooLarge`` for the size) and
    ``NotSupportedError`` for a message that could not be sent.
    """
    submission = make_submission(
        message,
        envelope,
        all_or_nothing=all_or_nothing,
        allow_long_lines=allow_long_lines,
        max_size=max_size,
    )
    if (outgoing := Outgoing.of(None, redirect_to, allow_recipients)) is not None:
        submission = replace(submission, mail=outgoing.screened(submission.mail))
    keywords = call(name, pack(submission, max_size), None, keys)
    return Call(keywords, description(len(submission.mail.recipients)))


def description(recipients: int) -> str:
    """What a queue may show of a message in its logs and events."""
    return f"<mail to {recipients} recipients>"

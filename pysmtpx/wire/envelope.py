"""A mail object: an envelope and its content (RFC 5321 2.3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, BinaryIO, Final, TypeAlias

from ..errors import InputError, UsageError
from .address import ForwardPath, ReversePath
from .content import Content
from .params import MailFromParams, RcptParams, RcptToParams

AnyContent: TypeAlias = (
    "bytes | bytearray | memoryview | BinaryIO | Iterable[bytes] | Message[Any, Any] | Content"
)


NO_MAIL_PARAMS: Final = "mail_params must be MailFromParams"


@dataclass(frozen=True, slots=True, init=False)
class MailObject:
    """What is sent: reverse-path, forward-paths, content and ESMTP parameters.

    ``sender`` and ``recipients`` may be plain text and are validated here, but
    for what ``strict=False`` of ``ForwardPath`` allows: LMTP servers and those on
    loopback take that, for others it is refused when it is about to be sent;
    ``content`` is bytes, a buffer, a binary file or an iterable of chunks of
    bytes, each as a whole message with headers; or an ``email`` message, which is
    then written for the server at hand as ``send_message`` does it, whatever
    its headers say of the envelope. ``rcpt_params``, where given, is one for
    all recipients, or has one entry for each.

    Raises ``InputError`` for a bad path, no recipient, or content of another
    type, and ``UsageError`` where ``rcpt_params`` has another length than
    ``recipients`` (RFC 3461 4).
    """

    sender: ReversePath
    recipients: tuple[ForwardPath, ...]
    content: Content = field(repr=False)
    mail_params: MailFromParams | None
    rcpt_params: tuple[RcptToParams | None, ...] | None

    def __init__(
        self,
        sender: str,
        recipients: str | Sequence[str],
        content: AnyContent,
        *,
        mail_params: MailFromParams | None = None,
        rcpt_params: RcptParams = None,
    ) -> None:
        if isinstance(recipients, str):
            recipients = (recipients,)
        paths = tuple(forward_paths(recipients))
        if not paths:
            raise InputError("no recipient was given")
        if mail_params is not None and not isinstance(mail_params, MailFromParams):
            raise InputError(NO_MAIL_PARAMS)
        if rcpt_params is not None:
            rcpt_params = _checked(rcpt_params, len(paths))
        put = object.__setattr__
        put(self, "sender", reverse_path(sender))
        put(self, "recipients", paths)
        put(self, "content", Content.of(content))
        put(self, "mail_params", mail_params)
        put(self, "rcpt_params", rcpt_params)


def forward_paths(recipients: Iterable[str]) -> list[ForwardPath]:
    """The paths of recipients. Raises ``InputError`` that says which of them is none."""
    try:
        each = iter(recipients)
    except TypeError:
        raise InputError("recipients must be an address or a sequence of them") from None
    paths: list[ForwardPath] = []
    try:
        paths.extend(map(ForwardPath.tolerant, each))
    except InputError as error:
        raise error.at(f"recipient {len(paths) + 1}") from None
    return paths


def reverse_path(sender: str) -> ReversePath:
    """The path of a sender. Raises ``InputError``."""
    try:
        return ReversePath.tolerant(sender)
    except InputError as error:
        raise error.at("sender") from None


def envelope_twice(mail: MailObject) -> UsageError:
    """The error for a sender, recipients or parameters beside those of a mail object."""
    error = UsageError("a MailObject has an envelope of its own")
    error.unsent_recipients = mail.recipients
    return error


def part(mail: MailObject, indices: Sequence[int], content: AnyContent | None = None) -> MailObject:
    """The same for some of the recipients, by place; with other ``content``, where that is given."""
    params = mail.rcpt_params
    return MailObject(
        mail.sender,
        [mail.recipients[i] for i in indices],
        mail.content if content is None else content,
        mail_params=mail.mail_params,
        rcpt_params=None if params is None else [params[i] for i in indices],
    )


def _checked(
    rcpt_params: RcptToParams | Sequence[RcptToParams | None], count: int
) -> tuple[RcptToParams | None, ...]:
    """Parameters of RCPT, one for each of so many recipients."""
    if isinstance(rcpt_params, RcptToParams):
        if rcpt_params.orcpt is not None and count > 1:
            raise UsageError(
                "orcpt is the address of one recipient (RFC 3461 4.2): give one rcpt_params for each"
            )
        return (rcpt_params,) * count
    if not isinstance(rcpt_params, Sequence):
        raise InputError("rcpt_params must be RcptToParams, or a sequence with one for each recipient")
    if len(rcpt_params) != count:
        raise UsageError(f"rcpt_params has {len(rcpt_params)} entries for {count} recipients (RFC 3461 4)")
    if any(p is not None and not isinstance(p, RcptToParams) for p in rcpt_params):
        raise InputError("rcpt_params must be RcptToParams, or None, for each recipient")
    return tuple(rcpt_params)

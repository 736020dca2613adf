"""What is sent of one message in a pool: the same octets in each try, whatever its caller does meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message
from typing import Any, NamedTuple, TypeAlias

from ..errors import InputError, SmtpError
from ..message import NARROW, WIDE, AnyMessage, prepare
from ..mime import raw
from ..mime.parts import Part
from ..wire.capabilities import Capabilities
from ..wire.content import Unwritten
from ..wire.envelope import MailObject, part
from ..wire.params import MailFromParams, RcptToParams

_Email: TypeAlias = "Message[Any, Any]"


class Envelope(NamedTuple):
    """What the caller says of a message's envelope; None is what its headers say."""

    sender: str | None = None
    recipients: str | Sequence[str] | None = None
    mail_params: MailFromParams | None = None
    rcpt_params: Sequence[RcptToParams | None] | None = None


def taken_apart(
    mail: MailObject | AnyMessage, envelope: Envelope
) -> tuple[MailObject | AnyMessage, Envelope]:
    """A mail object whose content is an email message as the two; any other message as it is."""
    if not (isinstance(mail, MailObject) and isinstance(mail.content, Unwritten)):
        return mail, envelope
    return mail.content.message, Envelope(mail.sender, mail.recipients, mail.mail_params, mail.rcpt_params)


class Forms:
    """The mail objects of one message, for servers with and without 8BITMIME.

    An ``email`` message, or the octets or file of one, becomes a mail object
    once, so Date and Message-ID stay the same in all tries.
    """

    __slots__ = ("_envelope", "_flaw", "_mail", "_narrow", "_original", "whole")

    def __init__(self, mail: MailObject | AnyMessage, envelope: Envelope) -> None:
        self._mail, self._envelope = taken_apart(mail, envelope)
        self.whole: MailObject | None = None
        """To all recipients, for a server that offers everything; None before the first look at it."""
        self._flaw: SmtpError | None = None
        """Why no mail object can be made of the message."""
        self._narrow: MailObject | None = None
        """The same for a server without 8BITMIME, where that makes a difference."""
        self._original: _Email | Part | None = None
        """What that is made from."""

    def freeze(self) -> None:
        """Make sure that what the caller does to the message from now on changes nothing.

        Where no mail object can be made of it, ``fitting`` tells why.
        """
        try:
            mail = self.prepared()
        except SmtpError:
            return
        content = mail.content.frozen()
        if content is not mail.content:
            self.whole = part(mail, range(len(mail.recipients)), content)
        if isinstance(self._original, Message):
            self._original = Part(self._original)

    @property
    def resident(self) -> int:
        """Octets of content that are kept in memory for it."""
        return 0 if self.whole is None else self.whole.content.resident

    def prepared(self) -> MailObject:
        """The whole message for a server that offers everything; the plan tells what one does not."""
        if self._flaw is not None:
            raise self._flaw
        if self.whole is None:
            if isinstance(self._mail, MailObject):
                self.whole = self._mail
                return self.whole
            try:
                self.whole = self._prepare(self._mail, WIDE)
            except SmtpError as error:
                self._flaw = error  # for good: what the caller changes later must not count
                raise
            if isinstance(self._mail, Message) and _is_8bit(self.whole):
                self._original = self._mail
        return self.whole

    def fitting(self, capabilities: Capabilities) -> MailObject:
        """The whole message, for a server with these capabilities."""
        whole = self.prepared()
        if self._original is None or capabilities.eightbitmime:
            return whole
        if self._narrow is None:
            self._narrow = self._prepare(self._original, NARROW, like=whole)
        return self._narrow

    def _prepare(
        self, message: AnyMessage | Part, capabilities: Capabilities, like: MailObject | None = None
    ) -> MailObject:
        try:
            if like is not None and isinstance(message, Message | Part):
                message = _stamped(message, like)
            return prepare(message, capabilities, **self._envelope._asdict())
        except SmtpError:
            raise
        except Exception as error:
            raise InputError("the message could not be read") from error


def _is_8bit(mail: MailObject) -> bool:
    measure = mail.content.measure
    return measure is not None and measure.is_8bit


def _stamped(message: _Email | Part, sent: MailObject) -> Part:
    """A copy of the message with the Date and Message-ID that it was given in its first form."""
    copy = message.copy() if isinstance(message, Part) else Part(message)
    head = b"".join(map(bytes, sent.content.for_bdat(binary=True)))[: raw.MAX_HEADER + 1]
    for field in raw.section(head).fields:
        if field.name in ("date", "message-id") and not copy.has(field.name):
            copy.put(field.name, field.text)
    return copy

"""From an email message, or the octets of one, to a mail object that a given server can take."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from email.message import Message
from time import gmtime
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar

from .errors import InputError, NotSupportedError
from .mime import bodies, headers, raw
from .mime.addresses import Mailbox, flatten
from .mime.failures import only_input_errors
from .mime.headers import Field
from .mime.parts import Part
from .wire.address import ForwardPath, ReversePath, domain_to_ascii
from .wire.capabilities import Capabilities
from .wire.content import Content, File, Unwritten
from .wire.envelope import NO_MAIL_PARAMS, MailObject, envelope_twice, forward_paths, reverse_path
from .wire.params import MailFromParams, RcptParams

AnyMessage: TypeAlias = "Message[Any, Any] | bytes | bytearray | memoryview | BinaryIO"
"""What ``prepare`` takes; ``EmailMessage`` is a ``Message``."""

WIDE: Final = Capabilities({"8BITMIME": (), "SMTPUTF8": ()})
NARROW: Final = Capabilities({"SMTPUTF8": ()})
"""For ``prepare`` where the server is not known yet: of all that one may offer, 8BITMIME alone changes the
octets of a message, and 7-bit content is good for any."""

_Path = TypeVar("_Path", ReversePath, ForwardPath)

_ORIGINATORS: Final = ("sender", "from")
_DESTINATIONS: Final = ("to", "cc", "bcc")
_BLIND: Final = frozenset({"bcc", "resent-bcc"})
_OPTIONAL: Final = headers.ADDRESS_FIELDS - {"from", "resent-from"}
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_RESENT: Final = frozenset(f"resent-{name}" for name in (*_ORIGINATORS, *_DESTINATIONS, "date", "message-id"))


def prepare(
    message: AnyMessage | Part,
    capabilities: Capabilities,
    *,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
    mail_params: MailFromParams | None = None,
    rcpt_params: RcptParams = None,
    complete: bool = True,
) -> MailObject:
    """The mail object that sends this message to a server with these capabilities.

    The envelope comes from the header section unless it is given: the sender
    from Sender, else From; the recipients from To, Cc and Bcc, without
    duplicates; all from Resent-* where the message was resent (RFC 5322 3.6.6).
    ``sender=""`` is the null reverse-path. Bcc and lists of nobody (an empty Cc)
    are not sent, Date and Message-ID are added where absent (unless ``complete``
    is false), and the caller's message stays as it is.

    A message object is written so that the server can take it: 7-bit without
    8BITMIME (RFC 6152), no line over 998 octets, and encoded words and A-labels
    instead of UTF-8 unless a local part needs SMTPUTF8 (RFC 6531). Octets and
    binary files are sent as they are, apart from the fields named above. A
    file is read from where it stands, and belongs to the mail object until that
    is sent. A ``Part`` is altered.

    Raises ``InputError`` where no envelope can be told, for a header field that
    would begin another one, and for a message that cannot be written;
    ``NotSupportedError`` where it needs 8BITMIME and is signed, or needs
    SMTPUTF8, and the server does not offer it.
    """
    if mail_params is not None and not isinstance(mail_params, MailFromParams):
        raise InputError(NO_MAIL_PARAMS)
    draft = _Draft(capabilities, sender, recipients, mail_params, rcpt_params, complete)
    if isinstance(message, Message | Part):
        return _from_object(message, draft)
    if isinstance(message, bytes | bytearray | memoryview):
        return _from_octets(bytes(message), draft)
    if hasattr(message, "read"):
        return _from_file(message, draft)
    kind = type(message).__name__
    raise InputError(f"a message is an email message, bytes or a binary file, not {kind}")


def written(mail: MailObject | AnyMessage, capabilities: Capabilities, **envelope: Any) -> MailObject:
    """A mail object of octets: itself, or what ``prepare`` makes of a message with an envelope or without.

    Raises ``UsageError`` for keywords beside the envelope of a ``MailObject``.
    """
    if not isinstance(mail, MailObject):
        return prepare(mail, capabilities, **envelope)
    if envelope:
        raise envelope_twice(mail)
    if not isinstance(mail.content, Unwritten):
        return mail
    return prepare(
        mail.content.message,
        capabilities,
        sender=mail.sender,
        recipients=mail.recipients,
        mail_params=mail.mail_params,
        rcpt_params=mail.rcpt_params,
    )


@dataclasses.dataclass(slots=True)
class _Draft:
    """What the caller said about the mail object, and what the message adds to it."""

    capabilities: Capabilities
    sender: str | None
    recipients: str | Sequence[str] | None
    mail_params: MailFromParams | None
    rcpt_params: RcptParams
    complete: bool
    reverse_path: ReversePath = dataclasses.field(init=False)
    forward_paths: list[ForwardPath] = dataclasses.field(init=False)

    def address(self, fields: list[Field]) -> None:
        """Fill in from the header section what of the envelope was not given."""
        sender, recipients = self.sender, self.recipients
        prefix = _resent_prefix(fields) if sender is None or recipients is None else ""
        self.reverse_path = _originator(fields, prefix) if sender is None else reverse_path(sender)
        if recipients is None:
            self.forward_paths = _destinations(fields, prefix)
        else:
            self.forward_paths = forward_paths([recipients] if isinstance(recipients, str) else recipients)

    def missing(self, fields: list[Field]) -> list[Field]:
        """Date and Message-ID where the header section has none (RFC 5322 3.6)."""
        if not self.complete:
            return []
        present = [field.key for field in fields]
        made = [] if "date" in present else [Field("Date", _now())]
        if "message-id" not in present:
            made.append(Field("Message-ID", _message_id(self.reverse_path, fields)))
        return made

    def needs_utf8(self, reasons: Sequence[str]) -> bool:
        """True where the mail object goes with SMTPUTF8; ``reasons`` in the header section demand it.

        Raises ``NotSupportedError`` where the server does not offer it.
        """
        paths = (self.reverse_path, *self.forward_paths)
        needing = [str(path) for path in paths if path.needs_smtputf8]
        needing += [reason for reason in reasons if reason not in needing]
        if needing:
            if not self.capabilities.smtputf8:
                raise NotSupportedError(
                    f"the server does not offer SMTPUTF8 (RFC 6531), which these need: {', '.join(needing)}",
                    keyword="SMTPUTF8",
                )
            self.mail_params = dataclasses.replace(self.mail_params or MailFromParams(), smtputf8=True)
        return self.mail_params is not None and self.mail_params.smtputf8

    @property
    def seven_bit(self) -> bool:
        """True where the content must be 7-bit (RFC 6152 2)."""
        asked = self.mail_params is not None and self.mail_params.body == "7BIT"
        return asked or not self.capabilities.eightbitmime

    def finished(self, content: Content) -> MailObject:
        """The mail object."""
        return MailObject(
            self.reverse_path,
            self.forward_paths,
            content,
            mail_params=self.mail_params,
            rcpt_params=self.rcpt_params,
        )


# The envelope.


def _resent_prefix(fields: list[Field]) -> str:
    names = [field.key for field in fields if field.key in _RESENT and field.text]
    if len(names) > len(set(names)):
        raise InputError("the message was resent more than once: give sender and recipients")
    return "resent-" if names else ""


def _mailboxes(fields: list[Field], name: str) -> list[Mailbox]:
    return [mailbox for field in fields if field.key == name for mailbox in flatten(field.entries(name))]


def _originator(fields: list[Field], prefix: str) -> ReversePath:
    for name in _ORIGINATORS:
        found = _mailboxes(fields, prefix + name)
        if len(found) > 1:
            raise InputError(f"{(prefix + name).title()} names {len(found)} mailboxes; who is the sender?")
        if found:
            return _path(ReversePath, (prefix + name).title(), found[0])
    raise InputError(f"the message has no {prefix.title()}From: give the sender")


def _path(kind: type[_Path], where: str, mailbox: Mailbox) -> _Path:
    try:
        return kind.tolerant(mailbox.address)
    except InputError as error:
        raise error.at(where) from None


def _destinations(fields: list[Field], prefix: str) -> list[ForwardPath]:
    paths: dict[tuple[str, str], ForwardPath] = {}
    for name in _DESTINATIONS:
        for place, mailbox in enumerate(_mailboxes(fields, prefix + name), 1):
            path = _path(ForwardPath, f"{(prefix + name).title()}, address {place}", mailbox)
            # A local part is the receiver's own matter, a domain has no case (RFC 5321 2.4).
            paths.setdefault((path.local_part, path.domain.lower()), path)
    if not paths:
        raise InputError("the message names no recipient: give the recipients")
    return list(paths.values())


# Fields that every message has.


def _now() -> str:
    # In UTC: the zone of this machine is nobody's business.
    year, month, day, hour, minute, second, weekday, *_ = gmtime()
    date = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04}"
    return f"{date} {hour:02}:{minute:02}:{second:02} +0000"


def _message_id(sender: ReversePath, fields: list[Field]) -> str:
    """Unique (RFC 5322 3.6.4), and silent about this host, process and clock."""
    domain = sender.domain or _domain_of_from(fields) or "localhost"
    return f"<{os.urandom(16).hex()}@{domain}>"


def _unsent(fields: list[Field]) -> frozenset[str]:
    """Fields that stay here: Bcc, and those of nobody, which are no fields (RFC 5322 3.6.2, 3.6.3).

    Of what a signature may cover only Bcc.
    """
    optional = [field for field in fields if field.key in _OPTIONAL]
    empty = {field.key for field in optional if not field.text}
    if any(field.key == "dkim-signature" or field.key[:4] == "arc-" for field in fields):
        return _BLIND
    return _BLIND | empty.difference([field.key for field in optional if field.text])


def _domain_of_from(fields: list[Field]) -> str:
    try:
        found = _mailboxes(fields, "from")
        return domain_to_ascii(found[0].domain) if found else ""
    except InputError:
        return ""


# A message object.


def _from_object(message: Message[Any, Any] | Part, draft: _Draft) -> MailObject:
    with only_input_errors():
        part = Part(message) if isinstance(message, Message) else message
        fields = part.fields
        headers.check(fields)
        draft.address(fields)
        unsent = _unsent(fields)
        part.fields = [field for field in fields if field.key not in unsent] + draft.missing(fields)
        utf8 = draft.needs_utf8(_needs(part))
        return draft.finished(bodies.fitted(part, utf8=utf8, seven_bit=draft.seven_bit))


def _needs(message: Part) -> list[str]:
    """What of the header section can only go with SMTPUTF8; an attached message's own is content."""
    needs = [
        address
        for field in message.fields
        if field.key in headers.ADDRESS_FIELDS and not field.text.isascii()
        for address in field.internationalized
    ]
    if message.is_signed:
        for field in message.fields:
            if not headers.write_signed(field, message.policy).isascii():
                needs.append(f"the signed field {field.key}")
    return needs


# Octets.


def _from_octets(message: bytes, draft: _Draft) -> MailObject:
    section = raw.section(message[: raw.MAX_HEADER + 1])
    head = _head(section, draft)
    changed = head != message[: section.end]
    return draft.finished(Content.of(head + message[section.end :] if changed else message))


def _from_file(file: BinaryIO, draft: _Draft) -> MailObject:
    first = raw.first(file)
    section = raw.section(first)
    rest = File(file)
    spliced = _Spliced(_head(section, draft) + first[section.end :], rest)
    return draft.finished(Content.of(spliced if rest.replayable else iter(spliced)))


def _head(section: raw.Section, draft: _Draft) -> bytes:
    """The header section without Bcc, after the fields that it lacks."""
    fields = [Field(field.name, field.text) for field in section.fields]
    draft.address(fields)
    draft.needs_utf8([f"the field {field.key}" for field in fields if not field.text.isascii()])
    added = [field.written() for field in draft.missing(fields)]
    return b"".join(added) + raw.without(section, _unsent(fields))


class _Spliced:
    """Octets of our own, then the rest of a file; can be read again if that can."""

    def __init__(self, start: bytes, rest: File) -> None:
        self._start = start
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        yield self._start
        yield from self._rest

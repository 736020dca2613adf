"""From an email message, or the octets of one, to a mail object that a given server can take."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.message import Message
from email.utils import format_datetime
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar, cast

from .errors import InputError, NotSupportedError
from .mime import addresses, bodies, headers, parts, raw, writing
from .mime.addresses import Mailbox
from .mime.failures import only_input_errors
from .wire.address import ForwardPath, ReversePath, domain_to_ascii
from .wire.capabilities import Capabilities
from .wire.content import Content, octets
from .wire.envelope import MailObject
from .wire.limits import SLICE
from .wire.params import MailFromParams, RcptToParams

AnyMessage: TypeAlias = "Message[Any, Any] | bytes | bytearray | memoryview | BinaryIO"
"""What ``prepare`` takes; ``EmailMessage`` is a ``Message``."""

WIDE: Final = Capabilities({"8BITMIME": (), "SMTPUTF8": ()})
NARROW: Final = Capabilities({"SMTPUTF8": ()})
"""For ``prepare`` where the server is not known yet: of all that one may offer, 8BITMIME alone changes the
octets of a message, and 7-bit content is good for any."""

_Fields: TypeAlias = list[tuple[str, str]]
"""Names in lower case, and values in one line, in order."""

_Path = TypeVar("_Path", ReversePath, ForwardPath)

_ORIGINATORS: Final = ("sender", "from")
_DESTINATIONS: Final = ("to", "cc", "bcc")
_BLIND: Final = frozenset({"bcc", "resent-bcc"})
_OPTIONAL: Final = headers.ADDRESS_FIELDS - {"from", "resent-from"}
_RESENT: Final = frozenset(f"resent-{name}" for name in (*_ORIGINATORS, *_DESTINATIONS, "date", "message-id"))


def prepare(
    message: AnyMessage,
    capabilities: Capabilities,
    *,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
    mail_params: MailFromParams | None = None,
    rcpt_params: Sequence[RcptToParams] | None = None,
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
    is sent.

    Raises ``InputError`` where no envelope can be told, for a header field that
    would begin another one, and for a message that cannot be written;
    ``NotSupportedError`` where it needs 8BITMIME and is signed, or needs
    SMTPUTF8, and the server does not offer it.
    """
    draft = _Draft(capabilities, sender, recipients, mail_params, rcpt_params, complete)
    if isinstance(message, Message):
        return _from_object(message, draft)
    if isinstance(message, bytes | bytearray | memoryview):
        return _from_octets(bytes(message), draft)
    if hasattr(message, "read"):
        return _from_file(message, draft)
    kind = type(message).__name__
    raise InputError(f"a message is an email message, bytes or a binary file, not {kind}")


@dataclass(slots=True)
class _Draft:
    """What the caller said about the mail object, and what the message adds to it."""

    capabilities: Capabilities
    sender: str | None
    recipients: str | Sequence[str] | None
    mail_params: MailFromParams | None
    rcpt_params: Sequence[RcptToParams] | None
    complete: bool

    def address(self, fields: _Fields) -> None:
        """Fill in from the header section what of the envelope was not given."""
        prefix = "" if self.sender is not None and self.recipients is not None else _resent_prefix(fields)
        if self.sender is None:
            self.sender = _originator(fields, prefix)
        if self.recipients is None:
            self.recipients = _destinations(fields, prefix)
        self.sender = ReversePath.tolerant(self.sender)
        given = [self.recipients] if isinstance(self.recipients, str) else self.recipients
        self.recipients = [ForwardPath.tolerant(path) for path in given]

    def missing(self, fields: _Fields) -> _Fields:
        """Date and Message-ID where the header section has none (RFC 5322 3.6)."""
        if not self.complete:
            return []
        present = {name for name, _ in fields}
        made = [("Date", _now), ("Message-ID", lambda: _message_id(cast(ReversePath, self.sender), fields))]
        return [(name, make()) for name, make in made if name.lower() not in present]

    def needs_utf8(self, reasons: Sequence[str]) -> bool:
        """True where the mail object goes with SMTPUTF8; ``reasons`` in the header section demand it.

        Raises ``NotSupportedError`` where the server does not offer it.
        """
        paths = [cast(ReversePath, self.sender), *cast("list[ForwardPath]", self.recipients)]
        needing = [str(path) for path in paths if path.needs_smtputf8]
        needing += [reason for reason in reasons if reason not in needing]
        if needing and not self.capabilities.smtputf8:
            raise NotSupportedError(
                f"the server does not offer SMTPUTF8 (RFC 6531), which these need: {', '.join(needing)}",
                keyword="SMTPUTF8",
            )
        if needing:
            self.mail_params = replace(self.mail_params or MailFromParams(), smtputf8=True)
        return self.mail_params is not None and self.mail_params.smtputf8

    @property
    def seven_bit(self) -> bool:
        """True where the content must be 7-bit (RFC 6152 2)."""
        asked = self.mail_params is not None and self.mail_params.body == "7BIT"
        return asked or not self.capabilities.eightbitmime

    def finished(self, content: Content) -> MailObject:
        """The mail object."""
        return MailObject(
            cast(str, self.sender),
            cast("Sequence[str]", self.recipients),
            content,
            mail_params=self.mail_params,
            rcpt_params=self.rcpt_params,
        )


# The envelope.


def _resent_prefix(fields: _Fields) -> str:
    names = [name for name, text in fields if name in _RESENT and text]
    if len(names) > len(set(names)):
        raise InputError("the message was resent more than once: give sender and recipients")
    return "resent-" if names else ""


def _mailboxes(fields: _Fields, name: str) -> Iterator[Mailbox]:
    for field, text in fields:
        if field == name:
            yield from addresses.flatten(addresses.of_field(name, text, bare=True))


def _originator(fields: _Fields, prefix: str) -> str:
    for name in _ORIGINATORS:
        found = list(_mailboxes(fields, prefix + name))
        if len(found) > 1:
            raise InputError(f"{(prefix + name).title()} names {len(found)} mailboxes; who is the sender?")
        if found:
            return _path(ReversePath, prefix + name, found[0])
    raise InputError(f"the message has no {prefix.title()}From: give the sender")


def _path(kind: type[_Path], name: str, mailbox: Mailbox) -> _Path:
    try:
        return kind.tolerant(mailbox.address)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _destinations(fields: _Fields, prefix: str) -> list[str]:
    paths: dict[tuple[str, str], str] = {}
    for name in _DESTINATIONS:
        for mailbox in _mailboxes(fields, prefix + name):
            path = _path(ForwardPath, prefix + name, mailbox)
            # A local part is the receiver's own matter, a domain has no case (RFC 5321 2.4).
            paths.setdefault((path.local_part, path.domain.lower()), path)
    if not paths:
        raise InputError("the message names no recipient: give the recipients")
    return list(paths.values())


# Fields that every message has.


def _now() -> str:
    # In UTC: the zone of this machine is nobody's business.
    return format_datetime(datetime.now(UTC))


def _message_id(sender: ReversePath, fields: _Fields) -> str:
    """Unique (RFC 5322 3.6.4), and silent about this host, process and clock."""
    domain = sender.domain or _domain_of_from(fields) or "localhost"
    return f"<{secrets.token_hex(16)}@{domain}>"


def _unsent(fields: _Fields) -> frozenset[str]:
    """Fields that stay here: Bcc, and those of nobody, which are no fields (RFC 5322 3.6.2, 3.6.3).

    Of what a signature may cover only Bcc.
    """
    if any(name == "dkim-signature" or name.startswith("arc-") for name, _ in fields):
        return _BLIND
    return _BLIND | (_OPTIONAL - {name for name, text in fields if text})


def _domain_of_from(fields: _Fields) -> str:
    try:
        return next((domain_to_ascii(mailbox.domain) for mailbox in _mailboxes(fields, "from")), "")
    except InputError:
        return ""


# A message object.


def _from_object(message: Message[Any, Any], draft: _Draft) -> MailObject:
    with only_input_errors():
        fields = headers.fields(message)
        draft.address(fields)
        copy = parts.twin(message)
        for name in _unsent(fields):
            del copy[name]
        for name, value in draft.missing(fields):
            parts.put(copy, name, value)
        return draft.finished(Content.of(_written(copy, draft)))


def _written(message: Message[Any, Any], draft: _Draft) -> bytes:
    utf8 = draft.needs_utf8(_needs(message))
    return bodies.fitted(message, utf8=utf8, seven_bit=draft.seven_bit)


def _needs(message: Message[Any, Any]) -> list[str]:
    """What of the header section can only go with SMTPUTF8; an attached message's own is content."""
    needs = [address for field in message.raw_items() for address in headers.internationalized(*field)]
    if writing.is_signed(message):
        for name, value in message.raw_items():
            if not headers.write_signed(name, value, message.policy).isascii():
                needs.append(f"the signed field {name.lower()}")
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
    spliced = _Spliced(_head(section, draft) + first[section.end :], file)
    return draft.finished(Content.of(spliced if raw.can_seek(file) else iter(spliced)))


def _head(section: raw.Section, draft: _Draft) -> bytes:
    """The header section without Bcc, after the fields that it lacks."""
    fields = [(field.name, field.text) for field in section.fields]
    draft.address(fields)
    draft.needs_utf8([f"the field {name}" for name, text in fields if not text.isascii()])
    added = [f"{name}: {value}\r\n".encode("ascii") for name, value in draft.missing(fields)]
    return b"".join(added) + raw.without(section, _unsent(fields))


class _Spliced:
    """Octets of our own, then the rest of a file from where it stands; can be read again."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start = start
        self._file = file
        self._position = file.tell() if raw.can_seek(file) else 0

    def __iter__(self) -> Iterator[bytes]:
        if raw.can_seek(self._file):
            self._file.seek(self._position)
        yield self._start
        while piece := octets(self._file.read(SLICE)):
            yield bytes(piece)

"""From a Django message to an ``email`` message and its envelope."""

from __future__ import annotations

from copy import copy
from email.errors import MessageError
from email.message import Message
from email.utils import unquote
from typing import Any, Final, TypeVar

import django
from django.conf import settings
from django.core.mail.message import forbid_multi_line_headers as _encoded

from ...errors import InputError
from ...mime import addresses, words
from ...mime.addresses import Group, Mailbox
from ...mime.failures import told
from ...mime.headers import ADDRESS_FIELDS, Field
from ...shortening import shown
from ...wire.address import ForwardPath, ReversePath
from ...wire.envelope import MailObject

_NULL: Final = ("", "<>")
"""The null reverse-path."""

_Path = TypeVar("_Path", ReversePath, ForwardPath)


def mail_object(email_message: Any) -> MailObject:
    """The mail object of a ``django.core.mail.EmailMessage``: its envelope, and its email message.

    The message is what its ``message()`` makes, but for two things that Django
    does to addresses. Domains are A-labels of IDNA 2008, as in the envelope:
    Django's are those of IDNA 2003, which makes another domain of some. And a
    local part that is not ASCII, which Django 5 writes as an encoded word, goes
    as it is: encoded words are forbidden there (RFC 2047 5, RFC 6531).

    Raises ``InputError`` for what is no address, a charset that is none and
    parts that are nested too deep, else what ``message()`` raises.
    """
    sender = path_of(ReversePath, "from_email", email_message.from_email)
    recipients = [path_of(ForwardPath, "the recipients", each) for each in email_message.recipients()]
    source = _with_a_labels(email_message)
    message = _made(source)
    if django.VERSION < (6, 0):
        _restore_addresses(message, source)
    return MailObject(sender, recipients, message)


def _made(source: Any) -> Message[Any, Any]:
    try:
        return source.message()  # type: ignore[no-any-return]
    except (MessageError, RecursionError, LookupError) as error:
        if isinstance(error, KeyError | IndexError):
            raise  # of a subclass, not of a charset
        raise InputError(f"the message cannot be written: {told(error)}") from error


# Domains.


def _with_a_labels(email_message: Any) -> Any:
    """The message itself, or a copy that has A-labels wherever an address has a domain that is not ASCII."""
    changes: dict[str, Any] = {}
    for attribute in ("to", "cc", "reply_to"):
        given = getattr(email_message, attribute)
        changes[attribute] = [_ascii_domains(attribute, each) for each in given]
    changes["from_email"] = _ascii_domains("From", email_message.from_email)
    changes["extra_headers"] = {
        name: _ascii_domains(name, value) if name.lower() in ADDRESS_FIELDS else value
        for name, value in email_message.extra_headers.items()
    }
    changes = {name: value for name, value in changes.items() if value != getattr(email_message, name)}
    if not changes:
        return email_message
    twin = copy(email_message)
    for name, value in changes.items():
        setattr(twin, name, value)
    return twin


def _ascii_domains(name: str, value: Any) -> Any:
    text = str(value)  # it may be a lazy translation
    if text.isascii():
        return value
    try:
        entries = addresses.parse(text, bare=True)
    except InputError:
        return value  # Django, or whoever writes the field, says what is wrong with it
    if all(box.domain and box.domain.isascii() for box in addresses.flatten(entries)):
        return value
    return ", ".join(map(_formatted, entries))


def _formatted(entry: Mailbox | Group) -> str:
    if isinstance(entry, Group):
        return f"{entry.phrase}: {', '.join(map(_formatted, entry.mailboxes))};"
    box = entry.with_a_labels()
    if not (box.domain or box.phrase.isascii()):
        # Django refuses letters where there is no domain.
        box = box._replace(phrase=words.encoded("Reply-To", unquote(box.phrase)))
    return str(box)


# Local parts.


def _restore_addresses(message: Message[Any, Any], email_message: Any) -> None:
    """Undo the encoded words that Django 5 makes of local parts, and nothing else that ``message()`` did."""
    encoding = email_message.encoding or settings.DEFAULT_CHARSET
    lists = {"To": email_message.to, "Cc": email_message.cc, "Reply-To": email_message.reply_to}
    given = {name: ", ".join(map(str, entries)) for name, entries in lists.items()}
    given |= {"From": email_message.from_email, **email_message.extra_headers}
    for name in given.keys() & {*message.keys()}:
        text = str(given[name])
        if Field(name, text).internationalized and message[name] == _encoded(name, text, encoding)[1]:
            # By the base class: Django's own would encode it once more.
            Message.replace_header(message, name, text)


def path_of(kind: type[_Path], what: str, address: object) -> _Path:
    """The path of an address as Django takes it: a display name perhaps in front of it, or without a domain.

    Raises ``InputError`` where it is not one address.
    """
    text = str(address).strip()  # it may be a lazy translation
    if text in _NULL:
        return kind(text)
    try:
        found = list(addresses.flatten(addresses.parse(text, bare=True)))
        if len(found) == 1:
            return kind(found[0].address, strict=False)
        why = f"{len(found)} mailboxes, not one address"
    except InputError as error:
        why = error.text
    # Django's own backend begins so, and there are handlers and tests that look for it.
    raise InputError(f"Invalid address in {what}: {shown(text)} ({why})")

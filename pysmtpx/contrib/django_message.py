"""From a Django message to an ``email`` message and its envelope."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from typing import Any, NamedTuple

import django
from django.conf import settings
from django.core.mail.message import forbid_multi_line_headers as _encoded

from ..errors import InputError
from ..mime import addresses
from ..mime.headers import ADDRESS_FIELDS, internationalized


class Draft(NamedTuple):
    """What a Django message is sent as."""

    message: Message[Any, Any]
    sender: str
    recipients: list[str]


def draft(email_message: Any) -> Draft:
    """The draft of a ``django.core.mail.EmailMessage``.

    The message is what its ``message()`` makes, but for addresses with a
    non-ASCII local part, which Django 5 would write as encoded words: these are
    forbidden there (RFC 2047 5), and go as they are (RFC 6531).

    Raises ``InputError`` for what is no address, and what ``message()`` raises.
    """
    sender = bare_address("from_email", email_message.from_email)
    recipients = [bare_address("a recipient", each) for each in email_message.recipients()]
    message = email_message.message()
    if django.VERSION < (6, 0):
        _restore_addresses(message, email_message)
    return Draft(message, sender, recipients)


def _restore_addresses(message: Message[Any, Any], email_message: Any) -> None:
    """Undo the encoded words that Django 5 makes of local parts, and nothing else that ``message()`` did."""
    encoding = email_message.encoding or settings.DEFAULT_CHARSET
    for name, value in _addresses(email_message):
        if internationalized(name, value) and message[name] == _encoded(name, value, encoding)[1]:
            # By the base class: Django's own would encode it once more.
            Message.replace_header(message, name, value)


def bare_address(what: str, address: object) -> str:
    """``local-part@domain`` of an address as Django takes it, a display name perhaps in front of it.

    What has no domain is left for the envelope to judge. Raises ``InputError``
    where it is not one address.
    """
    text = str(address).strip()  # it may be a lazy translation
    if "@" not in text:
        return text
    found = list(addresses.flatten(addresses.of_field(what, text)))
    if len(found) != 1:
        raise InputError(f"{what} must be one address")
    return found[0].address


def _addresses(email_message: Any) -> Iterator[tuple[str, str]]:
    """Every address field with something in it that is not ASCII, as the caller wrote it."""
    fields: dict[str, Any] = {"From": email_message.from_email}
    for name, attribute in (("To", "to"), ("Cc", "cc"), ("Reply-To", "reply_to")):
        fields[name] = ", ".join(map(str, getattr(email_message, attribute)))
    handled = {name.lower() for name in fields}
    for name, value in email_message.extra_headers.items():
        if name in fields or name.lower() not in handled:  # what Django takes from there
            fields[name] = value
    for name, value in fields.items():
        if name.lower() in ADDRESS_FIELDS and not (text := str(value)).isascii():
            yield name, text

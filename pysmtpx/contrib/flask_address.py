"""Addresses and texts as Flask-Mail takes them: text, or a pair of name and address, lazy ones too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.charset import Charset
from email.header import Header
from email.utils import unquote
from typing import Any, Final, TypeAlias

from ..errors import InputError
from ..mime import addresses
from ..mime.addresses import Mailbox

AnyAddress: TypeAlias = str | tuple[str, str]
"""``"ann@example.org"``, ``"Ann <ann@example.org>"`` or ``("Ann", "ann@example.org")``."""

_SPECIAL: Final = re.compile(r'[()<>\[\]:;@\\,"]')
"""What cannot stand in a display name without quotes (RFC 5322 3.2.3)."""
_LOOSE: Final = re.compile(r'[ \t]*([^<>@,"]+?)[ \t]*<([^<>]*)>[ \t]*')
"""A display name that lacks its quotes, where no second mailbox can hide in it."""


class FlaskMailUnicodeDecodeError(UnicodeDecodeError):
    """Octets that were given for text are not in the charset; ``obj`` is what was given."""

    def __init__(self, obj: Any, *args: Any) -> None:
        self.obj = obj
        super().__init__(*args)

    def __str__(self) -> str:
        return f"{super().__str__()}. You passed in {self.obj!r} ({type(self.obj)})"


def force_text(s: Any, encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of anything; of octets by their charset.

    Raises ``FlaskMailUnicodeDecodeError`` for octets that are not in it.
    """
    if type(s) is str:
        return s
    if not isinstance(s, bytes | bytearray):
        return str(s)
    try:
        return s.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise FlaskMailUnicodeDecodeError(s, *error.args) from error


def sanitize_subject(subject: str, encoding: str = "utf-8") -> str:
    """A subject in ASCII: encoded words of this charset, or of UTF-8 where it lacks a letter (RFC 2047)."""
    return _encoded(force_text(subject), encoding)


def sanitize_address(addr: AnyAddress, encoding: str = "utf-8") -> str:
    """An address as it stands in a header field: the name in encoded words, the domain in A-labels.

    A local part that is not ASCII stays as it is (RFC 6531). Raises
    ``InputError`` for what is not one address.
    """
    box = mailbox(addr).with_a_labels()
    name = unquote(box.phrase)
    if not name:
        return box.address
    return f"{_encoded(name, encoding)} <{box.address}>" if not name.isascii() else formatted(box)


def sanitize_addresses(addresses: Iterable[AnyAddress], encoding: str = "utf-8") -> list[str]:
    """``sanitize_address`` of each."""
    return [sanitize_address(each, encoding) for each in addresses]


def mailbox(addr: AnyAddress) -> Mailbox:
    """The one mailbox that an address names. Raises ``InputError`` where it is none, or several."""
    if isinstance(addr, tuple):
        name, addr = addr
        return _only(force_text(addr))._replace(phrase=quoted(force_text(name or "")))
    text = force_text(addr)
    loose = _LOOSE.fullmatch(text)
    if loose and _SPECIAL.search(loose[1]):
        return _only(loose[2])._replace(phrase=quoted(loose[1]))
    return _only(text)


def formatted(box: Mailbox) -> str:
    """A mailbox as text."""
    return f"{box.phrase} <{box.address}>" if box.phrase else box.address


def joined_name(name: str, address: str) -> str:
    """A pair of name and address as one text."""
    name = force_text(name or "")
    return f"{quoted(name)} <{force_text(address)}>" if name else force_text(address)


def quoted(name: str) -> str:
    """A display name, in quotes where it needs them."""
    if not _SPECIAL.search(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _only(text: str) -> Mailbox:
    if text.strip().lower() == "postmaster":  # the one that may stand without a domain (RFC 5321 4.1.1.3)
        return Mailbox(text.strip())
    found = list(addresses.flatten(addresses.parse(text)))
    if len(found) != 1:
        raise InputError(f"an address names {len(found)} mailboxes, not one")
    return found[0]


def _encoded(text: str, encoding: str) -> str:
    if text.isascii():
        return text
    try:
        header = Header(text, Charset(encoding))
    except UnicodeEncodeError:
        header = Header(text, "utf-8")
    return " ".join(line.strip() for line in header.encode().splitlines())

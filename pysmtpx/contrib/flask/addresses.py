"""Addresses and texts as Flask-Mail takes them: text, or a pair of name and address, lazy ones too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import unquote
from typing import Any, Final, TypeAlias

from ...errors import InputError
from ...mime import addresses
from ...mime.addresses import Mailbox
from ...mime.words import words
from ...shortening import shortened

AnyAddress: TypeAlias = str | tuple[str, str]
"""``"ann@example.org"``, ``"Ann <ann@example.org>"`` or ``("Ann", "ann@example.org")``."""

_SPECIAL: Final = re.compile(r'[()<>\[\]:;@\\,"]')
"""What cannot stand in a display name without quotes (RFC 5322 3.2.3)."""
_BLANKS: Final = " \t"
_MAX_ADDRESS: Final = 8192
"""Characters of one address with its display name: many times what any needs."""


class FlaskMailUnicodeDecodeError(UnicodeDecodeError):
    """Octets that were given for text are not in the charset; ``obj`` is what was given."""

    def __init__(self, obj: Any, *args: Any) -> None:
        self.obj = obj
        super().__init__(*args)

    def __str__(self) -> str:
        return f"{super().__str__()}. You passed in {shortened(repr(self.obj))} ({type(self.obj)})"


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
    return " ".join(words(force_text(subject), encoding))


def sanitize_address(addr: AnyAddress, encoding: str = "utf-8") -> str:
    """An address as it stands in a header field: the name in encoded words, the domain in A-labels.

    A local part that is not ASCII stays as it is (RFC 6531). Raises
    ``InputError`` for what is not one address.
    """
    return written(mailbox(addr), encoding)


def sanitize_addresses(addresses: Iterable[AnyAddress], encoding: str = "utf-8") -> list[str]:
    """``sanitize_address`` of each."""
    return [sanitize_address(each, encoding) for each in addresses]


def written(box: Mailbox, charset: str, between: str = " ") -> str:
    """A mailbox as it stands in a field: the name in encoded words, the domain in A-labels.

    A local part that is not ASCII stays as it is: encoded words are forbidden
    there (RFC 2047 5), and RFC 6531 carries it. Raises ``InputError`` for a
    domain that is none, and what ``words`` raises.
    """
    box = box.with_a_labels()
    if not box.phrase or box.phrase.isascii():
        return str(box)
    return between.join([*words(unquote(box.phrase), charset), f"<{box.address}>"])


def mailbox(addr: AnyAddress) -> Mailbox:
    """The one mailbox that an address names. Raises ``InputError`` where it is none, or several."""
    if isinstance(addr, tuple):
        name, addr = addr
        return _only(_bounded(addr))._replace(phrase=quoted(_bounded(name or "")))
    text = _bounded(addr)
    return _without_quotes(text) or _only(text)


def _bounded(given: Any) -> str:
    text = force_text(given)
    if len(text) > _MAX_ADDRESS:
        raise InputError(f"an address or a name of {len(text)} characters, more than {_MAX_ADDRESS}")
    return text


def _without_quotes(text: str) -> Mailbox | None:
    """A mailbox whose display name lacks its quotes, where no second one can hide in that."""
    name, _, rest = text.partition("<")
    address, angle, after = rest.partition(">")
    name = name.strip(_BLANKS)
    if not angle or after.strip(_BLANKS) or "<" in address or any(each in name for each in '>@,"'):
        return None
    return _only(address)._replace(phrase=quoted(name)) if _SPECIAL.search(name) else None


def joined_name(name: str, address: str) -> str:
    """A pair of name and address as one text."""
    return str(Mailbox(force_text(address), quoted(force_text(name or ""))))


def quoted(name: str) -> str:
    """A display name, in quotes where it needs them."""
    if not _SPECIAL.search(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _only(text: str) -> Mailbox:
    found = list(addresses.flatten(addresses.parse(text, bare=True)))
    if len(found) != 1:
        raise InputError(f"an address names {len(found)} mailboxes, not one")
    return found[0]

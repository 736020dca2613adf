"""Reverse-paths, forward-paths and domain names (RFC 5321 4.1.2, RFC 6531 3.3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, ClassVar, Final, NamedTuple, NoReturn, Self
from unicodedata import normalize

import idna

from .. import cures
from ..errors import InputError
from ..shortening import shown
from .limits import MAX_DOMAIN, MAX_LOCAL_PART, MAX_PATH

# RFC 6531 3.3 adds all of Unicode to atext and qtext. Controls (C1 included), lone surrogates
# and white space stay out: a server that folds them would see another structure.
_NON_ASCII: Final = r"[^\x00-\x9f\s\ud800-\udfff]"
_ATOM: Final = rf"(?:[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]|{_NON_ASCII})+"
_DOTTED: Final = rf"\.*+{_ATOM}(?:\.+{_ATOM})*\.*"
"""A Dot-string, but the dots may also stand at an end or in a row: such mailboxes exist, and are quoted."""
_QUOTED_STRING: Final = rf'"(?:[ !#-\[\]-~]|\\[ -~]|{_NON_ASCII})*"'
_MAILBOX: Final = re.compile(rf"({_DOTTED}|{_QUOTED_STRING})(?:@(.+))?", re.DOTALL)
_PLAIN: Final = re.compile(_DOTTED)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_MISPLACED_DOT: Final = re.compile(r"\.(?:\.|\Z)|\A\.")

# The underscore is no letter of RFC 5321, but DNS has it (RFC 2181 11), hosts of private
# networks are named with it, and it means nothing on a command line.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")

# dcontent of RFC 5321 4.1.3, less the characters that a lax server takes for the end of a path
# or of a mailbox: double quote, angle brackets and the at sign.
_GENERAL_LITERAL: Final = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[!#-;=?A-Z^-~]+")
_BETWEEN_MAILBOXES: Final = re.compile(r"[,;\s]")
_LOOKED_AT: Final = 4096
"""Characters of a text that is refused, to find out why."""


class _Parts(NamedTuple):
    local_part: str
    domain: str
    """As on the wire: A-labels or an address literal; empty for a path without one."""


class _Path(str):
    """What both paths share: the text as the caller gave it, and its form on the wire."""

    __slots__ = ("domain", "doubt", "local_part", "needs_smtputf8", "wire")

    _bare: ClassVar[frozenset[str]]
    """What may stand without a domain, in lower case."""

    wire: str
    """``<local-part@domain>`` as it stands on a command line."""
    local_part: str
    """Before the at sign as on the wire, with its quotes where it has any."""
    domain: str
    """After the at sign, as A-labels or an address literal; ``""`` where there is none."""
    needs_smtputf8: bool
    """The local part is not ASCII (RFC 6531 3.2); a domain alone never needs SMTPUTF8."""
    doubt: str
    """Why a server elsewhere may not know the mailbox; empty where it does not matter (see ``tolerant``)."""

    def __new__(cls, text: str, *, strict: bool = True) -> Self:
        if type(text) is cls and not text.doubt:
            return text
        path: Self = _path(cls, _characters(text), not strict)
        if path.doubt:
            raise InputError(path.doubt)
        return path

    @classmethod
    def tolerant(cls, text: str) -> Self:
        """The path of what may be a mailbox where it goes: ``doubt`` has the error for every other place."""
        if type(text) is cls:
            return text
        path: Self = _path(cls, text if type(text) is str else _characters(text), False)
        return path

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[str]]:
        kind = type(self)
        return kind.tolerant if self.doubt else partial(kind, strict=False), (str(self),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str.__repr__(self)})"


class ReversePath(_Path):
    """The sender of an envelope: a mailbox, or ``""`` for the null reverse-path.

    Equal to and hashed as its text. ``"<>"`` is taken for ``""``; a mailbox stands
    without angle brackets. Raises ``InputError`` (a ``ValueError``) for text that
    is not a Reverse-path of RFC 5321 4.1.2 as extended by RFC 6531 3.3, for a
    source route, and for more octets than RFC 5321 4.5.3.1 grants. A local part
    with dots in the wrong places (``user.@example.org``) is quoted on the wire.

    With ``strict=False`` it may be a local part alone (``root``), or have one of
    more than 64 octets: for servers that are known to take that.
    """

    __slots__ = ()

    _bare = frozenset({"", "<>"})


class ForwardPath(_Path):
    """A recipient: a mailbox, or ``"postmaster"`` alone (RFC 5321 4.1.1.3).

    ``"<postmaster>"`` is taken for its bare form. For the rest all is as for
    ``ReversePath``: what is equal, raised, quoted, and what ``strict=False`` grants.
    """

    __slots__ = ()

    _bare = frozenset({"postmaster", "<postmaster>"})


def domain_to_ascii(name: str) -> str:
    """The name of a domain or host as it goes on the wire and to a resolver.

    U-labels become A-labels by UTS 46, non-transitional (``faß.de`` is another
    domain than ``fass.de``); an ASCII name stays as it is. One trailing dot is
    dropped. Raises ``InputError`` where the result is not letters, digits,
    hyphens and underscores in labels of at most 63 octets, 255 in all.
    """
    ascii_name = (name if name.isascii() else _a_labels(name)).removesuffix(".")
    # Checked after the encoding: NFKC makes '>', '@' and a space of U+FF1E, U+FF20 and U+3000.
    if len(ascii_name) > MAX_DOMAIN or not _DOMAIN.fullmatch(ascii_name):
        raise InputError(f"not a domain name: {shown(name)}")
    return ascii_name


def domain_or_literal(text: str) -> str:
    """A domain as A-labels, or an address literal in square brackets (RFC 5321 4.1.3).

    An IPv6 address gets its tag, ``[IPv6:…]``, where that is missing. Raises
    ``InputError`` where the text is neither.
    """
    if not text.startswith("["):
        return domain_to_ascii(text)
    if ":" in text and len(text) <= MAX_DOMAIN and text.endswith("]") and _is_ipv6(text[1:-1]):
        return f"[IPv6:{text[1:-1]}]"
    if len(text) > MAX_DOMAIN or not text.endswith("]") or not _is_literal(text[1:-1]):
        raise InputError(f"not an address literal: {shown(text)}")
    return text


def _characters(text: object) -> str:
    if not isinstance(text, str):
        raise InputError(f"a path is a str, not {type(text).__name__}")
    # The characters themselves: a subclass (an Enum, say) may answer str() with others.
    return str.__str__(text)


@lru_cache(maxsize=8192)
def _path(cls: type[_Path], text: str, insisted: bool) -> Any:
    """The path of this class."""
    doubt = ""
    if text.lower() in cls._bare:
        text = text.strip("<>")
        parts, wire = _Parts(text, ""), f"<{text}>"
    else:
        parts = _mailbox(cls, text)
        wire = f"<{parts.local_part}@{parts.domain}>" if parts.domain else f"<{parts.local_part}>"
        doubt = "" if insisted else _doubt(cls.__name__, text, parts)
    if len(wire.encode()) > MAX_PATH:
        raise InputError(f"a path longer than {MAX_PATH} octets (RFC 5321 4.5.3.1.3): {shown(text)}")
    path = str.__new__(cls, text)
    put = object.__setattr__
    put(path, "wire", wire)
    put(path, "local_part", parts.local_part)
    put(path, "domain", parts.domain)
    put(path, "needs_smtputf8", not parts.local_part.isascii())
    put(path, "doubt", doubt)
    return path


def _mailbox(cls: type[_Path], text: str) -> _Parts:
    # First, so that no later step meets a text without bounds.
    if len(text) > MAX_PATH:
        raise _no_mailbox(cls, text, f"longer than {MAX_PATH} octets, RFC 5321 4.5.3.1.3")
    match = _MAILBOX.fullmatch(text)
    if match is None:
        raise _no_mailbox(cls, text, _reason(text))
    local_part, domain = match.groups()
    if domain is None:
        if "@" in normalize("NFKC", local_part):
            raise _no_mailbox(cls, text, "an at sign of another alphabet")
        return _Parts(quoted_dots(local_part), "")
    try:
        return _Parts(quoted_dots(local_part), domain_or_literal(domain))
    except InputError as error:
        why = error.text
    raise _no_mailbox(cls, text, why)


def _no_mailbox(cls: type[_Path], text: str, why: str) -> InputError:
    """The error for a text that is no mailbox; one with several in it is a list that somebody joined."""
    count = sum("@" in piece for piece in _BETWEEN_MAILBOXES.split(text[:_LOOKED_AT]))
    if count < 2:
        return InputError(f"not a mailbox ({why}): {shown(text)}")
    cure = cures.several_addresses(count) if cls is ForwardPath else ""
    return InputError(f"not a mailbox (it looks like several): {shown(text)}", cure=cure)


def quoted_dots(local_part: str) -> str:
    """A local part, in quotes where dots stand at an end or in a row (RFC 5321 4.1.2)."""
    is_quoted = local_part.startswith('"') or not _MISPLACED_DOT.search(local_part)
    return local_part if is_quoted else f'"{local_part}"'


def plainest(local_part: str) -> str:
    """A local part in its one form: quoted where it must be, and only what must be (RFC 5321 4.1.2)."""
    if not local_part.startswith('"'):
        return quoted_dots(local_part)
    text = _QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    if _PLAIN.fullmatch(text) and not _MISPLACED_DOT.search(text):
        return text
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


def _doubt(kind: str, text: str, parts: _Parts) -> str:
    """Why this goes only to a server that is known to take it; empty for every other mailbox."""
    if not parts.domain:
        what = "a mailbox without a domain"
    elif len(parts.local_part.encode()) > MAX_LOCAL_PART:
        what = f"a local part longer than {MAX_LOCAL_PART} octets (RFC 5321 4.5.3.1.1)"
    else:
        return ""
    return f"{what}: {shown(text)}; if the server takes it, give {kind}(…, strict=False)"


def _a_labels(name: str) -> str:
    if len(name) > MAX_DOMAIN:
        raise InputError(f"a domain longer than {MAX_DOMAIN} octets (RFC 5321 4.5.3.1.2): {shown(name)}")
    try:
        return idna.encode(name, uts46=True, std3_rules=True, transitional=False).decode("ascii")
    except UnicodeError as error:
        raise InputError(f"not a domain name: {shown(name)}: {error}") from None


def _is_literal(inside: str) -> bool:
    tag, colon, content = inside.partition(":")
    if not colon:
        return _is_address(IPv4Address, inside)
    if tag.lower() == "ipv6":
        return _is_ipv6(content)
    return _GENERAL_LITERAL.fullmatch(inside) is not None


def _is_ipv6(text: str) -> bool:
    # A zone after '%' is not in the grammar, and ipaddress lets it hold any text.
    return "%" not in text and _is_address(IPv6Address, text)


def _is_address(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _reason(text: str) -> str:
    if not text:
        return "empty"
    if text.lower().startswith("mailto:"):
        return "a URL: leave out mailto:"
    if text.startswith("@"):
        return "source routes are refused, RFC 5321 C"
    if text.startswith("<") or text.endswith(">"):
        return "without angle brackets or a display name"
    if text.endswith("@"):
        return "nothing behind the at sign"
    if not text.isprintable():
        return "a control character or white space"
    return "a character that needs a quoted local part, RFC 5321 4.1.2"

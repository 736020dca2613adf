"""Header fields as octets for the wire (RFC 5322 2.2, RFC 2047, RFC 2231, RFC 6532).

The policies of ``email`` fold differently in each Python, some of them so that
a field can grow another one (CVE-2024-6923) or a quoted comma becomes a second
address. Here a field that is fit to be sent goes as it is; the rest is written
anew by the few rules below; and every field is checked after it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from email.errors import MessageError
from email.header import Header
from email.headerregistry import AddressHeader
from email.policy import SMTP, Policy
from typing import Any, Final

from ..errors import InputError
from ..shortening import shown
from ..wire.limits import MAX_TEXT_LINE
from . import addresses, header_objects, parameters, words
from .addresses import Address, Group, Mailbox
from .parameters import QUOTED, QUOTED_PAIR, SURROGATE, WIDTH

ADDRESS_FIELDS: Final = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc"}
    | {f"resent-{name}" for name in ("from", "sender", "to", "cc", "bcc")}
    | {"disposition-notification-to", "return-receipt-to", "errors-to", "mail-followup-to"}
)
"""Fields that hold an address list, in lower case."""
_MAX_BY_POLICY: Final = 5000
_MAX_PARAMETER_NAME: Final = 40
"""Characters that are left to the standard library, which is quadratic, and never ends for a long name."""
_PARAMETER_FIELDS: Final = frozenset({"content-type", "content-disposition"})
_FREE_TEXT_FIELDS: Final = frozenset({"subject", "comments", "content-description", "thread-topic"})

_LIST_FIELDS: Final = ADDRESS_FIELDS | {"keywords", "accept-language", "content-language"}
"""Fields with a list by commas, with quotes and comments as in an address list (RFC 5322 3.6.5, RFC 3282)."""
_BRACKET_FIELDS: Final = frozenset(
    {"references", "in-reply-to"}
    | {f"list-{name}" for name in ("help", "unsubscribe", "subscribe", "post", "owner", "archive")}
)
"""Fields with a list in angle brackets (RFC 5322 3.6.4, RFC 2369 2)."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_NAME: Final = re.compile(r"[!-9;-~]+")
_BEFORE_SPACE: Final = re.compile(r"(?<=[^ \t])(?=[ \t])")
_BETWEEN_BRACKETS: Final = re.compile(r"(?:(?<=>)|(?<=>,))(?=<)")
# A quoted pair is one piece: else each escaped quote would begin another search for the end of a string.
_ADDRESS_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^<>()@,;:\\".\[\]]+|\\.?|[<>()@,;:".\[\]]', re.DOTALL)
_JOINING: Final = ("@", ".", '"', "\\", "[", "]")
"""What belongs to an address, or to a quoted string without an end."""


class Field:
    """A header field, name and value as ``Message.raw_items()`` gives them, that is read once."""

    __slots__ = ("_entries", "_source", "_text", "is_made_here", "key", "name", "value")

    def __init__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise _bad_name()
        self.name: str = name
        self.key: str = name.lower()
        """By which it is looked for."""
        self.value: Any = value
        self.is_made_here: bool = value.__class__ is not str and hasattr(value, "fold")
        """True for a header object, which nobody has folded yet."""
        self._source: str | None = None
        self._text: str | None = None
        self._entries: list[Address] | None = None

    @property
    def source(self) -> str:
        """The value as it came, with its line ends. Raises ``InputError`` where it is no text."""
        if self._source is None:
            self._source, self._entries = _source(self.name, self.value)
        return self._source

    @property
    def text(self) -> str:
        """The value in one line, raw octets read as UTF-8 where they are.

        Raises ``InputError`` for a line end that no white space follows: a field
        within the field.
        """
        if self._text is None:
            source = text = self.source
            if "\n" in source or "\r" in source:
                text = "".join(_lines(self.name, source))
            if not text.isascii():
                text = _decoded(text)
            if text != source:
                self._entries = None
            self._text = text.strip(" \t")
        return self._text

    def entries(self, called: str) -> list[Address]:
        """What its address list holds. Raises ``InputError``, by this name of the field, where it is none."""
        text = self.text
        if self._entries is None:
            self._entries = addresses.of_field(called, text, bare=True)
        return self._entries

    @property
    def internationalized(self) -> list[str]:
        """The addresses in it that need SMTPUTF8: their local part is not ASCII (RFC 6531 3.2)."""
        if self.key not in ADDRESS_FIELDS or self.text.isascii():
            return []
        boxes = addresses.flatten(self.entries(self.name))
        return [box.address for box in boxes if not box.local_part.isascii()]

    def written(self, *, utf8: bool = False) -> bytes:
        """As octets with CRLF.

        With ``utf8`` text that is not ASCII goes as UTF-8 (RFC 6532), else in
        encoded words and A-labels. Raises ``InputError`` for a name or value that
        would end the field and begin another (CVE-2024-6923), for NUL, and for a
        line over 998 octets that cannot be folded.
        """
        _check_name(self.name)
        if line := self._line():
            return line.encode("ascii")
        octets = _as_it_is(self)
        if octets is None or not octets.isascii():
            octets = _anew(self, utf8).encode("utf-8")
        _check(self.name, octets)
        return octets

    def _line(self) -> str:
        """All of it, where that is one line in ASCII and not to be altered; else empty."""
        if not self.is_made_here:
            line, width = f"{self.name}: {self.source}", MAX_TEXT_LINE
        elif self.key not in _PARAMETER_FIELDS:
            line, width = f"{self.name}: {self.text}", WIDTH
        elif parameters.is_canonical(self.text):
            line, width = f"{self.name}: {self.text}", WIDTH - 1
        else:
            return ""
        if len(line) > width or not line.isascii() or "\n" in line or "\r" in line or "\0" in line:
            return ""
        return f"{line}\r\n"


def check(fields: Iterable[Field]) -> None:
    """Raise ``InputError`` for a value that is no text, or would be more than one field."""
    for field in fields:
        value = field.value
        if value.__class__ is not str or "\n" in value or "\r" in value:
            _ = field.text


def write_signed(field: Field, policy: Policy = SMTP, *, refolded: bool = False) -> bytes:
    """A field under a signature: as it came, or as ``policy`` writes what was made here.

    That is what ``as_bytes`` of the signed part gave whoever signed it. With
    ``refolded`` also a field that came from elsewhere goes through the policy.
    Raises ``InputError`` where neither is a field that can be sent.
    """
    _check_name(name := field.name)
    octets, value = _as_it_is(field), field.value
    if field.key == "dkim-signature" and field.is_made_here:
        # Some policies make encoded words of a long tag.
        octets = _folded(name, field.text).encode("ascii", "replace")
    elif refolded or field.is_made_here or isinstance(value, Header) or _is_text(value):
        octets = _by_policy(field, policy)
    if octets is None:
        raise InputError(f"{name} is under a signature and cannot be sent as it is")
    _check(name, octets)
    return octets


def write_attached(field: Field) -> bytes:
    """A field of an attached message, which somebody else wrote: in ASCII if that can be, else as it came.

    Raises ``InputError`` only for what would begin another field.
    """
    with suppress(InputError):
        written = field.written()
        if written.isascii():
            return written
    with suppress(InputError):
        if field.key in ADDRESS_FIELDS and (text := _by_words(field.name, field.text)):
            return _folded(field.name, text).encode("ascii")
    return as_it_came(field)


def as_it_came(field: Field) -> bytes:
    """A field without a look at whether a server takes it.

    Raises ``InputError`` only for what would begin another field.
    """
    _check_name(field.name)
    return b"\r\n".join(_field_lines(field)) + b"\r\n"


def _source(name: str, value: Any) -> tuple[str, list[Address] | None]:
    """``Field.source``, and what it lists where that had to be read."""
    if value.__class__ is str:
        return value, None
    if isinstance(value, AddressHeader):
        return header_objects.read(name, value)
    if isinstance(value, str):
        return str(value), None
    if isinstance(value, Header):
        return value.encode(), None
    raise InputError(f"the value of {name} is {type(value).__name__}, not text")


def _lines(name: str, source: str) -> list[str]:
    lines = _LINE_END.split(source)
    if any(line[:1] not in (" ", "\t") for line in lines[1:]):
        raise InputError(f"{name} holds a line end: the text after it would be a field of its own")
    return lines


def _as_it_is(field: Field) -> bytes | None:
    """The field as it came from elsewhere, or None where it was made here or is not fit to be sent."""
    octets = _field_lines(field)
    # A line of white space alone looks like the end of the header section.
    if field.is_made_here or not all(line.strip(b" \t") for line in octets[1:]):
        return None
    is_long = any(len(line) > MAX_TEXT_LINE for line in octets)
    return None if is_long else b"\r\n".join(octets) + b"\r\n"


def _field_lines(field: Field) -> list[bytes]:
    name = field.name
    lines = _lines(name, field.source)
    lines[0] = f"{name}: {lines[0]}" if lines[0] or len(lines) == 1 else f"{name}:"
    return [_octets(name, line) for line in lines]


def _is_text(value: Any) -> bool:
    """True for text that is not ASCII: what was parsed from octets holds these as surrogates."""
    return isinstance(value, str) and not value.isascii() and not SURROGATE.search(value)


def _by_policy(field: Field, policy: Policy) -> bytes | None:
    """As the standard library writes it, but for what takes it too long (CPython gh-138223)."""
    text = field.text
    if len(text) > _MAX_BY_POLICY:
        return None
    if field.key in _PARAMETER_FIELDS:
        names = (segment.partition("=")[0] for segment in parameters.split(text))
        if max(map(len, names)) > _MAX_PARAMETER_NAME:
            return None
    try:
        return policy.clone(linesep="\r\n").fold_binary(field.name, field.value)
    except (ArithmeticError, AttributeError, LookupError, MessageError, TypeError, ValueError):
        return None  # then nobody signed it so


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _bad_name()


def _bad_name() -> InputError:
    return InputError("a header field's name holds a character that is not allowed (RFC 5322 3.6.8)")


def _octets(name: str, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InputError(f"{name} holds a lone surrogate") from None


def _decoded(text: str) -> str:
    """Raw octets, which ``email`` keeps as surrogates, read as UTF-8 where they are UTF-8."""
    if not SURROGATE.search(text):
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text


def _anew(field: Field, utf8: bool) -> str:
    name, key, text = field.name, field.key, field.text
    if key in _PARAMETER_FIELDS:
        return parameters.folded(name, text)
    if key in ADDRESS_FIELDS and not text.isascii():
        return _folded(name, ", ".join([_address(name, entry, utf8) for entry in field.entries(name)]))
    is_unfoldable = key in _FREE_TEXT_FIELDS and max(map(len, text.split()), default=0) > WIDTH
    return _folded(name, text if _goes_plain(text, utf8) and not is_unfoldable else _words(name, text))


def _goes_plain(text: str, utf8: bool) -> bool:
    return text.isascii() or (utf8 and not SURROGATE.search(text))


def _words(name: str, text: str) -> str:
    """Free text as encoded words; those in it are decoded first, not encoded a second time."""
    plain = words.decoded(text)
    if _LINE_END.search(plain):
        raise InputError(f"{name} hides a line end in an encoded word")
    return words.encoded(name, plain)


def _address(name: str, entry: Mailbox | Group, utf8: bool) -> str:
    phrase = entry.phrase
    if not _goes_plain(phrase, utf8):
        phrase = _words(name, _unquoted(phrase))
    if isinstance(entry, Group):
        return f"{phrase}: {', '.join(_address(name, box, utf8) for box in entry.mailboxes)};"
    if SURROGATE.search(entry.address):
        raise InputError(f"{name} holds an address that is neither ASCII nor UTF-8")
    try:
        address = entry.address if utf8 else entry.with_a_labels().address
    except InputError as error:
        raise error.at(f"{name}: {shown(entry.address)}") from None
    comments = [_comment(name, text, utf8) for text in entry.comments]
    return " ".join([f"{phrase} <{address}>" if phrase else address, *comments])


def _comment(name: str, text: str, utf8: bool) -> str:
    if _goes_plain(text, utf8):
        return text
    inside = _words(name, QUOTED_PAIR.sub(r"\1", text[1:-1]))
    return f"({inside})"


def _by_words(name: str, text: str) -> str:
    """What is no address list, its display names in encoded words; empty where an address needs UTF-8."""
    pieces = _ADDRESS_PIECE.findall(text)
    written: list[str] = []
    for before, piece, after in zip(["", *pieces], pieces, [*pieces[1:], ""], strict=False):
        if piece.isascii():
            written.append(piece)
            continue
        phrase = piece.strip(" \t")
        start, end = piece[: piece.index(phrase)], piece[piece.index(phrase) + len(phrase) :]
        is_joined = (before[:1] in _JOINING and not start) or (after[:1] in _JOINING and not end)
        if is_joined or phrase.startswith("\\"):
            return ""
        written += [start, _words(name, _unquoted(phrase)), end]
    return "".join(written)


def _unquoted(phrase: str) -> str:
    return QUOTED.sub(lambda match: QUOTED_PAIR.sub(r"\1", match[1]), phrase)


def _folded(name: str, text: str) -> str:
    """Folded before white space and where there may be some; never right after the name (RFC 5322 2.2.3)."""
    first, *rest = _unfoldable(name.lower(), text)
    lines = [f"{name}: {first}"]
    for piece in rest:
        if len(lines[-1]) + len(piece) > WIDTH:
            lines.append(piece if piece[:1] in (" ", "\t") else f" {piece}")
        else:
            lines[-1] += piece
    return "\r\n".join(lines) + "\r\n"


def _unfoldable(key: str, text: str) -> list[str]:
    """The pieces of a value that may stand in lines of their own."""
    pieces = _BEFORE_SPACE.split(text)
    if max(map(len, pieces)) <= WIDTH:
        return pieces
    if key in _LIST_FIELDS:
        return [part for item in addresses.items(text) for part in _BEFORE_SPACE.split(item)]
    if key in _BRACKET_FIELDS:
        return [part for piece in pieces for part in _BETWEEN_BRACKETS.split(piece)]
    return pieces


def _check(name: str, octets: bytes) -> None:
    """Whatever wrote it: one field, and no line that a server would refuse."""
    lines = octets.removesuffix(b"\r\n").split(b"\r\n")
    is_whole = octets.endswith(b"\r\n") and not any(
        end in line for line in lines for end in (b"\r", b"\n", b"\0")
    )
    if not is_whole or not all(line[:1] in (b" ", b"\t") and line.strip() for line in lines[1:]):
        raise InputError(f"{name} holds a line end or NUL: it would not be one field (RFC 5322 2.2)")
    if any(len(line) > MAX_TEXT_LINE for line in lines):
        raise InputError(f"{name} holds over {MAX_TEXT_LINE} octets without a space (RFC 5322 2.1.1)")

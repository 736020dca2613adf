"""The text of an address field that ``email`` has parsed into a header object.

``str()`` of such an object is what the parser made of the text: of a list with
a mistake in it the rest is gone, and so are comments and some quotes. The tree
of the parse still has every character, so what was written is put together
from that, and read by the same rules as the text of any other message.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.errors import InvalidHeaderDefect
from typing import Any, Final, NamedTuple

from ..errors import InputError
from ..shortening import shown
from . import addresses, words
from .addresses import Address

_WHOLE: Final = frozenset({"comment", "bare-quoted-string"})
"""What quotes its content anew when it is written as text."""
_CLOSED: Final = frozenset({"angle-addr", "domain-literal", "group"})
"""What ends with a closing sign, which the parser supplies where it is missing."""
_REWRITTEN: Final = frozenset({"encoded-word", "comment"})
"""What does not stand in the tree as it was written."""
_CLOSERS: Final = frozenset(">];")
_ENCODED: Final = frozenset({"encoded-address", "obs-local-part"})
"""An encoded word in an address, which is forbidden (RFC 2047 5). One in front of a local part the parser
decodes, and reads its text as a part of the list, so that one address becomes two: for example
``=?utf-8?q?ann=40example.org=2C?=bob@example.org``. The first is then an obs-local-part, valid or not."""


class _Piece(NamedTuple):
    kind: str
    text: str


def read(name: str, value: Any) -> tuple[str, list[Address] | None]:
    """The text of an ``AddressHeader`` as it was written, and what it lists where that had to be read.

    Encoded words are encoded anew, nothing is closed that was left open. Raises
    ``InputError`` where the text cannot be had for certain, and for an
    ``Address`` that holds several.
    """
    tree = getattr(value, "_parse_tree", None)
    if tree is None:
        if any(isinstance(defect, InvalidHeaderDefect) for defect in value.defects):
            raise InputError(f"{name} is not an address list: {shown(str(value))}")
        return str(value), None
    found = str(value)
    if value.defects or found != _leaves(tree):
        found = _written(name, value, tree)
    return found, None if value.defects else _counted(name, found, len(value.addresses))


def _leaves(tree: Any) -> str | None:
    """The characters of a tree in one short pass; None for a tree that needs more."""
    found: list[str] = []
    waiting = [tree]
    while waiting:
        token = waiting.pop()
        while token and not isinstance(token, str):
            if token.token_type in _REWRITTEN:
                return None
            if token.token_type == "bare-quoted-string":
                token = str(token)
            else:
                token, *behind = token
                waiting += behind[::-1]
        if token:
            found.append(token)
    return "".join(found)


def _written(name: str, value: Any, tree: Any) -> str:
    pieces = list(_pieces(name, tree))
    found = "".join(_spaced(pieces))
    if not value.defects:
        return found
    kinds = {piece.kind for piece in pieces}
    if not _ENCODED.isdisjoint(kinds):
        raise InputError(f"{name}: an encoded word or an obsolete local part in an address: {shown(found)}")
    if "invalid-obs-local-part" in kinds:
        _counted(name, found, 1)
    return found


def _counted(name: str, found: str, expected: int) -> list[Address] | None:
    """What the text lists, None where it is no list; refuses an address that may hide in another's text."""
    try:
        listed = addresses.parse(found, bare=True)
    except InputError:
        return None  # whoever needs the envelope says what is wrong
    if sum(1 for _ in addresses.flatten(listed)) > expected:
        raise InputError(
            f"{name}: of these addresses one may hide in another; give the recipients: {shown(found)}"
        )
    return listed


def _spaced(pieces: list[_Piece]) -> Iterator[str]:
    """A space between two encoded words, which the parser takes for a part of neither."""
    is_after_word = False
    for piece in pieces:
        is_word = piece.kind == "encoded-word"
        if is_word and is_after_word:
            yield " "
        yield piece.text
        is_after_word = is_word or (is_after_word and not piece.text)


def _pieces(name: str, token: Any, is_last: bool = True) -> Iterator[_Piece]:
    kind = token.token_type
    if kind in ("addr-spec", "local-part") and _has_encoded_word(token):
        yield _Piece("encoded-address", "")
    if kind == "encoded-word":
        yield _Piece(kind, words.encoded(name, str(token)))
    elif kind in _WHOLE:
        yield _Piece(kind, str(token)[: -_open_count(token) or None] if is_last else str(token))
    elif isinstance(token, str):
        yield _Piece(kind, str(token))
    else:
        yield _Piece(kind, "")
        below = list(token)
        if kind in _CLOSED and _is_open(token) and str(below[-1]) in _CLOSERS:
            below.pop()
        for number, each in enumerate(below, 1):
            yield from _pieces(name, each, is_last and number == len(below))


def _has_encoded_word(token: Any) -> bool:
    if isinstance(token, str):
        return False
    return token.token_type == "encoded-word" or any(map(_has_encoded_word, token))


def _open_count(token: Any) -> int:
    """How many closing signs at the end are the parser's: comments nest."""
    count = 0
    while not isinstance(token, str) and token.token_type in _WHOLE and _is_open(token):
        count += 1
        token = list(token)[-1] if list(token) else ""
    return count


def _is_open(token: Any) -> bool:
    """Whether the closing sign is the parser's: it also complains of encoded words in quotes, and of <>."""
    defects = sum(isinstance(defect, InvalidHeaderDefect) for defect in token.defects)
    kinds = [each.token_type for each in token]
    is_null = token.token_type == "angle-addr" and "addr-spec" not in kinds
    return defects > kinds.count("encoded-word") + is_null

"""Encoded words: text that is not ASCII in a header field that is (RFC 2047)."""

from __future__ import annotations

import binascii
import re
from bisect import bisect_right
from email.charset import QP, Charset
from typing import Final, NamedTuple

from .parameters import SURROGATE, WIDTH

# Each part ends at a question mark and cannot hold one, so no text makes this run slower than linear. The
# bound, far over the 75 of RFC 2047 2, is for codecs that are quadratic (punycode).
_WORD: Final = re.compile(r"=\?([^?\s]{1,60})\?([bq])\?([^?\s]{0,1000})\?=", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"(?<=\?=)[ \t]+(?==\?)")
FOLD: Final = "\r\n "
"""Between two words where the field is folded."""
_WORD_WIDTH: Final = 64
"""Characters of a word where the field's name is not known: most lines with one keep to 76 (RFC 2047 2)."""
_PLAIN: Final = b"-!*+/0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_QUOTED: Final = tuple("_" if n == 32 else chr(n) if n in _PLAIN else f"={n:02X}" for n in range(256))
"""Each octet in the encoding Q, as it may also stand in a display name (RFC 2047 4.2, 5)."""


def encoded(name: str, text: str) -> str:
    """Encoded words in UTF-8, short enough to follow the field's name.

    Octets that no charset explained, as surrogates, stay what they are (RFC 1428 3).
    """
    charset = "unknown-8bit" if SURROGATE.search(text) else "utf-8"
    coding = _shorter(_Coding(charset, "utf-8", "surrogateescape"), text)
    return " ".join(_cut(text, coding, max(WIDTH - len(name) - 2, WIDTH // 2)))


def words(text: str, charset: str) -> list[str]:
    """A text in ASCII: itself, or the encoded words of it; of UTF-8 where the charset lacks a letter.

    Raises ``LookupError`` or ``email.errors.CharsetError`` for a charset that is none, and
    ``UnicodeEncodeError`` for what is no text.
    """
    return [text] if text.isascii() else _cut(text, _coding(text, charset), _WORD_WIDTH)


class _Coding(NamedTuple):
    charset: str
    """Its name in mail; Python may call the codec by another one."""
    codec: str
    errors: str = "strict"
    is_quoted: bool = True
    """In the encoding Q, else in B (RFC 2047 4)."""

    def word(self, text: str) -> str:
        octets = text.encode(self.codec, self.errors)
        if not octets:
            return ""
        if self.is_quoted:
            return f"=?{self.charset}?q?{''.join([_QUOTED[octet] for octet in octets])}?="
        return f"=?{self.charset}?b?{binascii.b2a_base64(octets, newline=False).decode('ascii')}?="


def _cut(text: str, coding: _Coding, width: int) -> list[str]:
    """Words of whole characters, none longer than this unless a single one is (RFC 2047 2, 5)."""
    whole = coding.word(text)
    if len(whole) <= width:
        return [whole]
    found: list[str] = []
    start = 0
    while start < len(text):
        end = _end_of_word(text, start, coding, width)
        found.append(coding.word(text[start:end]))
        start = end
    return found


def _end_of_word(text: str, start: int, coding: _Coding, width: int) -> int:
    """By halves: the longer the text the longer its word, and each character takes an octet at least."""
    ends = range(start + 2, min(start + width, len(text)) + 1)
    return start + 1 + bisect_right(ends, width, key=lambda end: len(coding.word(text[start:end])))


def _coding(text: str, charset: str) -> _Coding:
    known = Charset(charset)
    name, codec = str(known.get_output_charset()), known.output_codec or "ascii"
    # UTF-16 and the like begin each word with a mark, and are none for mail (RFC 2781 A). Python knows
    # codecs by names with blanks in them, which would end the word.
    try:
        is_fit = "a".encode(codec) == b"a" and bool(text.encode(codec)) and " " not in name
    except UnicodeEncodeError:
        is_fit = False
    if not is_fit:
        return _shorter(_Coding("utf-8", "utf-8"), text)
    coding = _Coding(name, codec)
    return coding if known.header_encoding == QP else _shorter(coding, text)


def _shorter(coding: _Coding, text: str) -> _Coding:
    """The same with the shorter of the two encodings."""
    return min(coding, coding._replace(is_quoted=False), key=lambda each: len(each.word(text)))


def decoded(text: str) -> str:
    """The text with its encoded words decoded, white space between two of them gone (RFC 2047 6.2).

    A word of an unknown charset or with a broken encoding stays as it is; octets
    that its charset has not become surrogates.
    """
    return _WORD.sub(_decoded, _BETWEEN.sub("", text))


def _decoded(word: re.Match[str]) -> str:
    charset, encoding, content = word.groups()
    try:
        octets = content.encode("utf-8", "surrogateescape")
        if encoding in "qQ":
            octets = binascii.a2b_qp(octets, header=True)
        else:
            octets = binascii.a2b_base64(octets + b"==")
        return octets.decode(charset.partition("*")[0], "surrogateescape")  # a language tag: RFC 2231 5
    except (LookupError, ValueError):
        return word[0]

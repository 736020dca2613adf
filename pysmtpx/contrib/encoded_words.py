"""Text as encoded words of the charset that a message names for itself (RFC 2047)."""

from __future__ import annotations

from email import base64mime, quoprimime
from email.charset import QP, Charset
from email.utils import unquote
from typing import Final, NamedTuple

from ..mime.addresses import Mailbox

_WIDTH: Final = 64
"""Characters of a word: with the name of a field before it the line keeps to the 76 of RFC 2047 2."""
FOLD: Final = "\r\n "
"""Between two words where the field is folded."""


class _Coding(NamedTuple):
    charset: str
    """Its name in mail; Python may call the codec by another one."""
    codec: str
    is_quoted: bool
    """In the encoding Q, else in B (RFC 2047 4)."""

    def word(self, text: str) -> str:
        encode = quoprimime.header_encode if self.is_quoted else base64mime.header_encode
        return encode(text.encode(self.codec), self.charset)


def words(text: str, charset: str) -> list[str]:
    """A text in ASCII: itself, or the encoded words of it; of UTF-8 where the charset lacks a letter.

    Each word holds whole characters. Raises ``LookupError`` or
    ``email.errors.CharsetError`` for a charset that is none.
    """
    if text.isascii():
        return [text]
    coding = _coding(text, charset)
    found: list[str] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and len(coding.word(text[start : end + 1])) <= _WIDTH:
            end += 1
        found.append(coding.word(text[start:end]))
        start = end
    return found


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
        name = codec = "utf-8"
    octets = text.encode(codec)
    is_shorter = len(quoprimime.header_encode(octets)) <= len(base64mime.header_encode(octets))
    return _Coding(name, codec, (is_fit and known.header_encoding == QP) or is_shorter)


def written(box: Mailbox, charset: str, between: str = " ") -> str:
    """A mailbox as it stands in a field: the name in encoded words, the domain in A-labels.

    A local part that is not ASCII stays as it is: encoded words are forbidden
    there (RFC 2047 5), and RFC 6531 carries it. Raises ``InputError`` for a
    domain that is none, and what ``words`` raises.
    """
    box = box.with_a_labels()
    if not box.phrase:
        return box.address
    if box.phrase.isascii():
        return f"{box.phrase} <{box.address}>"
    return between.join([*words(unquote(box.phrase), charset), f"<{box.address}>"])

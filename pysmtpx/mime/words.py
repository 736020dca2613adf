"""Encoded words: text that is not ASCII in a header field that is (RFC 2047)."""

from __future__ import annotations

import binascii
import re
from email import base64mime, quoprimime
from typing import Final

from .parameters import WIDTH

# Each part ends at a question mark and cannot hold one, so no text makes this run slower than linear. The
# bound, far over the 75 of RFC 2047 2, is for codecs that are quadratic (punycode).
_WORD: Final = re.compile(r"=\?([^?\s]{1,60})\?([bq])\?([^?\s]{0,1000})\?=", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"(?<=\?=)[ \t]+(?==\?)")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def encoded(name: str, text: str) -> str:
    """Encoded words of whole characters, short enough to follow the field's name (RFC 2047 2, 5)."""
    charset = "unknown-8bit" if _SURROGATE.search(text) else "utf-8"  # RFC 1428 3
    characters = [character.encode("utf-8", "surrogateescape") for character in text]
    whole = b"".join(characters)
    encode = min(quoprimime.header_encode, base64mime.header_encode, key=lambda encode: len(encode(whole)))
    width = max(WIDTH - len(name) - 2, WIDTH // 2)
    pieces = [b""]
    for character in characters:
        if len(encode(pieces[-1] + character, charset)) > width:
            pieces.append(b"")
        pieces[-1] += character
    return " ".join(encode(piece, charset) for piece in pieces)


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

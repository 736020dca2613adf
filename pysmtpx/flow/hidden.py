"""Secrets that a server may repeat: found in what it says, in whatever form, and not shown."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote_from_bytes

from ..wire.reply import Reply

_WIDTH: Final = 8
"""Octets in a row by which a piece of a secret is known, since servers cut what they quote."""
_SHORT: Final = 4
"""A secret below this is found only as a word of its own: its letters are in any text."""
_INSTEAD: Final = b"(not shown: it repeats what was sent to log in)"
_CHALLENGE: Final = 334


class Hidden:
    """The secrets of one log-in. A server may quote the line that it refuses, or what it decoded of it."""

    __slots__ = ("_needles", "_pieces", "_words")

    def __init__(self, *secrets: str) -> None:
        self._pieces: set[bytes] = set()
        """Eight octets of a secret each, in lower case."""
        self._needles: set[bytes] = set()
        """What is shorter than that."""
        self._words: set[bytes] = set()
        for secret in secrets:
            self.add(secret.encode())

    def add(self, secret: bytes) -> None:
        """Hide this one too."""
        for form in _forms(secret):
            self._put(form.lower())

    def _put(self, octets: bytes) -> None:
        if len(octets) >= _WIDTH:
            self._pieces.update(octets[i : i + _WIDTH] for i in range(len(octets) - _WIDTH + 1))
        elif len(octets) >= _SHORT:
            self._needles.add(octets)
        elif octets:
            self._words.add(octets)

    def add_words(self, secret: bytes) -> None:
        """Hide this, and each of the words that it is made of."""
        self.add(secret)
        for word in re.findall(rb"[!-~\x80-\xff]+", secret):
            self.add(word)

    def add_line(self, line: bytes) -> None:
        """Hide what an AUTH line or the answer to a challenge carries, and not the name of the mechanism."""
        words = line.split()
        for word in words[2:] if words[:1] == [b"AUTH"] else words:
            self._put(word.lower().rstrip(b"="))

    def redacted(self, reply: Reply) -> Reply:
        """The reply, with another text where it holds a secret; a challenge is left to its mechanism."""
        if reply.code == _CHALLENGE or not self.is_in(b"\n".join(reply.lines)):
            return reply
        return Reply(reply.code, (_INSTEAD,), reply.enhanced)

    def is_in(self, text: bytes) -> bool:
        """Whether a text holds one of them, or a piece of it, in any case and over line ends."""
        octets = text.lower()
        joined = octets.replace(b"\n", b"") if b"\n" in octets else octets
        return (
            any(joined[i : i + _WIDTH] in self._pieces for i in range(len(joined) - _WIDTH + 1))
            or any(needle in joined for needle in self._needles)
            or not self._words.isdisjoint(re.findall(rb"[^\s'\"<>(),:;]+", octets))
        )


def _forms(secret: bytes) -> Iterator[bytes]:
    """As it is, and as a server may write it."""
    yield secret
    text = secret.decode("utf-8", "replace")
    for before in range(3):  # what stands in front of it decides how it falls into groups of three
        yield b64encode(b"\0" * before + secret)[4 * bool(before) :].rstrip(b"=")
    yield quote_from_bytes(secret, safe="").encode("ascii")
    yield secret.hex().encode("ascii")
    yield repr(secret)[2:-1].encode("ascii")
    yield text.encode("unicode_escape")
    yield text.encode("latin-1", "replace")

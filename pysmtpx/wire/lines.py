"""Lines of content on their way to the wire, piece by piece (RFC 5321 4.5.2).

CR, LF and CRLF are each one line end and leave as CRLF, so that no end of data
can hide in content (SMTP smuggling). The standard library's universal-newlines
decoder judges and rewrites line ends, and keeps the state between pieces.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from io import IncrementalNewlineDecoder
from typing import Final, NamedTuple, TypeAlias

from ..errors import InputError, NotSupportedError
from .limits import MAX_TEXT_LINE, SLICE

Octets: TypeAlias = bytes | memoryview

PIECE: Final = SLICE * 15 // 16
"""Octets read at a time: with CRs and dots added, the result seldom spills over a slice."""
ONLY_CRLF: Final = (None, "\r\n")
"""What the decoder has seen in text that needs no rewriting."""
_DOT_LINE: Final = re.compile(rb"\n\.")
# As numbers: bytes that are sought in bytes are tried as a number first, which raises an error within.
DOT: Final = ord(".")
NUL: Final = 0


def slices(data: Octets, size: int = SLICE) -> Iterator[Octets]:
    """Cut octets into slices of at most ``size``, without a copy; what fits goes as it is."""
    if len(data) <= size:
        return iter((data,) if data else ())
    view = memoryview(data)
    return (view[start : start + size] for start in range(0, len(data), size))


def cut(pieces: Iterable[Octets]) -> Iterator[Octets]:
    """Each piece in slices of at most ``SLICE`` octets."""
    for piece in pieces:
        yield from slices(piece)


class CanonicalLines:
    """Pieces with every line end as CRLF, never split between two pieces, and the last line ended."""

    __slots__ = ("_decoder", "_pieces", "raw_size")

    def __init__(self, pieces: Iterable[Octets]) -> None:
        self._pieces = pieces
        self._decoder = IncrementalNewlineDecoder(None, translate=True)
        self.raw_size = 0

    @property
    def has_only_crlf(self) -> bool:
        """True where no line end seen so far was rewritten."""
        return self._decoder.newlines in ONLY_CRLF

    def __iter__(self) -> Iterator[bytes]:
        held = b""  # the last piece, to which the end of its line may have to be added
        for piece in self._pieces:
            self.raw_size += len(piece)
            if rewritten := self._rewrite(str(piece, "latin-1")):
                if held:
                    yield held
                held = rewritten
        held += self._rewrite("", final=True)
        if held and not held.endswith(b"\n"):
            held += b"\r\n"
        if held:
            yield held

    def _rewrite(self, text: str, final: bool = False) -> bytes:
        return self._decoder.decode(text, final).encode("latin-1").replace(b"\n", b"\r\n")


def stuffed(pieces: Iterable[Octets]) -> Iterator[Octets]:
    """Double each dot that begins a line (RFC 5321 4.5.2); a piece without one goes as it is."""
    starts_line = True
    for piece in pieces:
        plain = bytes(piece)
        dotted = plain.replace(b"\n.", b"\n..") if has_inner_dot_line(plain) else plain
        if starts_line and plain.startswith(b"."):
            dotted = b"." + dotted
        yield piece if dotted is plain else dotted
        starts_line = plain.endswith(b"\n")


def exactly(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Raise ``InputError`` before the last piece where the pieces do not add up to ``size``.

    A file that grew or shrank after SIZE was announced (RFC 1870 6.2) must not
    end up delivered by halves.
    """
    held = b""
    seen = 0
    for piece in pieces:
        seen += len(piece)
        if seen > size:
            break
        if held:
            yield held
        held = piece
    if seen != size:
        raise InputError(f"the content changed: it is not of {size} octets any more")
    if held:
        yield held


def checked(pieces: Iterable[bytes], **allowed: bool) -> Iterator[bytes]:
    """Raise as ``check_traits`` does, before the piece that is at fault."""
    found = _RunningTraits()
    for piece in pieces:
        found.add(piece)
        check_traits(found, **allowed)
        yield piece


def check_traits(
    found: Measure | _RunningTraits,
    *,
    allow_8bit: bool = True,
    allow_long_lines: bool = True,
    allow_nul: bool = True,
) -> None:
    """Refuse what the transfer cannot carry.

    Raises ``NotSupportedError`` that names 8BITMIME (RFC 6152) for 8-bit
    content, and BINARYMIME (RFC 3030) for a line over 998 octets or a NUL.
    """
    if found.is_8bit and not allow_8bit:
        raise NotSupportedError(
            "the content is 8-bit and the server does not offer 8BITMIME (RFC 6152)", keyword="8BITMIME"
        )
    if found.has_long_line and not allow_long_lines:
        raise NotSupportedError(
            f"the content has a line of over {MAX_TEXT_LINE} octets (RFC 5322 2.1.1), "
            "which only BINARYMIME can carry (RFC 3030)",
            keyword="BINARYMIME",
        )
    if found.has_nul and not allow_nul:
        raise NotSupportedError(
            "the content has a NUL octet, which only BINARYMIME can carry (RFC 3030)", keyword="BINARYMIME"
        )


class Measure(NamedTuple):
    """What one pass over the content found. A tuple: one is made for every message."""

    size: int
    """Octets with CRLF line ends, the last one added where missing, before dot-stuffing (RFC 1870 5)."""
    raw_size: int
    """Octets as they stand, for BODY=BINARYMIME."""
    is_8bit: bool
    has_long_line: bool
    """A line is over 998 octets without CRLF (RFC 5322 2.1.1)."""
    has_nul: bool
    has_utf8_headers: bool
    """A header field has UTF-8 beyond ASCII, which needs SMTPUTF8 (RFC 6532 3.2)."""
    canonical: bool
    """Every line end is CRLF already, and the content ends in one (or is empty)."""
    is_plain: bool
    """Any server takes it by DATA: 7-bit lines of at most 998 octets without NUL (RFC 5321 2.3.8)."""


def measure_pieces(pieces: Iterable[Octets]) -> Measure:
    """Measure in bounded memory."""
    lines = CanonicalLines(pieces)
    found = _RunningTraits()
    headers = HeaderSection()
    for piece in lines:
        found.add(piece)
        headers.add(piece)
    return Measure(
        size=found.size,
        raw_size=lines.raw_size,
        is_8bit=found.is_8bit,
        has_long_line=found.has_long_line,
        has_nul=found.has_nul,
        has_utf8_headers=headers.is_utf8,
        canonical=lines.has_only_crlf and found.size == lines.raw_size,
        is_plain=not (found.is_8bit or found.has_long_line or found.has_nul),
    )


class _RunningTraits:
    """The traits of canonical pieces, so far."""

    __slots__ = ("_open", "has_long_line", "has_nul", "is_8bit", "size")

    def __init__(self) -> None:
        self.size = 0
        self.is_8bit = self.has_long_line = self.has_nul = False
        self._open = 0  # octets of the line that has not ended yet

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        self.is_8bit = self.is_8bit or not piece.isascii()
        self.has_nul = self.has_nul or NUL in piece
        self.has_long_line = self.has_long_line or has_long_line(piece, self._open)
        ended = piece.rfind(b"\n") + 1
        self._open = len(piece) - ended if ended else self._open + len(piece)


class HeaderSection:
    """The header fields, up to the first empty line, of canonical pieces."""

    __slots__ = ("_decoder", "_is_ascii", "_is_valid", "_seam", "ended")

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")()
        self._is_ascii = self._is_valid = True
        self._seam = b"\r\n"  # what comes before the next piece: an empty line may begin there
        self.ended = False

    @property
    def is_utf8(self) -> bool:
        """True for UTF-8 beyond ASCII; octets in another charset are not helped by SMTPUTF8."""
        return self._is_valid and not self._is_ascii

    def add(self, piece: bytes) -> None:
        """Judge what of a piece belongs to them."""
        if self.ended:
            return
        joined = self._seam + piece
        end = joined.find(b"\r\n\r\n")
        self.ended = end >= 0
        self._judge(joined[len(self._seam) : max(end, len(self._seam)) if self.ended else None])
        self._seam = joined[-2:]

    def _judge(self, fields: bytes) -> None:
        self._is_ascii = self._is_ascii and fields.isascii()
        try:
            self._decoder.decode(fields, self.ended)
        except UnicodeDecodeError:
            self._is_valid = False
            self.ended = True


def has_inner_dot_line(piece: bytes) -> bool:
    """Whether a line begins with a dot, the first one left out."""
    # One octet is sought ten times as fast as two, and base64 has no dots; for
    # two, re needs half the time of bytes.find.
    return DOT in piece and _DOT_LINE.search(piece) is not None


def has_long_line(piece: bytes, opened: int) -> bool:
    """Leap to the last line end within reach of a line's limit, as long as there is one.

    ``opened`` octets of the first line came before this piece.
    """
    start, end, reach = 0, len(piece), max(MAX_TEXT_LINE - opened, -2)
    while end - start > reach:
        start = piece.rfind(b"\n", start, start + reach + 2) + 1
        if not start:
            return True
        reach = MAX_TEXT_LINE
    return False

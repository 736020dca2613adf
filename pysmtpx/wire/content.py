"""The content of a mail object: bytes, a buffer, a file or chunks (RFC 5321 2.3.9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message
from io import IncrementalNewlineDecoder, TextIOBase
from typing import Any, BinaryIO, Final

from ..errors import InputError
from .limits import MAX_TEXT_LINE, SLICE
from .lines import (
    DOT,
    NUL,
    ONLY_CRLF,
    PIECE,
    CanonicalLines,
    HeaderSection,
    Measure,
    Octets,
    check_traits,
    checked,
    cut,
    exactly,
    has_inner_dot_line,
    has_long_line,
    measure_pieces,
    slices,
    stuffed,
)

__all__ = ["Content", "File", "Measure", "Octets", "Unwritten", "slices"]


_SHORT: Final = 4096
"""Octets of content that are looked through for dots at once, and not while the server thinks."""


class Content:
    """The octets of one message, headers and all; made by ``Content.of``.

    What can be read only once has no ``measure`` and is not ``replayable``. A
    file belongs to its content until it is sent. Nothing here writes the end of
    data.
    """

    __slots__ = ()

    replayable: bool
    plain: bytes | None = None
    """All of it, where it is known to go by DATA or BDAT just as it stands, in one slice, to any server."""
    resident: int = 0
    """Octets that it keeps in memory itself; 0 for what is read when it is sent."""

    @classmethod
    def of(
        cls,
        source: bytes | bytearray | memoryview | BinaryIO | Iterable[bytes] | Message[Any, Any] | Content,
    ) -> Content:
        """Wrap bytes, a buffer, a binary file (from where it stands), chunks of bytes or an email message.

        Raises ``InputError`` for text, a text file or any other type.
        """
        if type(source) is bytes:
            return _Memory(source)
        if isinstance(source, Content):
            return source
        if isinstance(source, bytes):
            return _Memory(bytes(source))
        if isinstance(source, Message):
            return Unwritten(source)
        return _streamed(source)

    @property
    def measure(self) -> Measure | None:
        """Sizes in octets and traits, from one pass at the first use; None for a one-shot source."""
        raise NotImplementedError

    def check_unspent(self) -> None:
        """Raise ``InputError`` where the content can be read only once, and was."""

    def frozen(self) -> Content:
        """Content whose octets the caller can no longer change: a copy of a mutable buffer, else itself.

        A file or chunks are read when they are sent.
        """
        return self

    def prepare(self) -> None:
        """Do now, while the server thinks, what ``for_data`` would do later."""

    def for_data(
        self, *, allow_8bit: bool = True, allow_long_lines: bool = True, allow_nul: bool = True
    ) -> Iterator[Octets]:
        """Slices for DATA: CRLF line ends, dot-stuffed (RFC 5321 4.5.2), ending in CRLF unless empty.

        Each has at most ``SLICE`` octets. Raises what ``check_traits`` raises
        before the slice at fault, and ``InputError`` before the last slice
        where the size is no longer the measured one. If slices were sent by
        then, closing the connection is the only way not to deliver them.
        """
        raise NotImplementedError

    def for_bdat(
        self,
        *,
        binary: bool = False,
        allow_8bit: bool = True,
        allow_long_lines: bool = True,
        allow_nul: bool = True,
    ) -> Iterator[Octets]:
        """Slices for BDAT: like ``for_data``, not stuffed (RFC 3030 2).

        With ``binary`` (BODY=BINARYMIME, RFC 3030 3) every octet stays as it
        is, and everything is allowed.
        """
        raise NotImplementedError


class Unwritten(Content):
    """An ``email`` message: its octets depend on the server, and ``message.written`` makes them."""

    __slots__ = ("message",)

    replayable = True

    def __init__(self, message: Message[Any, Any]) -> None:
        self.message: Message[Any, Any] = message


class _Memory(Content):
    """Immutable octets: what was measured is what goes out, so the measure may skip work."""

    __slots__ = ("_data", "_measure", "_needs_stuffing", "plain", "resident")

    replayable = True

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._measure: Measure | None = None
        self._needs_stuffing: bool | None = None
        self.plain: bytes | None = None
        self.resident: int = len(data)

    def prepare(self) -> None:
        measure = self._measure
        if self._needs_stuffing is None and measure is not None and measure.size <= SLICE:
            data = self._data
            self._needs_stuffing = data[:1] == b"." or (DOT in data and has_inner_dot_line(data))
            if measure.is_plain and measure.canonical and not self._needs_stuffing:
                self.plain = data

    @property
    def measure(self) -> Measure:
        global _latest
        measure = self._measure
        if measure is not None:
            return measure
        alike = _latest
        if alike._data is self._data and alike._measure is not None:
            self._needs_stuffing, self.plain = alike._needs_stuffing, alike.plain
            self._measure = measure = alike._measure
            return measure
        self._measure = measure = measure_bytes(self._data)
        if measure.size <= _SHORT:
            self.prepare()
        if measure.raw_size <= SLICE:
            _latest = self
        return measure

    def for_data(self, **allowed: bool) -> Iterator[Octets]:
        measure = self.measure
        if not measure.is_plain:
            check_traits(measure, **allowed)
        if not measure.canonical:
            return cut(stuffed(self._lines()))
        self.prepare()
        if self._needs_stuffing is False:
            return slices(self._data)
        # Each piece is looked through while the server takes the one before.
        return cut(stuffed(slices(self._data, PIECE)))

    def for_bdat(self, *, binary: bool = False, **allowed: bool) -> Iterator[Octets]:
        if binary:
            return slices(self._data)
        check_traits(self.measure, **allowed)
        return slices(self._data) if self.measure.canonical else cut(self._lines())

    def _lines(self) -> CanonicalLines:
        return CanonicalLines(slices(self._data, PIECE))


_latest = _Memory(b"")
"""What was looked through last: who sends one message to many gives the same object for each of them.

Only what is no longer than a slice, since it is kept until there is another.
"""


def measure_bytes(data: bytes) -> Measure:
    """Measure octets in memory; canonical ones without rewriting them."""
    size = len(data)
    if not _is_canonical(data, size):
        return measure_pieces(slices(data, PIECE))
    is_8bit = not data.isascii()
    is_utf8 = is_8bit and _has_utf8_headers(data)
    is_long = size > MAX_TEXT_LINE and has_long_line(data, 0)
    has_nul = NUL in data
    return Measure(size, size, is_8bit, is_long, has_nul, is_utf8, True, not (is_8bit or is_long or has_nul))


def _has_utf8_headers(data: bytes) -> bool:
    headers = HeaderSection()
    for piece in slices(data):
        headers.add(bytes(piece))
        if headers.ended:
            break
    return headers.is_utf8


def _is_canonical(data: bytes, size: int) -> bool:
    if data and data[-2:] != b"\r\n":
        return False
    judge = IncrementalNewlineDecoder(None, translate=False)
    for piece in (data,) if size <= SLICE else slices(data):
        judge.decode(str(piece, "latin-1"))
        if judge.newlines not in ONLY_CRLF:
            return False
    return True


class _Stream(Content):
    """Octets that may change after they were measured.

    Traits measured before must not decide what is rewritten or stuffed: another
    thread could put an end of data into a buffer in between.
    """

    __slots__ = ("_measure", "_source", "_spent", "replayable")

    def __init__(self, source: Iterable[bytes], *, replayable: bool) -> None:
        self.replayable = replayable
        self._source = source
        self._spent = False
        self._measure: Measure | None = None

    @property
    def measure(self) -> Measure | None:
        if self._measure is None and self.replayable:
            self._measure = measure_pieces(self._source)
        return self._measure

    def frozen(self) -> Content:
        return _Memory(b"".join(self._source)) if isinstance(self._source, _Buffer) else self

    def for_data(self, **allowed: bool) -> Iterator[Octets]:
        return cut(stuffed(self._lines(**allowed)))

    def for_bdat(self, *, binary: bool = False, **allowed: bool) -> Iterator[Octets]:
        if not binary:
            return cut(self._lines(**allowed))
        return cut(exactly(self._read(), self._measure.raw_size) if self._measure else self._read())

    def _lines(self, **allowed: bool) -> Iterable[bytes]:
        lines: Iterable[bytes] = CanonicalLines(self._read())
        if self._measure is not None:
            lines = exactly(lines, self._measure.size)
        return checked(lines, **allowed) if False in allowed.values() else lines

    def check_unspent(self) -> None:
        if self._spent and not self.replayable:
            raise InputError("this content can be read only once, and was")

    def _read(self) -> Iterable[bytes]:
        self.check_unspent()
        self._spent = True
        return self._source


class _Buffer:
    """A mutable buffer, held only while a piece of it is copied."""

    __slots__ = ("_buffer",)

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        while piece := self._copy(start):
            yield piece
            start += len(piece)

    def _copy(self, start: int) -> bytes:
        with memoryview(self._buffer) as view, view.cast("B") as flat:
            return flat[start : start + PIECE].tobytes()


class File:
    """A binary file from where it stands."""

    __slots__ = ("_file", "_start", "replayable")

    def __init__(self, file: Any) -> None:
        seekable = getattr(file, "seekable", None)  # some objects have no more than ``read``
        self._file = file
        self.replayable: bool = seekable is not None and bool(seekable())
        self._start = file.tell() if self.replayable else None

    def __iter__(self) -> Iterator[bytes]:
        if self._start is not None:
            self._file.seek(self._start)
        while piece := _octets(self._file.read(PIECE)):
            yield bytes(piece)


class _Chunks:
    """Chunks of any size, regrouped: one of a few octets must not become a write of its own."""

    __slots__ = ("_chunks",)

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        pending = bytearray()
        for chunk in self._chunks:
            for piece in slices(_octets(chunk), PIECE):
                if pending and len(pending) + len(piece) > PIECE:
                    yield bytes(pending)
                    pending.clear()
                pending += piece
        if pending:
            yield bytes(pending)


def _streamed(source: Any) -> Content:
    if isinstance(source, str | TextIOBase):
        raise InputError("content must be octets, not text: encode it, or open the file in binary mode")
    if _is_buffer(source):
        return _Stream(_Buffer(source), replayable=True)
    if hasattr(source, "read"):
        file = File(source)
        return _Stream(file if file.replayable else _Chunks(file), replayable=file.replayable)
    if isinstance(source, Iterable):
        return _Stream(_Chunks(source), replayable=not isinstance(source, Iterator))
    raise InputError(f"content must be bytes, a buffer, a binary file or chunks, not {_kind(source)}")


def _is_buffer(source: object) -> bool:
    try:
        with memoryview(source) as view:  # type: ignore[arg-type]
            contiguous = view.c_contiguous
    except TypeError:
        return False
    if not contiguous:
        raise InputError("content must be a contiguous buffer")
    return True


def _octets(chunk: object) -> Octets:
    """The chunk, where it is octets; a non-blocking file that has none yet gives None, and is refused."""
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        return memoryview(chunk).cast("B")
    raise InputError(f"content must come in octets, not in {_kind(chunk)}")


def _kind(value: object) -> str:
    return type(value).__name__

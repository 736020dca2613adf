"""The content of a message: octets in, verdicts on their form out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Breach = Callable[[str], None]

_END: Final = b"\r\n.\r\n"


class ContentJudge:
    """Judges content line by line and keeps it; slices change nothing.

    Each kind of breach is told once, when the content ends or is abandoned.
    """

    def __init__(
        self,
        breach: Breach,
        *,
        keep: bool,
        binary: bool,
        stuffed: bool,
        line_limit: int | None,
        any_line_end: bool = False,
        most: int = 0,
    ) -> None:
        self.size: int = 0
        """Octets after unstuffing."""
        self.wire_size: int = 0
        self.header_is_8bit: bool = False
        self.body_is_8bit: bool = False
        self._chunks: list[bytes] = []
        self._breach = breach
        self._found: set[str] = set()
        self._keep = keep
        self._most = most
        """Octets beyond which nothing is kept: it will be refused. 0 is no limit."""
        self._binary = binary
        self._stuffed = stuffed
        self._line_limit = line_limit
        self._any_line_end = any_line_end
        self._partial = bytearray()
        self._in_header = not binary

    def feed(self, octets: bytes) -> None:
        """Take octets in any slices (BDAT)."""
        self.wire_size += len(octets)
        if self._binary:
            self._store(octets)
            self._note_8bit(octets)
            return
        searched = max(0, len(self._partial) - 1)
        self._partial += octets
        end = self._partial.rfind(b"\r\n", searched) + 2
        if end >= 2:
            self._take_lines(bytes(memoryview(self._partial)[:end]))
            del self._partial[:end]

    def feed_lines(self, octets: bytes) -> None:
        """Take whole lines."""
        self.wire_size += len(octets)
        self._take_lines(octets)

    def finish(self) -> bytes:
        """The last octets are in: judge a last line without end, and return the content."""
        if self._partial:
            self._take_lines(bytes(self._partial))
            self._partial.clear()
        self.abandon()
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def abandon(self) -> None:
        """Nothing more will come: tell what was found so far."""
        for text in sorted(self._found):
            self._breach(text)
        self._found.clear()

    def _take_lines(self, lines: bytes) -> None:
        if not self._any_line_end:
            self._judge_line_ends(lines)
        if self._stuffed:
            lines = self._unstuff(lines)
        self._judge_lengths(lines)
        self._note_8bit(lines)
        self._store(lines)

    def _store(self, octets: bytes) -> None:
        self.size += len(octets)
        if self._most and self.size > self._most:
            self._chunks.clear()
        elif self._keep:
            self._chunks.append(octets)

    def _judge_line_ends(self, lines: bytes) -> None:
        ends = lines.count(b"\r\n")
        if lines.count(b"\r") != ends:
            self._found.add("content has a bare CR (RFC 5321 2.3.8)")
        if lines.count(b"\n") != ends:
            self._found.add("content has a bare LF (RFC 5321 2.3.8)")

    def _unstuff(self, lines: bytes) -> bytes:
        if not lines.startswith(b".") and b"\r\n." not in lines:
            return lines
        stuffed = lines.count(b"\r\n..") + lines.startswith(b"..")
        if stuffed != lines.count(b"\r\n.") + lines.startswith(b"."):
            self._found.add("a content line begins with a dot that is not doubled (RFC 5321 4.5.2)")
        lines = lines.replace(b"\r\n.", b"\r\n")
        return lines[1:] if lines.startswith(b".") else lines

    def _judge_lengths(self, lines: bytes) -> None:
        limit = self._line_limit
        if limit is not None and len(lines) > limit and max(map(len, lines.split(b"\r\n"))) > limit:
            self._found.add(f"a content line is longer than {limit} octets (RFC 5322 2.1.1)")

    def _note_8bit(self, octets: bytes) -> None:
        if octets.isascii() and not self._in_header:
            return
        header = b""
        if self._in_header:
            end = 0 if octets.startswith(b"\r\n") else octets.find(b"\r\n\r\n")
            header, octets = (octets, b"") if end < 0 else (octets[:end], octets[end:])
            self._in_header = end < 0
        self.header_is_8bit = self.header_is_8bit or not header.isascii()
        self.body_is_8bit = self.body_is_8bit or not octets.isascii()


class DataReader:
    """Finds the end of data in what follows 354, in time linear in its length."""

    def __init__(self, judge: ContentJudge) -> None:
        self._judge = judge
        self._searched = 0

    def read(self, buffer: bytearray) -> bool:
        """Take whole lines out of ``buffer``; True once the end of data was among them."""
        if buffer.startswith(b".\r\n"):
            del buffer[:3]
            return True
        start = max(0, self._searched - len(_END) + 1)
        end = buffer.find(_END, start)
        lines = end + 2 if end >= 0 else buffer.rfind(b"\r\n", start) + 2
        if lines < 2:
            self._searched = len(buffer)
            return False
        self._judge.feed_lines(bytes(memoryview(buffer)[:lines]))
        del buffer[: lines + 3 if end >= 0 else lines]
        self._searched = 0
        return end >= 0

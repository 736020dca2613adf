"""Octets in, replies out: the incremental parser of RFC 5321 4.2."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ..errors import ProtocolError
from .limits import MAX_BACKLOG, MAX_REPLY, MAX_REPLY_LINE, MAX_REPLY_LINES
from .reply import EnhancedCode, Reply

# Digits are matched as octets: int() would take "2_5", "+25" and Arabic-Indic ones.
_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_HEAD: Final = re.compile(rb"[2-5][0-9][0-9][ -]")
_HEAD_SIZE: Final = 5
"""Octets that tell whether a line without an end can still become a reply, and what else it is."""
_ENHANCED: Final = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![^ \t])")

_CACHED: Final = 128
"""Octets of a line that may be remembered: a hostile server fills no more than 32 KiB."""

_WRONG_SERVER: Final = (
    (b"HTTP/", "this is an HTTP server: wrong port?"),
    (b"SSH-", "this is an SSH server: wrong port?"),
    (b"\x15\x03", "the server speaks TLS from the first octet: implicit TLS is needed here"),
    (b"\x16\x03", "the server speaks TLS from the first octet: implicit TLS is needed here"),
    (b"+OK", "this is a POP3 server: wrong port?"),
    (b"* OK", "this is an IMAP server: wrong port?"),
)


class ReplyParser:
    """Turns what one stream receives into replies; it lives and dies with that stream.

    The result is the same however the octets are cut up: the same replies, then
    the same ``ProtocolError``. A line ends at LF, with or without a CR before
    it; no other octet ends a line. After the first breach of the protocol every
    further call raises again, for a parser that skips a line pairs each later
    reply with the wrong command.
    """

    __slots__ = ("_breach", "_buffer", "_code", "_lines", "_octets", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # octets of the buffer known to hold no LF
        self._code = b""
        self._lines: list[bytes] = []  # the texts of a reply whose last line is still to come
        self._octets = 0
        self._breach = ""

    @property
    def has_input(self) -> bool:
        """True where octets were received that no reply handed out yet accounts for."""
        return bool(self._buffer or self._lines or self._breach)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take what was received.

        Raises ``ProtocolError`` where more than ``MAX_BACKLOG`` octets nobody
        asked for are waiting. The replies before are still handed out.
        """
        if len(self._buffer) + len(data) > MAX_BACKLOG:
            self._breach = f"the server sent more than {MAX_BACKLOG} octets that no command asked for"
        if self._breach:
            raise ProtocolError(self._breach)
        self._buffer += data

    def next(self) -> Reply | None:
        """The next whole reply, or None where more octets are needed.

        Raises ``ProtocolError`` for anything that is not a reply of RFC 5321
        4.2, or over ``MAX_REPLY_LINE``, ``MAX_REPLY`` or ``MAX_REPLY_LINES``.
        """
        buffer = self._buffer
        while (end := buffer.find(b"\n", self._scanned, MAX_REPLY_LINE)) >= 0:
            line = bytes(buffer[:end]).removesuffix(b"\r")
            del buffer[: end + 1]
            self._scanned = 0
            reply = _single(line) if end <= _CACHED and not self._lines else None
            if reply is None:
                reply = self._take(line, end + 1)
            if reply is not None:
                return reply
        self._wait()
        return None

    def _take(self, line: bytes, octets: int) -> Reply | None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise self._not_a_reply(line)
        code, separator, text = match.groups(b"")
        if separator != b"-" and not self._lines:
            return _reply(code, (text,))
        self._add(code, text, octets)
        if separator == b"-":
            return None
        lines, self._lines, self._octets = self._lines, [], 0
        return _reply(code, tuple(lines))

    def _add(self, code: bytes, text: bytes, octets: int) -> None:
        if not self._lines:
            self._code = code
        elif code != self._code:
            # RFC 5321 4.2.1: nobody can say which of the two codes is meant.
            raise self._break(f"the codes {_shown(self._code)} and {_shown(code)} stand in one reply")
        self._lines.append(text)
        self._octets += octets
        if len(self._lines) > MAX_REPLY_LINES or self._octets > MAX_REPLY:
            raise self._break(f"a reply is over {MAX_REPLY_LINES} lines or {MAX_REPLY} octets")

    def _wait(self) -> None:
        """Refuse now what no further octet can make a reply: a TLS alert never ends in LF."""
        if self._breach:
            raise ProtocolError(self._breach)
        buffer = self._buffer
        if len(buffer) >= _HEAD_SIZE and not _HEAD.match(buffer):
            raise self._not_a_reply(bytes(buffer[:_HEAD_SIZE]))
        if len(buffer) >= MAX_REPLY_LINE:
            raise self._break(f"a reply line is over {MAX_REPLY_LINE} octets")
        self._scanned = len(buffer)

    def _not_a_reply(self, line: bytes) -> ProtocolError:
        head = line[:_HEAD_SIZE].rstrip(b"\r")
        hint = next((text for start, text in _WRONG_SERVER if head.startswith(start)), "")
        return self._break(f"not a reply: {_shown(head)}" + (f"; {hint}" if hint else ""))

    def _break(self, text: str) -> ProtocolError:
        self._breach = text
        self._buffer.clear()
        return ProtocolError(text)


@lru_cache(maxsize=256)
def _single(line: bytes) -> Reply | None:
    """The reply of one line; None for any other line. A server says the same few all day."""
    match = _LINE.fullmatch(line)
    if match is None or match[2] == b"-":
        return None
    return _reply(match[1], (match[3] or b"",))


def _reply(code: bytes, lines: tuple[bytes, ...]) -> Reply:
    return Reply(int(code), lines, _enhanced(code, lines[0]))


def _enhanced(code: bytes, text: bytes) -> EnhancedCode | None:
    """The enhanced code at the start of the text, unless it contradicts the code (RFC 2034 4)."""
    match = _ENHANCED.match(text)
    if match is None or text[0] != code[0]:
        return None
    return _enhanced_code(match[1])


@lru_cache(maxsize=512)
def _enhanced_code(text: bytes) -> EnhancedCode:
    return EnhancedCode(*map(int, text.split(b".")))


def _shown(octets: bytes) -> str:
    return ascii(octets)[1:]

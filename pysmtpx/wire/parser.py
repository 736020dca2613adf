"""Octets in, replies out: the incremental parser of RFC 5321 4.2."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ..errors import ProtocolError
from .limits import MAX_BACKLOG, MAX_REPLY, MAX_REPLY_LINE, MAX_REPLY_LINES
from .reply import EnhancedCode, Reply

# Digits are matched as octets: int() would take "2_5", "+25" and Arabic-Indic ones.
_LINE: Final = re.compile(
    rb"([2-5][0-9][0-9])(?:([ -])((?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![^ \t]))?.*))?", re.DOTALL
)
"""Code, separator, text, and the enhanced code with which the text begins."""
_SEVERAL: Final = re.compile(rb"([2-5][0-9][0-9])-[^\n]*\n(?:\1-[^\n]*\n)*\1(?: [^\n]*|\r)?\n")
"""A whole reply of several lines that bear the same code."""
_HEAD: Final = re.compile(rb"[2-5][0-9][0-9][ -]")
_HEAD_SIZE: Final = 5
"""Octets that tell whether a line without an end can still become a reply, and what else it is."""

_CACHED: Final = 128
"""Octets of a line that ``ReplyParser`` may remember."""
REMEMBERED: Final = 512
"""The same of several replies that come together: a hostile server fills no more than 256 KiB."""
_CACHED_LINES: Final = 1024
"""The same of a reply of several lines, of which fewer are remembered."""

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

    __slots__ = (
        "_at",
        "_breach",
        "_code",
        "_data",
        "_lines",
        "_more",
        "_octets",
        "_ready",
        "_size",
        "_status",
        "has_input",
    )

    def __init__(self) -> None:
        self._data = b""
        self._size = 0
        self._at = 0  # where in it the line begins that comes next
        self._more = bytearray()  # what came while octets of ``_data`` were still waiting
        self._code = b""
        self._status: bytes | None = None  # the enhanced code of its first line
        self._lines: list[bytes] = []  # the texts of a reply whose last line is still to come
        self._octets = 0
        self._breach = ""
        self._ready: tuple[Reply, ...] = ()  # what comes before any octets that are kept
        self.has_input: bool = False
        """True where octets were received that no reply handed out yet accounts for."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take what was received.

        Raises ``ProtocolError`` where more than ``MAX_BACKLOG`` octets nobody
        asked for are waiting. The replies before are still handed out.
        """
        waiting = self._size - self._at + len(self._more)
        if waiting + len(data) > MAX_BACKLOG:
            self._breach = f"the server sent more than {MAX_BACKLOG} octets that no command asked for"
            self.has_input = True
        if self._breach:
            raise ProtocolError(self._breach)
        if waiting:
            self._more += data
        else:
            self._hold(bytes(data))
            self.has_input = self.has_input or bool(data)

    def _hold(self, data: bytes) -> None:
        self._data, self._size, self._at = data, len(data), 0

    def keep(self, replies: tuple[Reply, ...]) -> None:
        """Take replies that ``replies_in`` found in what was received, while it has no input."""
        self._ready, self.has_input = replies, bool(replies)

    def take(self, count: int, last: bool) -> tuple[Reply, ...]:
        """The next replies that are there, ``count`` at most; none where more octets are needed.

        If these are the ``last`` that are owed and something is behind them, one at a time,
        as otherwise may be, too. Raises as ``next``.
        """
        ready = self._ready
        if not ready:
            reply = self.next()
            return () if reply is None else (reply,)
        is_behind = self._at < self._size or bool(self._more or self._breach)
        if last and (is_behind or ready[count:]):
            count = 1
        self._ready = ready[count:]
        self.has_input = is_behind or bool(self._ready)
        return ready[:count]

    def next(self) -> Reply | None:
        """The next whole reply, or None where more octets are needed.

        Raises ``ProtocolError`` for anything that is not a reply of RFC 5321
        4.2, or over ``MAX_REPLY_LINE``, ``MAX_REPLY`` or ``MAX_REPLY_LINES``.
        """
        if self._ready:
            return self.take(1, last=False)[0]
        while True:
            data, start = self._data, self._at
            end = data.find(b"\n", start, start + MAX_REPLY_LINE)
            if end >= 0:
                self._at = end + 1
                line = data[start:end]
                reply = None
                if not self._lines and end - start <= _CACHED:
                    reply = _single(line) if line[3:4] != b"-" else self._known(start)
                if reply is not None or (reply := self._take(line)) is not None:
                    self.has_input = self._at < self._size or bool(self._more or self._breach)
                    return reply
            elif self._more and self._size - start < MAX_REPLY_LINE:
                self._hold(b"".join((data[start:], self._more)))
                self._more.clear()
            else:
                if start < self._size or self._breach:
                    self._wait()
                return None

    def _known(self, start: int) -> Reply | None:
        """The reply of several lines that begins here, where it is short, and all of it is there."""
        whole = _SEVERAL.match(self._data, start)
        if whole is None or len(whole[0]) > _CACHED_LINES:
            return None
        self._at = whole.end()
        return _several(whole[0])

    def _take(self, line: bytes) -> Reply | None:
        match = _LINE.fullmatch(line.removesuffix(b"\r"))
        if match is None:
            raise self._not_a_reply(line)
        code, separator, text, status = match.groups()
        if separator != b"-" and not self._lines:
            return _reply(code, (text or b"",), status)
        self._add(code, text or b"", status, len(line) + 1)
        if separator == b"-":
            return None
        lines, self._lines, self._octets = self._lines, [], 0
        return _reply(code, tuple(lines), self._status)

    def _add(self, code: bytes, text: bytes, status: bytes | None, octets: int) -> None:
        if not self._lines:
            self._code, self._status = code, status
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
        data, start = self._data, self._at
        octets = self._size - start
        if octets >= _HEAD_SIZE and not _HEAD.match(data, start):
            raise self._not_a_reply(data[start : start + _HEAD_SIZE])
        if octets >= MAX_REPLY_LINE:
            raise self._break(f"a reply line is over {MAX_REPLY_LINE} octets")

    def _not_a_reply(self, line: bytes) -> ProtocolError:
        head = line[:_HEAD_SIZE].rstrip(b"\r")
        hint = next((text for start, text in _WRONG_SERVER if head.startswith(start)), "")
        return self._break(f"not a reply: {_shown(head)}" + (f"; {hint}" if hint else ""))

    def _break(self, text: str) -> ProtocolError:
        self._breach, self.has_input = text, True
        self._hold(b"")
        self._more.clear()
        return ProtocolError(text)


@lru_cache(maxsize=256)
def replies_in(octets: bytes) -> tuple[Reply, ...] | None:
    """What ``ReplyParser`` makes of octets that are whole replies of a line each; None for any other.

    Also of one reply of several lines, as that to EHLO is, which comes alone. For no more than
    ``REMEMBERED`` octets. A server says the same few groups of replies all day.
    """
    if octets[3:4] == b"-":
        return (_several(octets),) if _SEVERAL.fullmatch(octets) else None
    *lines, rest = octets.split(b"\n")
    if rest:
        return None  # the last is still to come
    replies = tuple(map(_single, lines))
    return replies if all(replies) else None  # type: ignore[return-value]  # none of them is None


@lru_cache(maxsize=256)
def _single(line: bytes) -> Reply | None:
    """The reply of one line; None for any other line. A server says the same few all day."""
    match = _LINE.fullmatch(line[:-1] if line[-1:] == b"\r" else line)
    if match is None or match[2] == b"-":
        return None
    return _reply(match[1], (match[3] or b"",), match[4])


@lru_cache(maxsize=32)
def _several(octets: bytes) -> Reply:
    """The reply of several lines, of which each is known to be one."""
    lines = [_LINE.fullmatch(line.removesuffix(b"\r")) for line in octets[:-1].split(b"\n")]
    first, *_ = found = [line for line in lines if line is not None]
    return _reply(first[1], tuple(line[3] or b"" for line in found), first[4])


def _reply(code: bytes, lines: tuple[bytes, ...], status: bytes | None) -> Reply:
    """A reply, with its enhanced code unless that contradicts the code (RFC 2034 4)."""
    enhanced = None if status is None or status[0] != code[0] else _enhanced_code(status)
    return Reply(int(code), lines, enhanced)


@lru_cache(maxsize=512)
def _enhanced_code(text: bytes) -> EnhancedCode:
    return EnhancedCode(*map(int, text.split(b".")))


def _shown(octets: bytes) -> str:
    return ascii(octets)[1:]

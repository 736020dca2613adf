"""Reads back what a real server delivered."""

from __future__ import annotations

import re
from pathlib import Path

from support.daemon import wait_until

DELIVERY_LIMIT = 30.0
"""Seconds from the server's acceptance to the mailbox."""

_FIELDS = rb"Return-Path|Delivered-To|X-Original-To|Received|Received-SPF|X-Cyrus-Session-Id|X-Sieve"
_TRACE = re.compile(rb"(?:(?:" + _FIELDS + rb"):[^\n]*\n(?:[ \t][^\n]*\n)*)*", re.I)


class Maildir:
    """One user's Maildir; `take` empties it, so that each test sees only its own mail."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _files(self) -> list[Path]:
        return sorted(path for folder in ("new", "cur") for path in (self.path / folder).glob("*"))

    def take(self, count: int = 1, *, limit: float = DELIVERY_LIMIT) -> list[bytes]:
        """Wait for ``count`` messages, remove and return them as stored, oldest first."""
        wait_until(lambda: len(self._files()) >= count, limit, f"{count} messages in {self.path}")
        files = sorted(self._files(), key=lambda path: path.stat().st_mtime_ns)
        return [_removed(path) for path in files]

    def is_empty(self) -> bool:
        """Return whether no message is there now."""
        return not self._files()

    def clear(self) -> None:
        """Remove every message."""
        for path in self._files():
            path.unlink()


def _removed(path: Path) -> bytes:
    stored = path.read_bytes()
    path.unlink()
    return stored


def trace(stored: bytes) -> bytes:
    """Return the fields that the server put before the message (RFC 5321 4.4)."""
    match = _TRACE.match(stored)
    return match.group() if match else b""


def behind_trace(stored: bytes) -> bytes:
    """Return the message behind the server's trace fields, with the line ends that it travelled with."""
    content = stored[len(trace(stored)) :]
    assert b"\r" not in content
    return content.replace(b"\n", b"\r\n")

"""What debug output may show: every line but those that log in."""

from __future__ import annotations

from typing import Final

HIDDEN: Final = "***"


def begins_auth(line: str | bytes) -> bool:
    """Whether a line, or what is written at once, begins with AUTH (RFC 4954)."""
    head = line[:5].upper()
    return head in ("AUTH ", b"AUTH ", "AUTH", b"AUTH")


def shown(line: str | bytes) -> str:
    """A line that logs in, without what does it: ``AUTH PLAIN ***``."""
    text = line if isinstance(line, str) else line.decode("latin-1")
    words = text.split()
    return f"{words[0]} {words[1]} {HIDDEN}" if begins_auth(line) and len(words) > 1 else HIDDEN

"""What debug output and events of ``sys.audit`` may show: every line but those that log in."""

from __future__ import annotations

from typing import Final

HIDDEN: Final = "***"


def begins_auth(line: str | bytes | memoryview) -> bool:
    """Whether a line, or what is written at once, begins with AUTH (RFC 4954)."""
    head = line[:16] if isinstance(line, str) else bytes(line[:16]).decode("latin-1")
    return head.upper().split(None, 1)[:1] == ["AUTH"]


def line_of(line: str | bytes | memoryview) -> bytes:
    """The line in octets, with its verb as the standard writes it."""
    octets = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else bytes(line)
    words = octets.split()
    return b" ".join([b"AUTH", *words[1:]]) if begins_auth(line) else octets


def redacted(line: str | bytes | memoryview) -> bytes:
    """The same in octets, for events of ``sys.audit``."""
    return shown(line).encode("utf-8", "replace") + b"\r\n"


def shown(line: str | bytes | memoryview) -> str:
    """A line that logs in, without what does it: ``AUTH PLAIN ***``."""
    text = line if isinstance(line, str) else bytes(line).decode("latin-1")
    words = text.split()
    return f"{words[0]} {words[1]} {HIDDEN}" if begins_auth(line) and len(words) > 1 else HIDDEN

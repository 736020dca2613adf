"""A server's reply as a value (RFC 5321 4.2, RFC 2034, RFC 3463)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class EnhancedCode:
    """An enhanced status code such as 5.1.1 (RFC 3463 2)."""

    klass: int
    """2 success, 4 for now, 5 for good."""
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply of the server.

    ``lines`` holds the text after each line's code and separator, as raw octets
    without line end; an enhanced code stays in the text and is parsed into
    ``enhanced`` (None where absent or where its class contradicts the code,
    RFC 2034 4).
    """

    code: int
    lines: tuple[bytes, ...] = (b"",)
    enhanced: EnhancedCode | None = None

    @property
    def is_positive(self) -> bool:
        """2xx: done."""
        return 200 <= self.code < 300

    @property
    def is_temporary(self) -> bool:
        """4xx: refused for now (RFC 5321 4.2.1)."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5xx: refused for good (RFC 5321 4.2.1)."""
        return 500 <= self.code < 600

    @property
    def text(self) -> str:
        """The text for people, lines joined by ``" / "``.

        Octets that are not UTF-8 and all control characters are escaped, so a
        server cannot write to a terminal or forge a line of a log.
        """
        return " / ".join(printable(line) for line in self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


def printable(line: bytes) -> str:
    """A line as text without control characters, which could write to a terminal."""
    text = line.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)

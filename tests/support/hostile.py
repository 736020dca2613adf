"""What strangers put into forms and uploads, for every face that has any."""

from __future__ import annotations

from typing import Final

PATTERNS: Final = (
    # White space, and text that begins or ends with it.
    *(" ", "\t", " \t", "a ", "a  ", "a", "ü", "ü ", "日本", "\r\n ", "\r\n", "\n", "\x00"),
    # Addresses, and what stands in them.
    *(
        "é@x.example, ",
        "a@b.example, ",
        "a@",
        "a@|b.",
        "a@|ü.",
        "ß@ß,",
        " |<a@b.example>",
        "a <a@b.example|> ",
    ),
    *("<", "a<", "a<|>", " <", "> ", ">", '"', "\\", '"\\', "(", ")", "(a)"),
    *(",", ";", ":", ".", "@", "[", "]"),
    # Fields.
    *("=?", "=?utf-8?q?a?= ", "a/", "x;"),
)
"""A beginning up to the bar, and what comes over and over."""

TYPES: Final = (
    *("", "/", "text", "text/", "/plain", "text/plain/x", "a b/c d", "ü/ü", "\ud800/x", "text/plain\0"),
    *("text/plain\r\nX-Evil: y", "text/plain; charset=no-such", 'text/plain; name="', "text/plain;" * 50),
    *("text/plain; " + "n" * 68 + "=ü", "image/png; " + "n" * 68 + "=" + "x" * 800, "image/png; a*0*=x''"),
    *("multipart/mixed", "multipart/mixed; boundary=b", "multipart/signed", "message/partial"),
    *("message/rfc822; x", "x" * 5000, "x/y" * 5000),
)
"""Content types of uploads; one tries to bring a field of its own, ``X-Evil``."""

NAMES: Final = ("a.txt", "ü" * 300, "a\r\nX-Evil: y", '"; x="', "\0", "a" * 2000, "\ud800", "a\u2028b")
"""Of files; one tries the same."""

CHARSETS: Final = (
    *("no-such", "ü", "\ud800", "a\r\nX: y", "x" * 1000),
    *("base64", "hex", "rot13", "\0"),
)
"""None of them is one."""


def _nested(depth: int) -> bytes:
    head = "".join(
        f"Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n" for number in range(depth)
    )
    return f"{head}Content-Type: text/plain\r\n\r\nx\r\n".encode()


DEEP: Final = {
    "multipart": _nested(3000),
    "message": b"Content-Type: message/rfc822\r\n\r\n" * 3000 + b"Subject: x\r\n\r\nx\r\n",
}
"""Messages in an attachment, each deeper than any recursion goes."""


def check_written(octets: bytes) -> None:
    """Assert that a message holds no field of a stranger, and no line that is too long (RFC 5322 2.1.1)."""
    assert b"\nX-Evil" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998

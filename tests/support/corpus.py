"""Messages of the shapes that break mail clients, each whole and with what must arrive."""

from __future__ import annotations

import re

HEADER = b"From: Alice <alice@mail.test>\r\nTo: bob@mail.test\r\nSubject: corpus\r\n\r\n"
_LINES = b"".join(b"%07d %s\r\n" % (n, b"x" * 63) for n in range(70_000))


def arrives_as(content: bytes) -> bytes:
    """Return the content with CRLF line ends and a final one: what a server must store."""
    normal = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return normal if normal.endswith(b"\r\n") else normal + b"\r\n"


SEVEN_BIT: dict[str, bytes] = {
    "plain": HEADER + b"Hello.\r\n",
    "no body": HEADER,
    "no final newline": HEADER + b"the end",
    "lines of dots": HEADER + b".\r\n..\r\n...\r\n.x\r\n. \r\n\r\n.\r\n",
    "ends in a dot": HEADER + b"text\r\n.",
    "an end of data inside": HEADER
    + b"a\r\n.\r\nMAIL FROM:<x@y.test>\r\nRCPT TO:<bob@mail.test>\r\nDATA\r\n",
    "bare LF": HEADER.replace(b"\r\n", b"\n") + b"one\ntwo\n\n.\n.three\n",
    "bare CR": HEADER + b"one\rtwo\r.\rthree\r\n",
    "mixed line ends around dots": HEADER + b"a\n.\r\nb\r\n.\nc\r.\r\nd\n.\n",
    "lines of 998 octets": HEADER + (b"." + b"y" * 997 + b"\r\n") * 40,
    "blank lines at both ends": HEADER + b"\r\n\r\n\r\ntext\r\n\r\n\r\n",
    "a dot at each slice's border": HEADER + b"".join(b"." * n + b"\r\n" for n in range(1, 700)),
    "5 MB": HEADER + _LINES,
}
EIGHT_BIT: dict[str, bytes] = {
    "utf-8 body": HEADER + "grüße, 你好, δοκιμή\r\n".encode() * 50,
    "latin-1 body": HEADER + "Grüße\r\n".encode("latin-1"),
    "every octet but NUL, CR and LF": HEADER + bytes(set(range(1, 256)) - {10, 13}) + b"\r\n",
    "5 MB of 8-bit": HEADER + _LINES.replace(b"x", b"\xfc"),
}
ALL = SEVEN_BIT | EIGHT_BIT

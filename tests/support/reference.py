"""Content as it must stand on the wire, from a whole message and by regular expression."""

from __future__ import annotations

import re


def canonical(data: bytes) -> bytes:
    """The whole-message reference: CR, LF and CRLF are each one line end."""
    text = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


def dotted(data: bytes) -> bytes:
    return re.sub(rb"(?m)^\.", b"..", canonical(data))

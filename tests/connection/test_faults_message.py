"""FAULTS 108 to 110 as a caller sees them: content that is not what a server takes."""

from __future__ import annotations

import io
from email.message import EmailMessage, Message
from typing import Any

import pytest
from support.fates import SENDER, assert_kept, attempt
from support.transports import dialled, serving

from pysmtpx import (
    InputError,
    NotSupportedError,
    SendResult,
)

A, B = "a@x.example", "b@x.example"


def _message() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = SENDER, A
    message.set_content("hi")
    return message


BODIES = {
    "bare LF": (b"x: y\n\nbody\n", b"x: y\r\n\r\nbody\r\n"),
    "bare CR": (b"x: y\r\rbody\r", b"x: y\r\n\r\nbody\r\n"),
    "CR CR LF": (b"x: y\r\n\r\na\r\r\nb\r\n", b"x: y\r\n\r\na\r\n\r\nb\r\n"),
    "LF.LF": (b"x: y\n\na\n.\nMAIL FROM:<f@x>\n", b"x: y\r\n\r\na\r\n.\r\nMAIL FROM:<f@x>\r\n"),
    "CR.CR": (b"x: y\r\n\r\na\r.\rRSET\r\n", b"x: y\r\n\r\na\r\n.\r\nRSET\r\n"),
    "CRLF.CR": (b"x: y\r\n\r\na\r\n.\rb", b"x: y\r\n\r\na\r\n.\r\nb\r\n"),
    "LF.CRLF": (b"x: y\r\n\r\na\n.\r\nQUIT\r\n", b"x: y\r\n\r\na\r\n.\r\nQUIT\r\n"),
    "no end": (b"x: y\r\n\r\nbody", b"x: y\r\n\r\nbody\r\n"),
    "ends in CR": (b"x: y\r\n\r\nbody\r", b"x: y\r\n\r\nbody\r\n"),
    "empty": (b"", b""),
    "dot at a border": (b"x: y\r\n\r\n" + b"z" * 62 + b"\r\n.\r\n" * 40_000, None),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("source", ["bytes", "bytearray", "file", "octets", "iterator"])
@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_no_end_of_data_can_be_smuggled(name: str, source: str, method: str) -> None:
    """FAULTS 108 (CVE-2023-51764): whatever the line ends, and wherever the borders fall."""
    body, want = BODIES[name]
    if source == "octets" and len(body) > 1000:
        body = body[:1000]
        want = None
    made: Any = {
        "bytes": lambda: body,
        "bytearray": lambda: bytearray(body),
        "file": lambda: io.BytesIO(body),
        "octets": lambda: (body[i : i + 1] for i in range(len(body))),
        "iterator": lambda: iter([body[:5], body[5:]]),
    }[source]()
    want = want if want is not None else body if body.endswith(b"\r\n") else body + b"\r\n"
    with serving(text_line_limit=None) as server, dialled(server) as conn:
        assert isinstance(attempt(getattr(conn, method), SENDER, A, made), SendResult)
        (message,) = server.messages
        assert message.content == want
        assert_kept(conn, server)


@pytest.mark.parametrize(
    ("body", "keyword"),
    [
        (b"x: y\r\n\r\n" + b"z" * 999 + b"\r\n", "BINARYMIME"),
        (b"x: y\r\n\r\nnul \0 here\r\n", "BINARYMIME"),
        ("x: y\r\n\r\nümlaut\r\n".encode(), "8BITMIME"),
    ],
)
@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_content_that_the_server_cannot_take(body: bytes, keyword: str, method: str) -> None:
    """FAULTS 109: refused before MAIL; a one-shot source, whose content nobody can know, in mid-way."""
    with serving(extensions=["PIPELINING", "CHUNKING"], strict=False) as server, dialled(server) as conn:
        error = attempt(getattr(conn, method), SENDER, A, body)
        assert isinstance(error, NotSupportedError)
        assert error.keyword == keyword
        assert server.ledger.commands == [["EHLO"]]
        assert_kept(conn, server)
        count = len(server.messages)
        error = attempt(getattr(conn, method), SENDER, A, iter([body]))
        assert isinstance(error, NotSupportedError | InputError)
        assert len(server.messages) == count
        assert not server.ledger.refused


@pytest.mark.parametrize("message", ["text", None, 5, [1, 2], io.StringIO("x"), iter(["text"])])
def test_what_is_no_message(message: Any) -> None:
    with serving(strict=False) as server, dialled(server) as conn:
        error = attempt(conn.send, SENDER, A, message)
        assert isinstance(error, InputError)
        assert not server.messages


def test_bcc_and_injected_headers() -> None:
    """FAULTS 110 (CVE-2024-6923)."""
    message = _message()
    message["Bcc"] = B
    legacy = Message()
    legacy["From"], legacy["To"] = SENDER, A
    legacy["Subject"] = f"hi\nBcc: {B}\nX-Injected: yes"
    legacy.set_payload("hi")
    with serving() as server, dialled(server) as conn:
        conn.send_message(message)
        assert server.messages[0].addresses == [A, B]
        assert b"\r\nbcc:" not in b"\r\n" + server.messages[0].content.lower()
        assert message["Bcc"] == B
        error = attempt(conn.send_message, legacy)
        assert isinstance(error, InputError)
        assert len(server.messages) == 1
        assert_kept(conn, server)

"""What strangers put into forms and uploads: long, deep or broken, it ends soon, and as ``InputError``."""

from __future__ import annotations

from collections.abc import Callable
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from flask import Flask
from support import linear

from pysmtpx import InputError
from pysmtpx.contrib.flask import (
    Attachment,
    Mail,
    Message,
    sanitize_address,
    sanitize_addresses,
    sanitize_subject,
)

PATTERNS = [
    *(
        " ",
        "\t",
        " \t",
        "a ",
        "a  ",
        "a",
        "ü",
        "ü ",
        "日本",
        "é@x.example, ",
        "a@b.example, ",
        "<",
        "a<",
        "a<|>",
    ),
    *(
        " <",
        "> ",
        ">",
        '"',
        "\\",
        '"\\',
        "(",
        ")",
        "(a)",
        ",",
        ";",
        ":",
        ".",
        "@",
        "[",
        "]",
        "a@",
        "a@|b.",
        "a@|ü.",
    ),
    *(
        " |<a@b.example>",
        "a <a@b.example|> ",
        "=?",
        "=?utf-8?q?a?= ",
        "\r\n ",
        "\r\n",
        "\n",
        "\x00",
        "a/",
        "x;",
    ),
]
"""A beginning up to the bar, and what comes over and over."""


def written(**arguments: Any) -> bytes:
    return Message(**{"subject": "x", "recipients": ["ann@example.com"], "body": "x"} | arguments).as_bytes()


def attached(**arguments: Any) -> bytes:
    return written(attachments=[Attachment(**{"data": b"x"} | arguments)])


TEXTS: dict[str, Callable[[str], object]] = {
    "address": sanitize_address,
    "name of a pair": lambda text: sanitize_address((text, "ann@example.com")),
    "address of a pair": lambda text: sanitize_address(("Ann", text)),
    "addresses": lambda text: sanitize_addresses([text], "iso-8859-1"),
    "subject": lambda text: sanitize_subject(text, "iso-8859-1"),
    "of a message": lambda text: written(subject=text),
    "in Latin-1": lambda text: written(
        subject=text, sender=("Ü" + text[:100], "a@b.example"), charset="latin-1"
    ),
    "sender": lambda text: written(sender=text),
    "recipient": lambda text: written(recipients=[text]),
    "reply_to": lambda text: written(reply_to=text),
    "bad headers": lambda text: Message(
        text, [text], sender=text, extra_headers={"X": text}
    ).has_bad_headers(),
    "extra field": lambda text: written(extra_headers={"X-Y": text}),
    "extra addresses": lambda text: written(extra_headers={"Resent-To": text}),
    "name of a file": lambda text: attached(filename=text),
    "type of a file": lambda text: attached(content_type=text),
    "parameter of a file": lambda text: attached(content_type="text/plain; " + text),
    "disposition": lambda text: attached(disposition=text),
    "field of a file": lambda text: attached(headers={"Content-ID": text}),
    "attached message": lambda text: attached(
        content_type="message/rfc822", data=f"From: a@b.example\r\nX: {text}\r\n\r\n".encode()
    ),
}


@pytest.fixture
def app():
    app = Flask(__name__)
    app.config.update(MAIL_DEFAULT_SENDER="robot@example.org", TESTING=True)
    Mail(app)
    with app.app_context():
        yield app


@pytest.mark.parametrize("entry", TEXTS)
def test_time_grows_with_the_length_and_no_faster(app: Flask, entry: str) -> None:
    for pattern in PATTERNS:
        linear.check(TEXTS[entry], pattern)


def test_an_address_of_blanks_is_refused_at_once(app: Flask) -> None:
    with pytest.raises(InputError):
        sanitize_address(" " * 3200)
    with pytest.raises(InputError, match="characters"):
        sanitize_address("a" * 100_000 + " <ann@example.com>")


def nested(depth: int) -> bytes:
    head = "".join(
        f"Content-Type: multipart/mixed; boundary=b{number}\r\n\r\n--b{number}\r\n" for number in range(depth)
    )
    return f"{head}Content-Type: text/plain\r\n\r\nx\r\n".encode()


def forwarded(depth: int) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"Subject: x\r\n\r\nx\r\n"


DEEP = {"multipart": nested(3000), "message": forwarded(3000)}


@pytest.mark.parametrize("kind", DEEP)
def test_an_attachment_that_is_nested_too_deep(app: Flask, kind: str) -> None:
    with pytest.raises(InputError, match="RecursionError"):
        attached(content_type="message/rfc822", data=DEEP[kind])


@pytest.mark.parametrize(
    "charset", ["no-such", "ü", "\ud800", "a\r\nX: y", "x" * 1000, "base64", "hex", "rot13", "\0"]
)
@pytest.mark.parametrize("subject", ["plain", "Grüße"])
def test_a_charset_that_is_none(app: Flask, charset: str, subject: str) -> None:
    with pytest.raises(InputError) as caught:
        written(subject=subject, body="Grüße", charset=charset, sender=("Ü", "a@b.example"))
    assert len(str(caught.value)) < 300


TYPES = [
    *(
        "",
        "/",
        "text",
        "text/",
        "/plain",
        "text/plain/x",
        "a b/c d",
        "ü/ü",
        "\ud800/x",
        "text/plain\r\nX-Evil: y",
    ),
    *(
        "text/plain; charset=no-such",
        'text/plain; name="',
        "text/plain;" * 50,
        "text/plain; " + "n" * 68 + "=ü",
    ),
    *(
        "multipart/mixed",
        "multipart/mixed; boundary=b",
        "message/rfc822; x",
        "message/partial",
        "image/png; a*0*=x''",
    ),
    *("multipart/signed", "text/plain\0", "x" * 5000, "image/png; " + "n" * 68 + "=" + "x" * 800),
]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(
    "filename", [None, "a.txt", "ü" * 300, "a\r\nX-Evil: y", '"; x="', "\0", "a" * 2000, "\ud800"]
)
def test_a_type_and_a_name_of_a_stranger(app: Flask, content_type: str, filename: str | None) -> None:
    # Either a message without a field of his, or InputError: nothing else, and nothing that hangs.
    octets, told = b"", ""
    try:
        octets = attached(content_type=content_type, filename=filename)
    except InputError as error:
        told = str(error)
    assert bool(octets) != bool(told)
    assert len(told) < 300
    assert b"\nX-Evil" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998


def test_an_error_holds_nothing_of_the_content(app: Flask) -> None:
    secret = "the secret text " * 10_000
    for arguments in (
        {"body": secret + "\ud800"},
        {"subject": secret + "\ud800"},
        {"extra_headers": {"X": secret + "\0"}},
        {"subject": "\ud800" + secret, "charset": "latin-1"},
        {"recipients": [secret]},
    ):
        with pytest.raises(InputError) as caught:
            written(**arguments)
        assert len(str(caught.value)) < 500
        assert "the secret text the secret" not in str(caught.value)


def test_parts_that_the_caller_nested_too_deep(app: Flask) -> None:
    part: Any = MIMEText("x")
    for _ in range(3000):
        outer = MIMEMultipart()
        outer.attach(part)
        part = outer

    class Given(Attachment):
        def part(self, *, ascii_name: bool = False) -> Any:
            return part

    with pytest.raises(InputError):
        written(attachments=[Given(data=b"")])

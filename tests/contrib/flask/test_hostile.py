"""What strangers put into forms and uploads: long, deep or broken, it ends soon, and as ``InputError``."""

from __future__ import annotations

from collections.abc import Callable
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from flask import Flask
from support import hostile, linear

from pysmtpx import InputError
from pysmtpx.contrib.flask import (
    Attachment,
    Mail,
    Message,
    sanitize_address,
    sanitize_addresses,
    sanitize_subject,
)

pytestmark = pytest.mark.slow


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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("entry", TEXTS)
def test_time_grows_with_the_length_and_no_faster(app: Flask, entry: str) -> None:
    for pattern in hostile.PATTERNS:
        linear.check(TEXTS[entry], pattern)


def test_an_address_of_blanks_is_refused_at_once(app: Flask) -> None:
    with pytest.raises(InputError):
        sanitize_address(" " * 3200)
    with pytest.raises(InputError, match="characters"):
        sanitize_address("a" * 100_000 + " <ann@example.com>")


@pytest.mark.parametrize("kind", hostile.DEEP)
def test_an_attachment_that_is_nested_too_deep(app: Flask, kind: str) -> None:
    with pytest.raises(InputError, match="RecursionError"):
        attached(content_type="message/rfc822", data=hostile.DEEP[kind])


@pytest.mark.parametrize("charset", hostile.CHARSETS)
@pytest.mark.parametrize("subject", ["plain", "Grüße"])
def test_a_charset_that_is_none(app: Flask, charset: str, subject: str) -> None:
    with pytest.raises(InputError) as caught:
        written(subject=subject, body="Grüße", charset=charset, sender=("Ü", "a@b.example"))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content_type", hostile.TYPES)
@pytest.mark.parametrize("filename", [None, *hostile.NAMES])
def test_a_type_and_a_name_of_a_stranger(app: Flask, content_type: str, filename: str | None) -> None:
    # Either a message without a field of his, or InputError: nothing else, and nothing that hangs.
    octets, told = b"", ""
    try:
        octets = attached(content_type=content_type, filename=filename)
    except InputError as error:
        told = str(error)
    assert bool(octets) != bool(told)
    assert len(told) < 300
    hostile.check_written(octets)


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

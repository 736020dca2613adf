"""A content type of a stranger, by every way in: an answer at once, and never a thread held for ever."""

from __future__ import annotations

from contextlib import suppress
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from support.messages import NOTHING, octets

from pysmtpx.contrib.flask import Attachment
from pysmtpx.drop_in.messages import sendmail_arguments
from pysmtpx.errors import SmtpError
from pysmtpx.message import prepare
from pysmtpx.payload import make_submission

NAMES = [1, 40, 60, 66, 67, 68, 69, 70, 77, 78, 79, 120, 200]
VALUES = ["ü", "ü" * 300, "x" * 3000, "\udcff", '"']

pytestmark = pytest.mark.timeout(60)


def hostile(length: int, value: str) -> str:
    return f'application/x; {"n" * length}="{value}"'


def parsed(content_type: str) -> EmailMessage:
    head = f"From: a@x.org\nTo: b@x.org\nContent-Type: {content_type}\n\n"
    return message_from_bytes(head.encode("utf-8", "surrogateescape") + b"gr\xc3\xbcn\n", policy=default)


@pytest.mark.parametrize("length", NAMES)
@pytest.mark.parametrize("value", VALUES)
class TestContentType:
    """CPython gh-138223."""

    def outcome(self, call) -> None:
        with suppress(SmtpError, ValueError, OSError):  # those of smtplib are the last
            call()

    def test_prepare(self, length, value):
        self.outcome(lambda: octets(prepare(parsed(hostile(length, value)), NOTHING)))

    def test_queue(self, length, value):
        self.outcome(lambda: make_submission(parsed(hostile(length, value))))

    def test_the_face_for_smtplib(self, length, value):
        message = parsed(hostile(length, value))
        self.outcome(lambda: sendmail_arguments((message, None, None, (), ()), utf8=False, eight_bit=False))

    def test_flask(self, length, value):
        def run() -> None:
            message = EmailMessage()
            message["From"], message["To"] = "a@x.org", "b@x.org"
            message.make_mixed()
            message.attach(Attachment("x", hostile(length, value), b"x").part())
            octets(prepare(message, NOTHING))

        self.outcome(run)

"""What a real Postfix makes of SMTPUTF8, DSN, 8BITMIME, SIZE and whole message objects."""

from __future__ import annotations

from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

import pytest
from support import corpus
from support.mailbox import behind_trace, trace
from support.postfix import UTF8_USER, PostfixServer, is_usable

import pysmtpx
from pysmtpx import MailFromParams, RcptToParams, SmtpConnection

SENDER, ALICE, BOB = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test"
MAIL = corpus.SEVEN_BIT["lines of dots"]


def test_eight_bit_content_needs_8bitmime(postfix: PostfixServer, slow: SmtpConnection) -> None:
    """FAULTS 109."""
    with pytest.raises(pysmtpx.NotSupportedError) as caught:
        slow.send(SENDER, [ALICE], corpus.EIGHT_BIT["utf-8 body"])
    assert caught.value.keyword == "8BITMIME"
    assert is_usable(slow, postfix)


@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_a_utf8_address(postfix: PostfixServer, line: SmtpConnection, method: str) -> None:
    content = corpus.HEADER.replace(b"corpus", "δοκιμή".encode()) + b"text\r\n"
    getattr(line, method)("θήτα@elsewhere.test", [UTF8_USER, ALICE], content)
    for user in (UTF8_USER, ALICE):
        (stored,) = postfix.mailbox(user).take()
        assert behind_trace(stored) == content
        assert "Return-Path: <θήτα@elsewhere.test>".encode() in trace(stored)


def test_a_utf8_address_without_smtputf8(postfix: PostfixServer, slow: SmtpConnection) -> None:
    """FAULTS 107."""
    with pytest.raises(pysmtpx.NotSupportedError) as caught:
        slow.send(SENDER, [UTF8_USER], MAIL)
    assert caught.value.keyword == "SMTPUTF8"
    assert is_usable(slow, postfix)


def test_dsn_parameters_reach_the_notification(postfix: PostfixServer, line: SmtpConnection) -> None:
    """RFC 3461: what we stated comes back in the report."""
    line.send_with_all_params(
        ALICE,
        [BOB, "carol@mail.test"],
        MAIL,
        MailFromParams(envid="id+1=a b", ret="HDRS"),
        [
            RcptToParams(notify=["SUCCESS", "FAILURE"], orcpt="rfc822;first+b@orig.test"),
            RcptToParams(notify=["NEVER"]),
        ],
    )
    (stored,) = postfix.mailbox(ALICE).take()
    report = BytesParser(policy=policy.default).parsebytes(stored)
    assert report["Subject"] == "Successful Mail Delivery Report"
    status = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    about_message, about_bob = status.get_payload()
    assert about_message["Original-Envelope-Id"] == "id+1=a b"
    assert about_bob["Original-Recipient"] == "rfc822;first+b@orig.test"
    assert about_bob["Action"] == "delivered"
    assert any(part.get_content_type() == "text/rfc822-headers" for part in report.walk())


@pytest.mark.parametrize(
    ("params", "keyword"),
    [
        (MailFromParams(ret="FULL"), "DSN"),
        (MailFromParams(envid="x"), "DSN"),
        (MailFromParams(mt_priority=3), "MT-PRIORITY"),
    ],
)
def test_a_parameter_that_is_not_offered(slow: SmtpConnection, params: MailFromParams, keyword: str) -> None:
    with pytest.raises(pysmtpx.NotSupportedError) as caught:
        slow.send_with_params(SENDER, [ALICE], MAIL, params)
    assert caught.value.keyword == keyword


def test_a_stated_size_is_what_postfix_counts(postfix: PostfixServer, line: SmtpConnection) -> None:
    line.send_with_params("", [ALICE], MAIL, MailFromParams(size=len(MAIL)))
    (stored,) = postfix.mailbox(ALICE).take()
    assert b"Return-Path: <>" in trace(stored)
    assert behind_trace(stored) == MAIL


# Message objects.


def _letter() -> EmailMessage:
    letter = EmailMessage()
    letter["From"] = "Ünal <sender@elsewhere.test>"
    letter["To"] = "Alice <alice@mail.test>, undisclosed:;"
    letter["Cc"] = "friends: bob@mail.test, alice@mail.test;"
    letter["Bcc"] = "carol@mail.test"
    letter["Subject"] = "Grüße, 你好"
    letter.set_content("Grüße\n.\n..\nFrom here on\n" + "long " * 300 + "\n")
    letter.add_attachment(
        bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="ß.bin"
    )
    return letter


@pytest.mark.parametrize("which", ["line", "slow"])
def test_a_message_object_with_everyone_it_names(
    postfix: PostfixServer, request: pytest.FixtureRequest, which: str
) -> None:
    """FAULTS 110: Bcc is dropped from a copy, and 8-bit is re-encoded where it must be."""
    letter, connection = _letter(), request.getfixturevalue(which)
    result = connection.send_message(letter)
    assert set(result.accepted_recipients) == {ALICE, BOB, "carol@mail.test"}
    assert letter["Bcc"] == "carol@mail.test"
    for user in result.accepted_recipients:
        (stored,) = postfix.mailbox(user).take()
        got = BytesParser(policy=policy.default).parsebytes(behind_trace(stored))
        assert got["Bcc"] is None
        assert (got["Subject"], got["From"]) == (letter["Subject"], letter["From"])
        assert got["Date"] is not None
        assert got["Message-ID"] is not None
        text, attachment = got.get_body(), next(got.iter_attachments())
        assert text.get_content().splitlines() == letter.get_body().get_content().splitlines()
        assert (attachment.get_content(), attachment.get_filename()) == (bytes(range(256)) * 40, "ß.bin")

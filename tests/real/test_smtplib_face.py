"""The face of ``smtplib`` before a real Postfix and a real Dovecot."""

from __future__ import annotations

import base64
import smtplib as standard
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.mime.text import MIMEText

import pytest
from support import certs, corpus
from support.daemon import wait_until
from support.dovecot import FULL, DovecotServer, token
from support.mailbox import behind_trace
from support.postfix import (
    BAD_SENDER,
    BAD_SUBJECT,
    LATER,
    NO_DATA_SENDER,
    SIZE_LIMIT,
    UTF8_USER,
    PostfixServer,
)

import pysmtpx.smtplib as smtplib

SENDER, ALICE, BOB, NOBODY = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test", "nobody@mail.test"
MAIL = corpus.SEVEN_BIT["lines of dots"]
LARGE = corpus.HEADER + b"more than the full mailbox holds\r\n" * 100


@pytest.fixture(params=["pipelined", "bare"])
def smtp(request: pytest.FixtureRequest, postfix: PostfixServer) -> Iterator[smtplib.SMTP]:
    """Yield a connection that pipelines, then one to a server without extensions."""
    port = postfix.port if request.param == "pipelined" else postfix.plain_port
    with smtplib.SMTP(postfix.host, port, timeout=30) as connection:
        yield connection


@pytest.fixture(params=["tcp", "unix"])
def lmtp(request: pytest.FixtureRequest, dovecot: DovecotServer) -> Iterator[smtplib.LMTP]:
    """Yield a connection over TCP, then one over the UNIX socket."""
    where = (dovecot.host, dovecot.port) if request.param == "tcp" else (str(dovecot.socket_path), 0)
    with smtplib.LMTP(*where, timeout=30) as connection:
        yield connection


def arrived(server: PostfixServer | DovecotServer, user: str) -> bytes:
    (stored,) = server.mailbox(user).take()
    return behind_trace(stored)


# -- sendmail ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", corpus.SEVEN_BIT)
def test_octets_arrive_as_they_are(postfix: PostfixServer, smtp: smtplib.SMTP, name: str) -> None:
    assert smtp.sendmail(SENDER, [ALICE, BOB], corpus.ALL[name]) == {}
    assert [arrived(postfix, user) for user in (ALICE, BOB)] == [corpus.arrives_as(corpus.ALL[name])] * 2


@pytest.mark.parametrize("name", corpus.EIGHT_BIT)
def test_8_bit_octets_arrive_as_they_are(postfix: PostfixServer, name: str) -> None:
    with smtplib.SMTP(postfix.host, postfix.port, timeout=30) as smtp:
        assert smtp.sendmail(SENDER, BOB, corpus.ALL[name]) == {}
    assert arrived(postfix, BOB) == corpus.arrives_as(corpus.ALL[name])


def test_refusals_at_each_stage_leave_the_session_in_step(postfix: PostfixServer, smtp: smtplib.SMTP) -> None:
    refused = smtp.sendmail(SENDER, [NOBODY, BOB, LATER], MAIL)
    assert {address: code for address, (code, _) in refused.items()} == {NOBODY: 550, LATER: 450}
    assert arrived(postfix, BOB) == MAIL
    for sender, recipient, content, kind in (
        (BAD_SENDER, BOB, MAIL, smtplib.SMTPSenderRefused),
        (SENDER, NOBODY, MAIL, smtplib.SMTPRecipientsRefused),
        (NO_DATA_SENDER, BOB, MAIL, smtplib.SMTPDataError),
        (SENDER, BOB, f"Subject: {BAD_SUBJECT}\n\nx\n", smtplib.SMTPDataError),
    ):
        with pytest.raises(kind):
            smtp.sendmail(sender, recipient, content)
        assert smtp.sendmail(SENDER, ALICE, MAIL) == {}
        assert arrived(postfix, ALICE) == MAIL
    assert postfix.mailbox(BOB).is_empty()


def test_paths_as_people_write_them(postfix: PostfixServer, smtp: smtplib.SMTP) -> None:
    assert smtp.sendmail("", f"Bob B. <{BOB}>", MAIL) == {}
    assert smtp.sendmail("<>", {ALICE}, MAIL.decode()) == {}
    (stored,) = postfix.mailbox(BOB).take()
    assert b"Return-Path: <>" in stored
    assert arrived(postfix, ALICE) == MAIL


def test_a_message_over_the_size_is_not_sent(postfix: PostfixServer) -> None:
    with smtplib.SMTP(postfix.host, postfix.port) as smtp:
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            smtp.sendmail(SENDER, BOB, corpus.HEADER + b"x\r\n" * (SIZE_LIMIT // 3))
        assert caught.value.smtp_code == 552
        assert smtp.sendmail(SENDER, BOB, MAIL) == {}
    assert postfix.commands()["mail"] == "1"
    assert arrived(postfix, BOB) == MAIL


def test_a_transaction_by_single_commands(postfix: PostfixServer, smtp: smtplib.SMTP) -> None:
    smtp.ehlo()
    assert [smtp.mail(SENDER)[0], smtp.rcpt(NOBODY)[0], smtp.rcpt(BOB)[0]] == [250, 550, 250]
    assert smtp.data(MAIL)[0] == smtp.rset()[0] == smtp.noop()[0] == 250
    assert smtp.verify(BOB)[0] == 252
    assert smtp.docmd("nonsense")[0] == 500
    assert arrived(postfix, BOB) == MAIL


def test_an_object_connects_again(postfix: PostfixServer) -> None:
    smtp = smtplib.SMTP()
    for port in (postfix.port, postfix.plain_port, postfix.port):
        assert smtp.connect(postfix.host, port)[0] == 220
        assert smtp.sendmail(SENDER, BOB, MAIL) == {}
        assert smtp.has_extn("pipelining") is (port == postfix.port)
        smtp.quit()
    assert len(postfix.mailbox(BOB).take(3)) == 3


# -- messages ------------------------------------------------------------------------------


def test_a_message_in_8_bit_and_in_7_bit(postfix: PostfixServer, smtp: smtplib.SMTP) -> None:
    message = MIMEText("", "plain", "utf-8")
    message.replace_header("Content-Transfer-Encoding", "8bit")
    message.set_payload("Grüße\r\n".encode())
    message["From"], message["To"], message["Bcc"] = SENDER, ALICE, BOB
    assert smtp.send_message(message) == {}
    for user in (ALICE, BOB):
        stored = arrived(postfix, user)
        assert stored.isascii() is not smtp.has_extn("8bitmime")
        assert b"\nBcc:" not in stored
        assert "Grüße".encode() in stored or b"Gr=C3=BC=C3=9Fe" in stored or b"R3LDvMOfZQ" in stored


def test_a_local_part_that_is_not_ascii(postfix: PostfixServer, smtp: smtplib.SMTP) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, UTF8_USER, "Δοκιμή"
    message.set_content("Hi.\n")
    smtp.ehlo()
    if smtp.has_extn("smtputf8"):
        assert smtp.send_message(message) == {}
        assert smtp.sendmail(SENDER, [UTF8_USER], MAIL, ["SMTPUTF8"]) == {}
        assert len(postfix.mailbox(UTF8_USER).take(2)) == 2
    else:
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.send_message(message)
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.sendmail(SENDER, [UTF8_USER], MAIL, ["SMTPUTF8"])
    with pytest.raises(UnicodeEncodeError):
        smtp.sendmail(SENDER, [UTF8_USER], MAIL)
    assert smtp.noop()[0] == 250


# -- TLS and AUTH --------------------------------------------------------------------------


def proves(postfix: PostfixServer, smtp: standard.SMTP, user: str, mechanism: str) -> None:
    """Send a mail, and wait for Postfix to name who it came from."""
    assert smtp.sendmail(SENDER, [BOB], MAIL) == {}
    said = f"sasl_method={mechanism}, sasl_username={user}\n"
    wait_until(lambda: said in postfix.log_text(), 30, said)


@pytest.mark.parametrize("user", [ALICE, BOB, "carol@mail.test"])
@pytest.mark.parametrize("mechanism", ["", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"])
def test_starttls_and_login(postfix: PostfixServer, user: str, mechanism: str) -> None:
    """The strongest first; a password in UTF-8, and a long one."""
    with smtplib.SMTP(postfix.host, postfix.port, timeout=30) as smtp:
        smtp.starttls(context=certs.client_context())
        smtp.ehlo()
        if mechanism:
            smtp.esmtp_features["auth"] = mechanism
        assert smtp.login(user, postfix.users[user])[0] == 235
        proves(postfix, smtp, user, mechanism or "SCRAM-SHA-256")


def test_a_wrong_password_then_the_right_one_over_implicit_tls(postfix: PostfixServer) -> None:
    context = certs.client_context()
    with smtplib.SMTP_SSL(postfix.host, postfix.smtps_port, timeout=30, context=context) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            smtp.login(ALICE, "wrong")
        assert caught.value.smtp_code == 535
        smtp.login(ALICE, postfix.users[ALICE])
        proves(postfix, smtp, ALICE, "SCRAM-SHA-256")


@pytest.mark.parametrize("way", ["docmd", "two steps", "auth"])
def test_a_token_as_programs_send_it(postfix: PostfixServer, way: str) -> None:
    context, secret = certs.client_context(), f"user={ALICE}\1auth=Bearer {token(ALICE)}\1\1"
    encoded = base64.b64encode(secret.encode()).decode()
    with smtplib.SMTP_SSL(postfix.host, postfix.smtps_port, timeout=30, context=context) as smtp:
        smtp.ehlo()
        if way == "docmd":
            assert smtp.docmd("AUTH", f"XOAUTH2 {encoded}")[0] == 235
        elif way == "auth":
            assert smtp.auth("XOAUTH2", lambda challenge=None: secret)[0] == 235
        else:
            assert smtp.docmd("AUTH", "XOAUTH2")[0] == 334
            assert smtp.docmd(encoded)[0] == 235
        proves(postfix, smtp, ALICE, "XOAUTH2")


def test_an_authority_that_nobody_knows_is_refused(postfix: PostfixServer) -> None:
    smtp = smtplib.SMTP(postfix.host, postfix.port, timeout=30)
    with pytest.raises(ssl.SSLCertVerificationError):
        smtp.starttls()
    assert smtp.sock is None
    smtplib.allow_unverified_tls()
    try:
        smtp.connect(postfix.host, postfix.port)
        smtp.starttls()
    finally:
        smtplib.allow_unverified_tls(False)
    assert smtp.sendmail(SENDER, BOB, MAIL) == {}
    smtp.quit()


# -- LMTP ----------------------------------------------------------------------------------


def test_lmtp_has_a_reply_for_each_recipient(dovecot: DovecotServer, lmtp: smtplib.LMTP) -> None:
    refused = lmtp.sendmail(SENDER, [ALICE, NOBODY, FULL, BOB], LARGE)
    assert set(refused) == {NOBODY, FULL}
    assert refused[NOBODY][0] == 550
    assert refused[FULL][1].startswith(b"5.2.2")
    assert [arrived(dovecot, user) for user in (ALICE, BOB)] == [LARGE, LARGE]
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        lmtp.sendmail(SENDER, [NOBODY, "other@mail.test"], MAIL)
    assert set(caught.value.recipients) == {NOBODY, "other@mail.test"}
    with pytest.raises(smtplib.SMTPDataError):
        lmtp.sendmail(SENDER, [FULL], LARGE)
    assert lmtp.noop()[0] == 250
    assert lmtp.sendmail(SENDER, [ALICE, ALICE], MAIL) == {}
    assert arrived(dovecot, ALICE) == MAIL


def test_lmtp_by_single_commands(dovecot: DovecotServer, lmtp: smtplib.LMTP) -> None:
    assert lmtp.ehlo()[0] == lmtp.mail(SENDER)[0] == 250
    assert [lmtp.rcpt(user)[0] for user in (ALICE, FULL, BOB)] == [250, 250, 250]
    assert lmtp.data(LARGE)[0] == lmtp.noop()[0] == 250
    assert [arrived(dovecot, user) for user in (ALICE, BOB)] == [LARGE, LARGE]
    assert dovecot.mailbox(FULL).is_empty()


@pytest.mark.parametrize("name", corpus.ALL)
def test_octets_arrive_by_lmtp_as_they_are(dovecot: DovecotServer, lmtp: smtplib.LMTP, name: str) -> None:
    assert lmtp.sendmail(SENDER, [ALICE, BOB], corpus.ALL[name]) == {}
    for user in (ALICE, BOB):
        assert arrived(dovecot, user) == corpus.arrives_as(corpus.ALL[name])

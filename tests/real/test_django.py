"""Django's mail through a real Postfix, by settings of both kinds, read back from the mailbox."""

from __future__ import annotations

import email
from email.policy import SMTP
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives, send_mail, send_mass_mail
from django.core.management import call_command
from support.django_site import site as site
from support.dovecot import token
from support.pools import in_threads
from support.postfix import BAD_SENDER, BAD_SUBJECT, LATER, UTF8_USER, PostfixServer

import pysmtpx

pytestmark = pytest.mark.everywhere  # Django is another one there

SENDER, ALICE, BOB, NOBODY = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test", "nobody@mail.test"


def secured(postfix: PostfixServer, mode: str = "starttls") -> dict[str, Any]:
    """The options for a port with TLS, and an account."""
    options = {
        "host": postfix.host,
        "username": ALICE,
        "password": postfix.users[ALICE],
        "ssl_context": "support.certs.client_context",
        "timeout": 30,
    }
    if mode == "starttls":
        return {**options, "port": postfix.port, "use_tls": True}
    return {**options, "port": postfix.smtps_port, "use_ssl": True}


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_it_arrives(site: Any, postfix: PostfixServer, mode: str) -> None:
    site.use(**secured(postfix, mode))
    message = EmailMultiAlternatives(
        "Prüfung", "Grüße\n", f"Jörg <{SENDER}>", [f"Älice <{ALICE}>"], bcc=[BOB], reply_to=["r@x.example"]
    )
    message.attach_alternative("<p>Grüße</p>", "text/html")
    message.attach("dätei.bin", bytes(range(256)), "application/octet-stream")
    assert message.send() == 1
    assert message.send_result.accepted_recipients == (ALICE, BOB)
    assert b"queued as" in message.send_result.reply.lines[0]
    for user in (ALICE, BOB):
        (stored,) = postfix.mailbox(user).take()
        arrived = email.message_from_bytes(stored, policy=SMTP)
        assert (arrived["Subject"], arrived["Bcc"], arrived["Reply-To"]) == ("Prüfung", None, "r@x.example")
        assert arrived.get_body(("plain",)).get_content().strip() == "Grüße"
        (file,) = arrived.iter_attachments()
        assert (file.get_filename(), file.get_content()) == ("dätei.bin", bytes(range(256)))
    assert f"sasl_username={ALICE}" in postfix.log_text()


def test_many_calls_in_many_threads_over_few_connections(site: Any, postfix: PostfixServer) -> None:
    site.use(**secured(postfix), max_connections=2)
    results = in_threads(4, lambda n: [send_mail(f"{n}-{i}", "b", SENDER, [ALICE]) for i in range(10)])
    assert results == [[1] * 10] * 4
    stored = postfix.mailbox(ALICE).take(40)
    subjects = [email.message_from_bytes(each)["Subject"] for each in stored]
    assert sorted(subjects) == sorted(f"{n}-{i}" for n in range(4) for i in range(10))
    assert postfix.log_text().count("]: connect from") <= 2


def test_many_messages_in_one_call(site: Any, postfix: PostfixServer) -> None:
    site.use(**secured(postfix), in_flight=4)
    assert send_mass_mail([(str(n), "b", SENDER, [BOB]) for n in range(50)]) == 50
    stored = postfix.mailbox(BOB).take(50)
    assert sorted(int(email.message_from_bytes(each)["Subject"]) for each in stored) == list(range(50))


def test_refusals_of_every_kind(site: Any, postfix: PostfixServer) -> None:
    site.use(**secured(postfix), fail_silently=True)
    mails = [
        EmailMessage("one", "b", SENDER, [ALICE]),
        EmailMessage("two", "b", BAD_SENDER, [ALICE]),
        EmailMessage("three", "b", SENDER, [NOBODY]),
        EmailMessage(BAD_SUBJECT, "b", SENDER, [ALICE]),
        EmailMessage("five", "b", SENDER, [ALICE, LATER, NOBODY]),
        EmailMessage("six", "b", SENDER, [ALICE]),
    ]
    assert site.connection().send_messages(mails) == 3
    stored = postfix.mailbox(ALICE).take(3)
    assert sorted(str(email.message_from_bytes(each)["Subject"]) for each in stored) == ["five", "one", "six"]
    errors = [type(each.send_error).__name__ for each in mails]
    assert errors[1:4] == ["SenderRejected", "AllRecipientsFailed", "DataRejected"]
    refused = {each.recipient: each.temporary for each in mails[4].send_result.rejected_recipients}
    assert refused == {LATER: True, NOBODY: False}


def test_a_local_part_in_utf8(site: Any, postfix: PostfixServer) -> None:
    site.use(**secured(postfix))
    assert send_mail("s", "b", SENDER, [f"Δοκιμή <{UTF8_USER}>"]) == 1
    (stored,) = postfix.mailbox(UTF8_USER).take()
    assert f"<{UTF8_USER}>".encode() in stored


def test_a_server_without_extensions(site: Any, postfix: PostfixServer) -> None:
    site.use(host=postfix.host, port=postfix.plain_port)
    assert send_mail("s", "Grüße", SENDER, [ALICE]) == 1
    (stored,) = postfix.mailbox(ALICE).take()
    assert email.message_from_bytes(stored, policy=SMTP).get_content().strip() == "Grüße"
    with pytest.raises(pysmtpx.NotSupportedError):
        send_mail("s", "b", SENDER, [UTF8_USER])


def test_a_token(site: Any, postfix: PostfixServer) -> None:
    options = secured(postfix) | {"token": lambda: token(ALICE), "auth": "XOAUTH2"}
    del options["password"]
    site.use(**options)
    assert send_mail("s", "b", SENDER, [BOB]) == 1
    assert postfix.mailbox(BOB).take()
    assert "sasl_method=XOAUTH2" in postfix.log_text()


def test_a_wrong_password(site: Any, postfix: PostfixServer) -> None:
    site.use(**secured(postfix) | {"password": "wr0ng"})
    for _ in range(3):
        with pytest.raises(pysmtpx.AuthenticationError):
            send_mail("s", "b", SENDER, [BOB])
    site.use(**secured(postfix))
    assert send_mail("s", "b", SENDER, [BOB]) == 1
    assert postfix.mailbox(BOB).take()


def test_sendtestemail(site: Any, postfix: PostfixServer) -> None:
    site.use(**secured(postfix))
    call_command("sendtestemail", ALICE)
    (stored,) = postfix.mailbox(ALICE).take()
    assert b"Test email from" in stored

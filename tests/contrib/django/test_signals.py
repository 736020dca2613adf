"""What a project hears of each message, and the errors that its handlers catch."""

from __future__ import annotations

import pickle
import smtplib
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.mail import EmailMessage, send_mail

import pysmtpx
from pysmtpx.contrib.django import EmailBackend, message_failed, message_sent, recipient_refused
from pysmtpx.testing import Cut, MailServer

REFUSE = {"bad@x.example": "550 5.1.1 unknown", "later@x.example": "450 4.2.0 later"}


@pytest.fixture
def heard() -> Iterator[list[tuple[Any, ...]]]:
    """What the signals said: their name, and what tells most of it."""
    told: list[tuple[Any, ...]] = []

    def sent(sender: Any, message: Any, result: Any, **_: Any) -> None:
        told.append(("sent", sender, message.to[0], result.reply.code))

    def refused(sender: Any, message: Any, recipient: Any, reply: Any, temporary: bool, **_: Any) -> None:
        told.append(("refused", sender, recipient, reply.code, temporary))

    def failed(sender: Any, message: Any, error: Any, **_: Any) -> None:
        assert message.send_error is error
        told.append(("failed", sender, message.to[0], error))

    signals = [(message_sent, sent), (recipient_refused, refused), (message_failed, failed)]
    for signal, receiver in signals:
        signal.connect(receiver)
    yield told
    for signal, receiver in signals:
        signal.disconnect(receiver)


def message(*to: str, **options: Any) -> EmailMessage:
    return EmailMessage("subject", "body\n", "me@x.example", list(to), **options)


def test_signals_come_in_the_order_of_the_messages(site: Any, heard: list[Any]) -> None:
    with MailServer(refuse=REFUSE) as server:
        site.use(server, fail_silently=True)
        mails = [
            message("a@x.example", "later@x.example"),
            message("bad@x.example"),
            message("b@x.example"),
        ]
        site.connection().send_messages(mails)
    assert [each[:1] + each[2:] for each in heard] == [
        ("refused", "later@x.example", 450, True),
        ("sent", "a@x.example", 250),
        ("refused", "bad@x.example", 550, False),
        ("failed", "bad@x.example", mails[1].send_error),
        ("sent", "b@x.example", 250),
    ]
    assert {each[1] for each in heard} == {EmailBackend}


@pytest.mark.parametrize("verb", ["MAIL", "DATA", "FINAL"])
def test_a_refused_sender_or_content_says_nothing_of_an_address(
    site: Any, heard: list[Any], verb: str
) -> None:
    with MailServer(replies={verb: "554 5.7.1 no"}) as server:
        site.use(server, fail_silently=True)
        site.connection().send_messages([message("a@x.example")])
    assert [each[0] for each in heard] == ["failed"]


def test_a_receiver_that_raises_harms_nobody(site: Any, heard: list[Any]) -> None:
    """What it raises is logged, and Django mails that to the admins: of this mail there is no signal."""

    def bad(**_: Any) -> None:
        raise RuntimeError("the project's own")

    message_sent.connect(bad)
    try:
        with MailServer() as server:
            site.use(server, admins=["admin@x.example"])
            assert site.connection().send_messages([message("a@x.example"), message("b@x.example")]) == 2
            assert sorted(m.addresses[0] for m in server.messages) == [
                "a@x.example",
                *["admin@x.example"] * 2,
                "b@x.example",
            ]
    finally:
        message_sent.disconnect(bad)
    assert [each[:1] + each[2:] for each in heard] == [
        ("sent", "a@x.example", 250),
        ("sent", "b@x.example", 250),
    ]


def test_mail_may_be_sent_from_a_receiver(site: Any) -> None:
    """Of a failure somebody may want to be told by mail; where that fails too, it ends there."""
    seen: list[Any] = []

    def report(error: Any, **_: Any) -> None:
        seen.append(error)
        send_mail("failed", str(error), None, ["admin@x.example"])
        send_mail("failed", str(error), None, ["bad@x.example"])

    message_failed.connect(report)
    try:
        with MailServer(refuse=REFUSE) as server:
            site.use(server, max_connections=1, fail_silently=True)
            site.connection().send_messages([message("bad@x.example"), message("a@x.example")])
            assert sorted(m.addresses[0] for m in server.messages) == ["a@x.example", "admin@x.example"]
    finally:
        message_failed.disconnect(report)
    assert len(seen) == 1


FATES: list[tuple[dict[str, Any], type, type]] = [
    ({"MAIL": "550 5.7.1 no"}, pysmtpx.SenderRejected, smtplib.SMTPSenderRefused),
    ({"RCPT": "550 5.1.1 no"}, pysmtpx.AllRecipientsFailed, smtplib.SMTPRecipientsRefused),
    ({"DATA": "554 5.0.0 no"}, pysmtpx.DataRejected, smtplib.SMTPDataError),
    ({"FINAL": "554 5.0.0 no"}, pysmtpx.DataRejected, smtplib.SMTPDataError),
    ({"CONNECT": "554 5.0.0 no"}, pysmtpx.ConnectError, smtplib.SMTPConnectError),
    ({"MAIL": "421 4.3.2 bye"}, pysmtpx.ServiceUnavailable, smtplib.SMTPResponseException),
    ({"MAIL": Cut()}, pysmtpx.ConnectionLost, smtplib.SMTPServerDisconnected),
]


@pytest.mark.parametrize(("answers", "ours", "theirs"), FATES, ids=lambda each: getattr(each, "__name__", ""))
def test_an_error_is_caught_by_old_handlers_and_by_new_ones(
    site: Any, answers: dict[str, Any], ours: type, theirs: type
) -> None:
    with MailServer(replies=answers) as server:
        site.use(server, retry={"attempts": 1})
        with pytest.raises(OSError) as caught:  # noqa: PT011
            send_mail("s", "b", "me@x.example", ["a@x.example"])
    error: Any = caught.value
    assert isinstance(error, ours)
    assert isinstance(error, theirs)
    assert isinstance(error, smtplib.SMTPException)
    if theirs is smtplib.SMTPRecipientsRefused:
        assert error.recipients == {"a@x.example": (550, b"5.1.1 no")}
    elif issubclass(theirs, smtplib.SMTPResponseException):
        assert error.smtp_code == error.reply.code
        assert isinstance(error.smtp_error, bytes)
    if theirs is smtplib.SMTPSenderRefused:
        assert error.sender == "me@x.example"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.reply) == (type(error), str(error), error.reply)


def test_a_message_in_doubt_is_no_lost_connection(site: Any) -> None:
    """Handlers that send again after SMTPServerDisconnected would deliver it twice."""
    with MailServer(replies={"FINAL": Cut()}) as server:
        site.use(server)
        with pytest.raises(smtplib.SMTPException) as caught:
            send_mail("s", "b", None, ["a@x.example"])
        assert isinstance(caught.value, pysmtpx.DeliveryUnknown)
        assert not isinstance(caught.value, smtplib.SMTPServerDisconnected)
        assert len(server.ledger.connections) == 1

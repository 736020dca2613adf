"""An email message with an envelope of its own, as a ``MailObject``, by every way to send one."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest

import pysmtpx
from pysmtpx import InputError, MailFromParams, MailObject, NotSupportedError, Outcome, RcptToParams, SmtpPool
from pysmtpx.payload import make_submission, pack, unpack
from pysmtpx.testing import MailServer

Way = Callable[[MailServer, list[MailObject]], list[Outcome]]


def email(body: str = "hello\n", **fields: str) -> EmailMessage:
    message = EmailMessage()
    headers = {"From": "list@x.example", "To": "list@x.example", "Bcc": "all@x.example", **fields}
    for name, value in headers.items():
        message[name] = value
    message.set_content(body)
    return message


def each_by(send: Callable[[MailObject], Any], mails: list[MailObject]) -> list[Outcome]:
    outcomes = []
    for mail in mails:
        try:
            outcomes.append(Outcome.of(mail, send(mail)))
        except pysmtpx.SmtpError as error:
            outcomes.append(Outcome.of(mail, error))
    return outcomes


def by_send(server: MailServer, mails: list[MailObject]) -> list[Outcome]:
    with pysmtpx.connect(server.url) as connection:
        return each_by(
            lambda mail: connection.send_with_all_params(
                mail.sender,
                mail.recipients,
                mail.content,
                mail.mail_params,
                mail.rcpt_params or [RcptToParams()],  # type: ignore[arg-type]
            ),
            mails,
        )


def by_send_many(server: MailServer, mails: list[MailObject]) -> list[Outcome]:
    with pysmtpx.connect(server.url) as connection:
        return list(connection.send_many(mails))


def in_flight(server: MailServer, mails: list[MailObject]) -> list[Outcome]:
    with pysmtpx.connect(server.url) as connection:
        return list(connection.send_many(mails, in_flight=4))


def by_pool_send(server: MailServer, mails: list[MailObject]) -> list[Outcome]:
    with SmtpPool(server.url) as pool:
        return each_by(
            lambda mail: pool.send(
                mail.sender,
                mail.recipients,
                mail.content,
                mail_params=mail.mail_params,
                rcpt_params=mail.rcpt_params,  # type: ignore[arg-type]
            ),
            mails,
        )


def by_pool_send_many(server: MailServer, mails: list[MailObject]) -> list[Outcome]:
    with SmtpPool(server.url) as pool:
        return list(pool.send_many(mails, ordered=True))


def by_submit(server: MailServer, mails: list[MailObject]) -> list[Outcome]:
    with SmtpPool(server.url) as pool:
        return each_by(lambda mail: pool.submit(mail).result(), mails)


def by_payload(server: MailServer, mails: list[MailObject]) -> list[Outcome]:
    """As a queue carries it."""
    with SmtpPool(server.url) as pool:
        return each_by(lambda mail: pool.submit(unpack(pack(make_submission(mail))).mail).result(), mails)


WAYS = [by_send, by_send_many, in_flight, by_pool_send, by_pool_send_many, by_submit, by_payload]


@pytest.mark.parametrize("way", WAYS)
def test_the_envelope_is_the_one_that_was_given(way: Way) -> None:
    """Many copies of a message, each with a reverse-path of its own (VERP)."""
    message = email()
    before = message.as_bytes()
    with MailServer() as server:
        mails = [MailObject(f"bounce+{n}@x.example", f"user{n}@x.example", message) for n in range(5)]
        outcomes = way(server, mails)
    assert [outcome.status for outcome in outcomes] == ["accepted"] * 5
    assert [outcome.mail for outcome in outcomes] == mails
    arrived = sorted((each.sender, *each.addresses) for each in server.messages)
    assert arrived == [(f"bounce+{n}@x.example", f"user{n}@x.example") for n in range(5)]
    for each in server.messages:
        read = message_from_bytes(each.content, policy=SMTP)
        assert (read["From"], read["To"], read["Bcc"]) == ("list@x.example", "list@x.example", None)
        assert read["Date"]
        assert read["Message-ID"]
    assert message.as_bytes() == before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("extensions", [["PIPELINING", "CHUNKING", "8BITMIME"], ["PIPELINING", "CHUNKING"]])
def test_it_is_written_for_the_server_at_hand(way: Way, extensions: list[str]) -> None:
    with MailServer(extensions=extensions) as server:
        (outcome,) = way(
            server, [MailObject("a@x.example", "b@x.example", email("Grüße\n" * 9, Subject="ä"))]
        )
    assert outcome.status == "accepted"
    (arrived,) = server.messages
    assert arrived.content.isascii() is ("8BITMIME" not in extensions or way is by_payload)
    assert message_from_bytes(arrived.content, policy=SMTP).get_content() == "Grüße\r\n" * 9


@pytest.mark.parametrize("way", WAYS)
def test_parameters_go_with_it(way: Way) -> None:
    with MailServer() as server:
        way(
            server,
            [
                MailObject(
                    "a@x.example",
                    "b@x.example",
                    email(),
                    mail_params=MailFromParams(ret="HDRS"),
                    rcpt_params=[RcptToParams(notify="FAILURE")],
                )
            ],
        )
    assert server.messages[0].params["RET"] == "HDRS"
    assert server.messages[0].recipients[0].params["NOTIFY"] == "FAILURE"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("flaw", ["a line end", "8-bit address"])
def test_one_that_cannot_be_written_is_unsent_to_those_it_names(way: Way, flaw: str) -> None:
    if flaw == "a line end":
        message = email()
        message._headers.append(("X-A", "b\nX: y"))  # type: ignore[attr-defined]
        broken = MailObject("a@x.example", "b@x.example", message)
    else:
        broken = MailObject("a@x.example", "jürgen@x.example", email())
    with MailServer(extensions=["PIPELINING", "CHUNKING"]) as server:
        if way is by_payload and flaw != "a line end":
            pytest.skip("what the server lacks the worker will see")
        mails = [MailObject("a@x.example", "b@x.example", email()), broken]
        first, second = way(server, mails)
    assert (first.status, second.status) == ("accepted", "unsent")
    assert isinstance(second.error, InputError | NotSupportedError)
    if way is not by_payload:
        assert second.unsent_recipients == broken.recipients
    assert len(server.messages) == 1


def test_what_was_queued_stays_as_it_was() -> None:
    message = email("first\n")
    with MailServer() as server, SmtpPool(server.url) as pool:
        future = pool.submit(MailObject("a@x.example", "b@x.example", message))
        message.set_content("second\n")
        future.result()
    assert message_from_bytes(server.messages[0].content, policy=SMTP).get_content() == "first\r\n"


def test_every_try_has_the_same_message_id() -> None:
    answers: Any = {("FINAL", 1): "451 4.3.0 later"}
    retry = pysmtpx.RetryPolicy(backoff=0.01, temporary=True)
    with MailServer(replies=answers) as server, SmtpPool(server.url, retry=retry) as pool:
        (outcome,) = pool.send_many([MailObject("a@x.example", "b@x.example", email())])
    assert outcome.status == "accepted"
    assert server.messages[0].content.count(b"Message-ID:") == 1


def test_an_envelope_beside_the_envelope_is_refused() -> None:
    mail = MailObject("a@x.example", "b@x.example", email())
    with MailServer() as server, SmtpPool(server.url) as pool:
        for more in ({"sender": "c@x.example"}, {"mail_params": MailFromParams()}):
            with pytest.raises(pysmtpx.UsageError, match="envelope of its own"):
                pool.submit(mail, **more)  # type: ignore[arg-type]


def test_submit_takes_parameters() -> None:
    with MailServer() as server, SmtpPool(server.url) as pool:
        pool.submit(
            email(),
            sender="c@x.example",
            recipients=["d@x.example"],
            mail_params=MailFromParams(ret="FULL"),
            rcpt_params=[RcptToParams(notify="DELAY")],
        ).result()
    (arrived,) = server.messages
    assert (arrived.sender, arrived.addresses) == ("c@x.example", ["d@x.example"])
    assert (arrived.params["RET"], arrived.recipients[0].params["NOTIFY"]) == ("FULL", "DELAY")

"""A pool, with all that it and a message can be given."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from email.message import EmailMessage
from typing import Unpack

import pysmtpx
from pysmtpx import (
    Event,
    MailFromParams,
    MailObject,
    Outcome,
    RcptToParams,
    RetryPolicy,
    SendResult,
    SmtpPool,
)


def told(event: Event) -> None:
    print(event)


def messages() -> Iterator[EmailMessage | MailObject]:
    message = EmailMessage()
    message["To"] = "bob@example.org"
    yield message
    yield MailObject(
        "ann@example.org", ["bob@example.org"], message, rcpt_params=RcptToParams(notify="NEVER")
    )


def our_pool(**options: Unpack[pysmtpx.PoolOptions]) -> SmtpPool:
    """Whoever wraps a pool can pass on its options."""
    return SmtpPool("mail.example.org", **options)


def report_to(pool: SmtpPool, message: EmailMessage, **options: Unpack[pysmtpx.SendOptions]) -> SendResult:
    return pool.send_message(message, mail_params=MailFromParams(ret="HDRS"), **options)


with SmtpPool(
    [
        "smtps://a.example.org",
        pysmtpx.Server("b.example.org"),
        pysmtpx.Route("c.example.org", weight=2, max_connections=1, rate=None),
    ],
    max_connections=8,
    max_messages=None,
    max_age=60,
    rate=0.5,
    balance="weighted",
    retry=RetryPolicy(attempts=2, move_on="temporary", quota_rest=60),
    on_event=told,
    in_flight=1,
    port=587,
    username="ann",
    password="secret",
    connect_timeout=3,
) as pool:
    result: SendResult = pool.send(
        "ann@example.org",
        ["bob@example.org"],
        b"Subject: Hi\r\n\r\n",
        mail_params=MailFromParams(envid="1"),
        rcpt_params=[RcptToParams(notify="FAILURE"), None],
        timeout=30,
    )
    for each in messages():
        if isinstance(each, MailObject):
            pool.submit(each, allow_long_lines=True)
            continue
        future: Future[SendResult] = pool.submit(each, sender="", rcpt_params=RcptToParams(notify="DELAY"))
        report_to(pool, each, all_or_nothing=True, timeout=None)
        print(future.result().accepted_recipients)
    outcomes: Iterator[Outcome] = pool.send_many(messages(), ordered=True, sender="list@example.org")
    for outcome in outcomes:
        if outcome.result is not None:
            print(outcome.result.rejected_recipients, outcome.accepted_recipients)
    with pool.connection(timeout=1) as smtp:
        smtp.send_many(list(messages()), overlap=True, mail_params=MailFromParams(ret="FULL"), timeout=5)
    print(pool.stats().queued, pool.servers[0].host, pool.drain(1))

our_pool(max_connections=1, tls="implicit").close(0)

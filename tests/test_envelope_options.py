"""The keywords of a message mean the same wherever it is sent: by a connection and a pool, one or many."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

import pytest

import pysmtpx
from pysmtpx import (
    InputError,
    MailFromParams,
    MailObject,
    Outcome,
    RcptToParams,
    SmtpPool,
    UsageError,
    options,
)
from pysmtpx.testing import MailServer

Way = Callable[..., list[Outcome]]
"""Sends messages to a server with keywords; what is wrong with one is in its outcome."""


def email(**fields: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in {"From": "ann@x.example", "To": "bob@x.example, eve@x.example", **fields}.items():
        message[name] = value
    message.set_content("Hello.\n")
    return message


def each(send: Callable[..., Any], messages: list[Any], **given: Any) -> Iterator[Outcome]:
    for message in messages:
        try:
            yield Outcome.of(message, send(message, **given))
        except pysmtpx.SmtpError as error:
            yield Outcome.of(message, error)


def by_send_message(server: MailServer, messages: list[Any], **given: Any) -> list[Outcome]:
    with pysmtpx.connect(server.url) as smtp:
        return list(each(smtp.send_message, messages, **given))


def by_send_many(server: MailServer, messages: list[Any], **given: Any) -> list[Outcome]:
    with pysmtpx.connect(server.url) as smtp:
        return list(smtp.send_many(messages, **given))


def overlapped(server: MailServer, messages: list[Any], **given: Any) -> list[Outcome]:
    return by_send_many(server, messages, overlap=True, **given)


def in_flight(server: MailServer, messages: list[Any], **given: Any) -> list[Outcome]:
    return by_send_many(server, messages, in_flight=4, **given)


def by_pool_send_message(server: MailServer, messages: list[Any], **given: Any) -> list[Outcome]:
    with SmtpPool(server.url) as pool:
        return list(each(pool.send_message, messages, **given))


def by_submit(server: MailServer, messages: list[Any], **given: Any) -> list[Outcome]:
    with SmtpPool(server.url) as pool:
        return list(each(lambda message, **more: pool.submit(message, **more).result(), messages, **given))


def by_pool_send_many(server: MailServer, messages: list[Any], **given: Any) -> list[Outcome]:
    with SmtpPool(server.url) as pool:
        return list(pool.send_many(messages, ordered=True, **given))


def by_pool_in_flight(server: MailServer, messages: list[Any], **given: Any) -> list[Outcome]:
    with SmtpPool(server.url, in_flight=4, max_connections=1) as pool:
        return list(pool.send_many(messages, ordered=True, **given))


MANY = [by_send_many, overlapped, in_flight, by_submit, by_pool_send_many, by_pool_in_flight]
WAYS = [by_send_message, by_pool_send_message, *MANY]


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as made:
        yield made


# -- what arrives ------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("given", "sender", "recipients"),
    [
        ({}, "ann@x.example", ["bob@x.example", "eve@x.example"]),
        ({"sender": None, "recipients": None}, "ann@x.example", ["bob@x.example", "eve@x.example"]),
        ({"sender": "bounce@x.example"}, "bounce@x.example", ["bob@x.example", "eve@x.example"]),
        ({"sender": ""}, "", ["bob@x.example", "eve@x.example"]),
        ({"recipients": "archive@x.example"}, "ann@x.example", ["archive@x.example"]),
        ({"recipients": ("c@x.example", "d@x.example")}, "ann@x.example", ["c@x.example", "d@x.example"]),
        ({"sender": "a@x.example", "recipients": ["b@x.example"]}, "a@x.example", ["b@x.example"]),
    ],
)
def test_the_envelope_is_that_of_the_headers_but_for_what_is_given(
    way: Way, server: MailServer, given: dict[str, Any], sender: str, recipients: list[str]
) -> None:
    outcomes = way(server, [email(), email()], **given)
    assert [outcome.status for outcome in outcomes] == ["accepted", "accepted"]
    assert [(arrived.sender, arrived.addresses) for arrived in server.messages] == [(sender, recipients)] * 2
    for arrived in server.messages:
        assert b"To: bob@x.example, eve@x.example" in arrived.content


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("rcpt_params", "notify"),
    [
        (RcptToParams(notify="FAILURE"), ["FAILURE", "FAILURE"]),
        ([RcptToParams(notify="FAILURE"), RcptToParams(notify="NEVER")], ["FAILURE", "NEVER"]),
        ((None, RcptToParams(notify=("DELAY", "SUCCESS"))), [None, "DELAY,SUCCESS"]),
    ],
)
def test_parameters_are_one_for_all_or_one_for_each(
    way: Way, server: MailServer, rcpt_params: Any, notify: list[str | None]
) -> None:
    params = MailFromParams(ret="HDRS", envid="order 7")
    outcomes = way(server, [email(), email()], mail_params=params, rcpt_params=rcpt_params)
    assert [outcome.status for outcome in outcomes] == ["accepted", "accepted"]
    for arrived in server.messages:
        assert (arrived.params["RET"], arrived.params["ENVID"]) == ("HDRS", "order+207")
        assert [each.params.get("NOTIFY") for each in arrived.recipients] == notify


@pytest.mark.parametrize("way", WAYS)
def test_all_or_nothing(way: Way) -> None:
    with MailServer(refuse={"eve@x.example": "550 5.1.1 unknown"}) as server:
        (outcome,) = way(server, [email()], all_or_nothing=True)
        assert isinstance(outcome.error, pysmtpx.RecipientsRejected)
        assert server.messages == []
        (outcome,) = way(server, [email()], all_or_nothing=False)
        assert outcome.accepted_recipients == ("bob@x.example",)


@pytest.mark.parametrize("way", MANY)
def test_long_lines_go_only_where_they_are_allowed(way: Way) -> None:
    mail = MailObject("a@x.example", "b@x.example", b"Subject: a\r\n\r\n" + b"x" * 1200)
    with MailServer(strict=False) as server:
        refused, taken = way(server, [mail])[0], way(server, [mail], allow_long_lines=True)[0]
    assert (refused.status, taken.status) == ("unsent", "accepted")


# -- what is wrong -----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rcpt_params": [RcptToParams()]}, "1 entries for 2"),
        ({"rcpt_params": RcptToParams(orcpt="bob@x.example")}, "orcpt"),
        ({"rcpt_params": [MailFromParams(), None]}, "rcpt_params"),
        ({"rcpt_params": 1}, "rcpt_params"),
        ({"mail_params": RcptToParams()}, "mail_params"),
        ({"recipients": []}, "no recipient"),
        ({"recipients": 1}, "recipients must be"),
        ({"sender": "a@x.example\r\nRSET"}, "not a domain name"),
    ],
)
def test_what_cannot_be_right_sends_nothing(
    way: Way, server: MailServer, given: dict[str, Any], text: str
) -> None:
    (outcome,) = way(server, [email()], **given)
    assert outcome.status == "unsent"
    assert isinstance(outcome.error, InputError)
    assert text in str(outcome.error)
    assert server.messages == []


@pytest.mark.parametrize("way", MANY)
@pytest.mark.parametrize(
    "given",
    [
        {"sender": "c@x.example"},
        {"sender": ""},
        {"recipients": "c@x.example"},
        {"mail_params": MailFromParams()},
        {"rcpt_params": RcptToParams()},
    ],
)
@pytest.mark.parametrize("content", [b"Subject: a\r\n\r\n", email()])
def test_a_mail_object_has_an_envelope_of_its_own(
    way: Way, server: MailServer, given: dict[str, Any], content: Any
) -> None:
    """The message before it and the one behind it are sent."""
    mail = MailObject("a@x.example", "b@x.example", content)
    first, refused, last = way(server, [email(), mail, email()], **given)
    assert (first.status, refused.status, last.status) == ("accepted", "unsent", "accepted")
    assert isinstance(refused.error, UsageError)
    assert "envelope of its own" in str(refused.error)
    assert refused.unsent_recipients == ("b@x.example",)
    assert len(server.messages) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "meant"),
    [("tiemout", "timeout"), ("rcpt_param", "rcpt_params"), ("recipient", "recipients"), ("from_addr", "")],
)
def test_a_keyword_that_is_none_is_told_at_once(way: Way, server: MailServer, name: str, meant: str) -> None:
    text = f"no such option: '{name}'; " + (
        f"did you mean {meant}\\?" if meant else "there are all_or_nothing"
    )
    try:
        (outcome,) = way(server, [email()], **{name: "secret"})
        error: Exception | None = outcome.error
    except InputError as caught:
        error = caught
    assert isinstance(error, TypeError)
    assert re.search(text, str(error))
    assert "secret" not in str(error)
    assert server.messages == []


def test_send_many_tells_of_a_wrong_keyword_before_it_is_asked_for_an_outcome(server: MailServer) -> None:
    with pysmtpx.connect(server.url) as smtp, SmtpPool(server.url) as pool:
        for each in (smtp, pool):
            with pytest.raises(InputError, match="tiemout"):
                each.send_many([], tiemout=1)  # type: ignore[attr-defined]


# -- with an envelope by position --------------------------------------------------


@pytest.mark.parametrize(
    "rcpt_params", [RcptToParams(notify="FAILURE"), [RcptToParams(notify="FAILURE")] * 2]
)
def test_send_takes_parameters_on_a_connection_and_a_pool(server: MailServer, rcpt_params: Any) -> None:
    to = ["b@x.example", "c@x.example"]
    with pysmtpx.connect(server.url) as smtp, SmtpPool(server.url) as pool:
        for each in (smtp, pool):
            each.send(  # type: ignore[attr-defined]
                "a@x.example",
                to,
                b"Subject: a\r\n\r\n",
                mail_params=MailFromParams(ret="FULL"),
                rcpt_params=rcpt_params,
                timeout=5,
                all_or_nothing=True,
            )
            with pytest.raises(InputError, match="did you mean mail_params"):
                each.send("a@x.example", to, b"", mail_param=None)  # type: ignore[attr-defined]
    for arrived in server.messages:
        assert (arrived.sender, arrived.addresses, arrived.params["RET"]) == ("a@x.example", to, "FULL")
        assert [each.params["NOTIFY"] for each in arrived.recipients] == ["FAILURE", "FAILURE"]


def test_a_mail_object_takes_one_for_all() -> None:
    one = RcptToParams(notify="NEVER")
    assert MailObject("a@x.example", ["b@x.example", "c@x.example"], b"", rcpt_params=one).rcpt_params == (
        one,
        one,
    )
    original = RcptToParams(orcpt="rfc822;d@x.example")
    assert MailObject("a@x.example", "b@x.example", b"", rcpt_params=original).rcpt_params == (original,)


# -- signatures --------------------------------------------------------------------


def names(function: Any) -> dict[str, Any]:
    found = inspect.signature(function).parameters.values()
    assert not [each for each in found if each.kind is each.VAR_KEYWORD]
    return {each.name: each.default for each in found if each.kind is each.KEYWORD_ONLY}


@pytest.mark.parametrize("kind", [pysmtpx.SmtpConnection, SmtpPool])
@pytest.mark.parametrize("name", ["send_message", "submit", "send_many"])
def test_a_signature_lists_the_keywords_of_a_message(kind: type, name: str) -> None:
    if hasattr(kind, name):
        assert names(getattr(kind, name)).items() >= options.MESSAGE_DEFAULTS.items()


@pytest.mark.parametrize("kind", [pysmtpx.SmtpConnection, SmtpPool])
def test_a_signature_lists_the_keywords_of_a_transaction(kind: type) -> None:
    of_headers = {"sender": None, "recipients": None}
    assert names(kind.send) == {  # type: ignore[attr-defined]
        name: value for name, value in options.MESSAGE_DEFAULTS.items() if name not in of_headers
    }


@pytest.mark.parametrize("receiver", [pysmtpx.SmtpConnection._send, pysmtpx.pool._job])
def test_what_uses_them_has_the_same_defaults(receiver: Any) -> None:
    assert receiver.__kwdefaults__.items() >= options.MESSAGE_DEFAULTS.items()
    assert set(options.MessageOptions.__annotations__) == set(options.MESSAGE_DEFAULTS)
    assert set(options.ENVELOPE) == {
        name for name in options.MESSAGE_DEFAULTS if name not in options.SendOptions.__annotations__
    }

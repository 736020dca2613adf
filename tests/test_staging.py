"""``redirect_to`` and ``allow_recipients``: whoever is not meant to have mail gets none, by whichever way."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

import pytest

import pysmtpx
from pysmtpx import (
    ConnectionLost,
    InputError,
    MailFromParams,
    MailObject,
    Outcome,
    RcptToParams,
    RecipientsWithheld,
    RetryPolicy,
    SendResult,
    Server,
    SmtpError,
    SmtpPool,
)
from pysmtpx.outgoing import FIELD
from pysmtpx.testing import Cut, Event, MailServer

SENDER = "app@example.org"
DEV = "dev@example.org"
CUSTOMERS = ["ann@example.com", "bob@example.net"]
LINE = b"Subject: x\r\n\r\n.hello\r\n"


def email(to: str = "ann@example.com", cc: str = "", bcc: str = "bob@example.net") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, to, "grüße"
    if cc:
        message["Cc"] = cc
    if bcc:
        message["Bcc"] = bcc
    message.set_content("Grüße\n")
    return message


def _by_connection(send: Callable[[pysmtpx.SmtpConnection], Any]) -> Callable[..., Any]:
    def run(url: str, **options: Any) -> Any:
        with pysmtpx.connect(url, **options) as smtp:
            return send(smtp)

    return run


def _by_pool(send: Callable[[SmtpPool], Any]) -> Callable[..., Any]:
    def run(url: str, **options: Any) -> Any:
        with SmtpPool(url, **options) as pool:
            return send(pool)

    return run


def _leased(pool: SmtpPool) -> Any:
    with pool.connection() as smtp:
        return smtp.send(SENDER, CUSTOMERS, LINE)


def _one(outcomes: Iterator[Outcome]) -> SendResult:
    (outcome,) = outcomes
    if outcome.error is not None:
        assert outcome.withheld_recipients == outcome.error.withheld_recipients
        raise outcome.error
    assert outcome.status == "accepted"
    assert outcome.result is not None
    return outcome.result


MAIL = MailObject(SENDER, CUSTOMERS, LINE)
WAYS: dict[str, Callable[..., SendResult]] = {
    "send": _by_connection(lambda smtp: smtp.send(SENDER, CUSTOMERS, LINE)),
    "send an email": _by_connection(lambda smtp: smtp.send(SENDER, CUSTOMERS, email())),
    "send_with_params": _by_connection(
        lambda smtp: smtp.send_with_params(SENDER, CUSTOMERS, LINE, MailFromParams(ret="HDRS"))
    ),
    "send_with_all_params": _by_connection(
        lambda smtp: smtp.send_with_all_params(
            SENDER, CUSTOMERS, LINE, None, [RcptToParams(notify=("NEVER",)), None]
        )
    ),
    "send_bdat": _by_connection(lambda smtp: smtp.send_bdat(SENDER, CUSTOMERS, LINE)),
    "send_message": _by_connection(lambda smtp: smtp.send_message(email())),
    "send_message of octets": _by_connection(
        lambda smtp: smtp.send_message(LINE, sender=SENDER, recipients=CUSTOMERS)
    ),
    "send_message of a file": _by_connection(
        lambda smtp: smtp.send_message(io.BytesIO(LINE), sender=SENDER, recipients=CUSTOMERS)
    ),
    "send_many": _by_connection(lambda smtp: _one(smtp.send_many([MAIL]))),
    "send_many of emails": _by_connection(lambda smtp: _one(smtp.send_many([email()]))),
    "send_many by iterator": _by_connection(lambda smtp: _one(smtp.send_many(iter([email()])))),
    "send_many in flight": _by_connection(lambda smtp: _one(smtp.send_many([MAIL], in_flight=2))),
    "pool.send": _by_pool(lambda pool: pool.send(SENDER, CUSTOMERS, LINE)),
    "pool.send of chunks": _by_pool(lambda pool: pool.send(SENDER, CUSTOMERS, iter([LINE[:9], LINE[9:]]))),
    "pool.send of a buffer": _by_pool(lambda pool: pool.send(SENDER, CUSTOMERS, bytearray(LINE))),
    "pool.send_message": _by_pool(lambda pool: pool.send_message(email())),
    "pool.submit": _by_pool(lambda pool: pool.submit(MAIL).result(20)),
    "pool.submit an email": _by_pool(lambda pool: pool.submit(email()).result(20)),
    "pool.send_many": _by_pool(lambda pool: _one(pool.send_many([MAIL]))),
    "pool.send_many of emails": _by_pool(lambda pool: _one(pool.send_many([email()]))),
    "pool.connection": _by_pool(_leased),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Callable[..., SendResult]:
    return WAYS[request.param]


def field_of(content: bytes) -> str:
    head = content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").split(b"\r\n")
    (found,) = [line for line in head if line.startswith(FIELD.encode())]
    return found.decode()


@pytest.mark.parametrize("extensions", [None, ("PIPELINING", "CHUNKING", "DSN")])
def test_every_message_goes_elsewhere(way: Callable[..., SendResult], extensions: Any) -> None:
    """Also to a server that has it in its other form."""
    options = {} if extensions is None else {"extensions": extensions}
    with MailServer(**options) as server:
        result = way(server.url, redirect_to=DEV)
    (got,) = server.messages
    assert got.addresses == [DEV]
    assert got.sender == SENDER
    assert field_of(got.content) == f"{FIELD}: ann@example.com, bob@example.net"
    assert b".hello\r\n" in got.content or b"Subject: =?utf-8?" in got.content
    assert result.accepted_recipients == (DEV,)
    assert result.withheld_recipients == tuple(CUSTOMERS)


def test_some_are_not_sent_to(way: Callable[..., SendResult]) -> None:
    with MailServer() as server:
        result = way(server.url, allow_recipients=["Example.COM"])
    (got,) = server.messages
    assert got.addresses == ["ann@example.com"]
    assert FIELD.encode() not in got.content
    assert result.accepted_recipients == ("ann@example.com",)
    assert result.withheld_recipients == ("bob@example.net",)
    assert result.rejected_recipients == ()


def test_nobody_is_left(way: Callable[..., SendResult]) -> None:
    with MailServer() as server, pytest.raises(RecipientsWithheld, match=r"ann@example\.com") as caught:
        way(server.url, allow_recipients=[".example.com"])
    assert server.messages == []
    assert not any(connection.transactions for connection in server.ledger.connections)
    error = caught.value
    assert error.withheld_recipients == tuple(CUSTOMERS)
    assert error.unsent_recipients == error.accepted_recipients == error.rejected_recipients == ()
    assert not error.safe_to_retry
    assert "redirect_to" in error.cure


def test_those_allowed_directly_and_the_others_elsewhere(way: Callable[..., SendResult]) -> None:
    with MailServer() as server:
        result = way(server.url, allow_recipients={"ann@example.com"}, redirect_to=[DEV, "ann@example.com"])
    (got,) = server.messages
    assert got.addresses == ["ann@example.com", DEV]  # nobody twice
    assert field_of(got.content) == f"{FIELD}: bob@example.net"
    assert result.withheld_recipients == ("bob@example.net",)


def test_whoever_is_allowed_gets_what_everybody_would(way: Callable[..., SendResult]) -> None:
    with MailServer() as server:
        result = way(server.url, allow_recipients=["example.com", "example.net"], redirect_to=DEV)
    (got,) = server.messages
    assert got.addresses == CUSTOMERS
    assert FIELD.encode() not in got.content
    assert result.withheld_recipients == ()


def test_a_refusal_tells_of_those_left_and_of_the_others(way: Callable[..., SendResult]) -> None:
    with MailServer(refuse={DEV: "550 5.1.1 unknown"}) as server, pytest.raises(SmtpError) as caught:
        way(server.url, redirect_to=DEV)
    assert [each.recipient for each in caught.value.rejected_recipients] == [DEV]
    assert caught.value.withheld_recipients == tuple(CUSTOMERS)
    assert server.messages == []


def test_a_function_decides() -> None:
    asked: list[Any] = []

    def allowed(address: str) -> bool:
        asked.append(address)
        return address.startswith("ann@")

    with MailServer() as server, pysmtpx.connect(server.url, allow_recipients=allowed) as smtp:
        result = smtp.send_message(email())
    assert result.accepted_recipients == ("ann@example.com",)
    assert asked == CUSTOMERS
    assert [type(each) for each in asked] == [str, str]


def test_a_function_is_asked_once_a_message_whatever_becomes_of_it() -> None:
    """One that changes its mind must not put the places of recipients out of step."""
    asked: list[str] = []
    tries: list[Event] = []

    def allowed(address: str) -> bool:
        asked.append(address)
        return len(asked) == 1

    def verdict(event: Event) -> str | None:
        if event.verb != "MAIL":
            return None
        tries.append(event)
        return "451 4.3.0 later" if len(tries) < 3 else None

    retry = RetryPolicy(attempts=5, backoff=0.01, temporary=True)
    with MailServer(verdict=verdict, extensions=("PIPELINING",)) as server:
        with SmtpPool(server.url, allow_recipients=allowed, redirect_to=DEV, retry=retry) as pool:
            result = pool.send_message(email())
        assert len(tries) == 3
        (got,) = server.messages
    assert asked == CUSTOMERS
    assert got.addresses == ["ann@example.com", DEV]
    assert result.accepted_recipients == ("ann@example.com", DEV)
    assert result.withheld_recipients == ("bob@example.net",)


def test_nothing_is_sent_if_the_function_fails(way: Callable[..., SendResult]) -> None:
    def allowed(address: str) -> bool:
        raise KeyError("s3cr3t")

    with MailServer() as server, pytest.raises(InputError, match="KeyError") as caught:
        way(server.url, allow_recipients=allowed)
    assert server.messages == []
    assert isinstance(caught.value.__cause__, KeyError)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "address", "is_allowed"),
    [
        ("example.org", "ann@example.org", True),
        ("@example.org", "ann@EXAMPLE.org", True),
        ("example.org", "ann@sub.example.org", False),
        (".example.org", "ann@sub.example.org", True),
        (".example.org", "ann@example.org", False),
        ("example.org", "ann@notexample.org", False),
        (".example.org", "ann@notexample.org", False),
        ("ann@example.org", "Ann@Example.org", True),
        ("ann@example.org", "bea@example.org", False),
        ("ann@example.org", "xann@example.org", False),
        ("bücher.example", "ann@xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "ann@bücher.example", True),
        ("jürgen@example.org", "jürgen@example.org", True),
        ("[192.0.2.1]", "ann@[192.0.2.1]", True),
        ("example.org", '"ann@example.org"@example.com', False),
        ("postmaster", "postmaster", False),
        ("ann@example.org", '"ann"@example.org', True),
        ('"ann"@example.org', "ann@example.org", True),
    ],
)
def test_addresses_and_domains(entry: str, address: str, is_allowed: bool) -> None:
    outgoing = Server("localhost", allow_recipients=entry).outgoing
    assert outgoing is not None
    assert outgoing.allows(pysmtpx.ForwardPath(address)) is is_allowed


@pytest.mark.parametrize(
    "options",
    [
        {"redirect_to": ""},
        {"redirect_to": []},
        {"redirect_to": "dev"},
        {"redirect_to": ["dev@example.org", "a b@example.org"]},
        {"redirect_to": 7},
        {"redirect_to": b"dev@example.org"},
        {"allow_recipients": ""},
        {"allow_recipients": "@"},
        {"allow_recipients": ["*"]},
        {"allow_recipients": ["a b@example.org"]},
        {"allow_recipients": [7]},
        {"allow_recipients": 7},
    ],
)
def test_what_cannot_be_right_is_refused(options: dict[str, Any]) -> None:
    """A variable that is empty must not let mail out."""
    if options == {"redirect_to": "dev"}:  # a mailbox of a server on this host, perhaps
        return
    for make in (Server, SmtpPool):
        with pytest.raises(InputError, match=next(iter(options))):
            make("localhost", **options)


def test_by_url_and_back() -> None:
    url = "smtp://localhost?redirect_to=dev@example.org,ops@example.org&allow_recipients=example.org,a@b.example"
    server = Server.from_url(url)
    assert server.redirect_to == (DEV, "ops@example.org")
    assert server.allow_recipients == ("@example.org", "a@b.example")
    assert Server.from_url(server.url) == server
    assert server.replace(port=2525).redirect_to == server.redirect_to
    assert Server.from_url("smtp://localhost?allow_recipients=").allow_recipients == ()
    with pytest.raises(InputError, match="redirect_to"):
        Server.from_url("smtp://localhost?redirect_to=")


def test_a_pool_by_url() -> None:
    with MailServer() as server, SmtpPool(f"{server.url}?redirect_to={DEV}") as pool:
        assert pool.send(SENDER, CUSTOMERS, LINE).accepted_recipients == (DEV,)
        assert pool.send(SENDER, [DEV], LINE).withheld_recipients == ()  # it was for him anyway


def test_servers_of_a_pool_do_not_differ() -> None:
    with pytest.raises(InputError, match="give them to the pool"):
        SmtpPool([f"smtp://127.0.0.1?redirect_to={DEV}", "smtp://127.0.0.2"])
    both = [f"smtp://127.0.0.{n}?redirect_to={DEV}" for n in (1, 2)]
    SmtpPool(both).close()
    SmtpPool(["smtp://127.0.0.1", "smtp://127.0.0.2"], redirect_to=DEV).close()


def test_lmtp() -> None:
    with MailServer(protocol="lmtp") as server, pysmtpx.connect(server.url, redirect_to=DEV) as smtp:
        result = smtp.send_lmtp(SENDER, CUSTOMERS, LINE)
        assert result.accepted_recipients == (DEV,)
        assert smtp.send_message(email()).withheld_recipients == tuple(CUSTOMERS)
        assert smtp.send_lmtp_bdat(SENDER, CUSTOMERS, LINE).withheld_recipients == tuple(CUSTOMERS)
    assert {tuple(got.addresses) for got in server.messages} == {(DEV,)}


def test_a_part_has_it_and_the_rest_is_told_in_an_outcome() -> None:
    """An acceptance, a loss and somebody withheld, in one outcome."""
    refuse = {"eve@example.com": "550 5.1.1 unknown"}
    recipients = ["ann@example.com", "eve@example.com", "bob@example.net"]
    with MailServer(refuse=refuse) as server:
        for make in (pysmtpx.connect, SmtpPool):
            with make(server.url, allow_recipients="example.com") as client:
                (outcome,) = client.send_many([MailObject(SENDER, recipients, LINE)])
            assert outcome.status == "accepted"
            assert outcome.accepted_recipients == ("ann@example.com",)
            assert [each.recipient for each in outcome.rejected_recipients] == ["eve@example.com"]
            assert outcome.withheld_recipients == ("bob@example.net",)
            assert outcome.unsent_recipients == ()


def test_a_loss_names_them_too() -> None:
    with MailServer(replies={"MAIL": Cut()}) as server:
        for make in (pysmtpx.connect, SmtpPool):
            with make(server.url, redirect_to=DEV) as client, pytest.raises(ConnectionLost) as caught:
                client.send(SENDER, CUSTOMERS, LINE)
            assert caught.value.unsent_recipients == (DEV,)
            assert caught.value.withheld_recipients == tuple(CUSTOMERS)


def test_many_names_in_fields_that_no_server_cuts() -> None:
    customers = [f"customer{n}@example.com" for n in range(1234)]
    with MailServer() as server, pysmtpx.connect(server.url, redirect_to=DEV) as smtp:
        smtp.send(SENDER, customers, LINE)
    (got,) = server.messages
    head = got.content.removesuffix(LINE).decode()
    assert max(map(len, head.split("\r\n"))) < 78
    assert max(map(len, head.replace("\r\n ", " ").split("\r\n"))) < 4000
    assert [part.strip(" ,") for part in head.replace(f"{FIELD}:", "").split()] == customers


def test_letters_beyond_ascii_need_no_smtputf8() -> None:
    with MailServer(extensions=("PIPELINING",)) as server:
        for make in (pysmtpx.connect, SmtpPool):
            with make(server.url, redirect_to=DEV) as client:
                client.send(SENDER, ["jürgen@bücher.example"], LINE)
    for got in server.messages:
        assert got.content.isascii()
        assert field_of(got.content) == f"{FIELD}: =?utf-8?q?j=C3=BCrgen=40xn--bcher-kva=2Eexample?="


def test_a_size_that_the_caller_gave_counts_the_field() -> None:
    params = MailFromParams(size=len(LINE))
    with MailServer() as server, pysmtpx.connect(server.url, redirect_to=DEV) as smtp:
        smtp.send(SENDER, CUSTOMERS, iter([LINE]), mail_params=params)
    (got,) = server.messages
    assert got.params["SIZE"] == str(got.size)


def test_a_buffer_that_changes_after_submit() -> None:
    buffer = bytearray(LINE)
    with MailServer() as server, SmtpPool(server.url, redirect_to=DEV) as pool:
        future = pool.submit(MailObject(SENDER, CUSTOMERS, buffer))
        buffer[:] = b"x" * len(buffer)
        future.result(20)
    assert server.messages[0].content.endswith(LINE)


def test_the_log_says_so_once_a_pool_and_for_each_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pysmtpx")
    with (
        MailServer() as server,
        SmtpPool(server.url, redirect_to=DEV, allow_recipients="example.com") as pool,
    ):
        for _ in range(3):
            pool.send(SENDER, CUSTOMERS, LINE)
    said = [record for record in caplog.records if "redirected" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING] + 3 * [logging.DEBUG]
    assert said[0].getMessage().endswith(f"does not allow is redirected to {DEV}")
    assert said[1].getMessage() == "mail to bob@example.net is redirected"


def test_errors_pickle() -> None:
    with (
        MailServer() as server,
        pysmtpx.connect(server.url, allow_recipients=()) as smtp,
        pytest.raises(RecipientsWithheld) as caught,
    ):
        smtp.send(SENDER, CUSTOMERS, LINE)
    assert pickle.loads(pickle.dumps(caught.value)).withheld_recipients == tuple(CUSTOMERS)

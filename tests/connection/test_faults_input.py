"""FAULTS group J as a caller sees it: nothing from the caller becomes a command, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from support.fates import BODY, SENDER, assert_kept, attempt, send
from support.scripted import Peer, ScriptedServer
from support.transports import dialled, serving

from pysmtpx import (
    InputError,
    MailFromParams,
    NotSupportedError,
    RcptToParams,
    SendResult,
    Server,
    SmtpConnection,
    connect,
)

A, B = "a@x.example", "b@x.example"
INJECTIONS = ("\r\nRSET", "\n", "\r", "\0", "\x1b[2J", "\t", "\x7f", "\x85", "\x9b", "\u2028", "\ud800")
EVERYTHING = [
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "CHUNKING",
    "BINARYMIME",
    "SMTPUTF8",
    "DSN",
    "AUTH PLAIN",
    "REQUIRETLS",
    "MT-PRIORITY MIXER",
    "FUTURERELEASE 99999 2099-01-01T00:00:00Z",
    "DELIVERBY",
    "RRVS",
    "X-KNOWN",
]


def _mail(params: Callable[[str], Any]) -> Callable[[SmtpConnection, str], Any]:
    return lambda conn, bad: conn.send_with_params(SENDER, A, BODY, params(bad))


def _rcpt(params: Callable[[str], Any]) -> Callable[[SmtpConnection, str], Any]:
    return lambda conn, bad: conn.send_with_all_params(SENDER, [A], BODY, None, [params(bad)])


def _message(**headers: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = SENDER, A
    message.set_content("hi")
    return message


ARGUMENTS: dict[str, Callable[[SmtpConnection, str], Any]] = {
    "send sender": lambda conn, bad: conn.send(f"s{bad}@x.example", A, BODY),
    "send sender domain": lambda conn, bad: conn.send(f"s@x{bad}.example", A, BODY),
    "send sender end": lambda conn, bad: conn.send(f"s@x.example{bad}", A, BODY),
    "send recipient": lambda conn, bad: conn.send(SENDER, [A, f"r{bad}@x.example"], BODY),
    "send recipient quoted": lambda conn, bad: conn.send(SENDER, f'"r{bad}"@x.example', BODY),
    "send recipient domain": lambda conn, bad: conn.send(SENDER, f"r@x{bad}.example", BODY),
    "send recipient literal": lambda conn, bad: conn.send(SENDER, f"r@[IPv6:::1{bad}]", BODY),
    "send_with_params sender": lambda conn, bad: conn.send_with_params(f"s{bad}@x.example", A, BODY, None),
    "send_with_params envid": _mail(lambda bad: MailFromParams(envid=f"id{bad}")),
    "send_with_params auth": _mail(lambda bad: MailFromParams(auth=f"u{bad}@x.example")),
    "send_with_params body": _mail(lambda bad: MailFromParams(body=f"7BIT{bad}")),  # type: ignore[arg-type]
    "send_with_params ret": _mail(lambda bad: MailFromParams(ret=f"FULL{bad}")),  # type: ignore[arg-type]
    "send_with_params size": _mail(lambda bad: MailFromParams(size=f"1{bad}")),  # type: ignore[arg-type]
    "send_with_params holdfor": _mail(lambda bad: MailFromParams(holdfor=f"1{bad}")),  # type: ignore[arg-type]
    "send_with_params priority": _mail(
        lambda bad: MailFromParams(mt_priority=f"1{bad}")  # type: ignore[arg-type]
    ),
    "send_with_params by": _mail(lambda bad: MailFromParams(by=f"60;R{bad}")),  # type: ignore[arg-type]
    "send_with_params holduntil": _mail(lambda bad: MailFromParams(holduntil=f"2027-01-01T00:00:00Z{bad}")),
    "send_with_params keyword": _mail(lambda bad: MailFromParams(extra={f"X-KNOWN{bad}": "x"})),
    "send_with_params value": _mail(lambda bad: MailFromParams(extra={"X-KNOWN": f"x{bad}"})),
    "send_with_all_params orcpt": _rcpt(lambda bad: RcptToParams(orcpt=f"rfc822;a{bad}@x.example")),
    "send_with_all_params orcpt type": _rcpt(lambda bad: RcptToParams(orcpt=f"rfc{bad};a@x.example")),
    "send_with_all_params notify": _rcpt(
        lambda bad: RcptToParams(notify=(f"NEVER{bad}",))  # type: ignore[arg-type]
    ),
    "send_with_all_params rrvs": _rcpt(lambda bad: RcptToParams(rrvs=f"2027-01-01T00:00:00Z{bad}")),
    "send_with_all_params keyword": _rcpt(lambda bad: RcptToParams(extra={f"X-KNOWN{bad}": None})),
    "send_with_all_params value": _rcpt(lambda bad: RcptToParams(extra={"X-KNOWN": f"x{bad}"})),
    "send_bdat sender": lambda conn, bad: conn.send_bdat(f"s{bad}@x.example", A, BODY),
    "send_bdat recipient": lambda conn, bad: conn.send_bdat(SENDER, [A, f"r{bad}@x.example"], BODY),
    "send_message sender": lambda conn, bad: conn.send_message(_message(), sender=f"s{bad}@x.example"),
    "send_message recipient": lambda conn, bad: conn.send_message(
        _message(), recipients=[f"r{bad}@x.example"]
    ),
    "verify": lambda conn, bad: conn.verify(f"ann{bad}"),
    "expand": lambda conn, bad: conn.expand(f"list{bad}"),
    "help": lambda conn, bad: conn.help(f"topic{bad}"),
    "command verb": lambda conn, bad: conn.command(f"NOOP{bad}"),
    "command argument": lambda conn, bad: conn.command("NOOP", f"x{bad}"),
}


def _idle(peer: Peer) -> None:
    peer.greet(*EVERYTHING)
    peer.rest()


@pytest.fixture(scope="module")
def idle() -> Iterator[tuple[ScriptedServer, SmtpConnection]]:
    """A connection on which nothing may be written."""
    with ScriptedServer(_idle) as server:
        conn = server.connect(local_hostname="c.example")
        yield server, conn
        conn.close()
        assert server.received == b"EHLO c.example\r\n"


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("bad", INJECTIONS, ids=ascii)
def test_a_control_in_any_argument_is_refused(idle: Any, argument: str, bad: str) -> None:
    """FAULTS 100: by every public method, before an octet is written."""
    _, conn = idle
    error = attempt(ARGUMENTS[argument], conn, bad)
    assert isinstance(error, InputError)
    assert isinstance(error, ValueError)
    assert error.stage == "input"
    assert not error.temporary
    assert not error.safe_to_retry
    assert str(error).isprintable()
    assert not conn.closed
    assert conn._channel._driver.stream._sock.fileno() >= 0


CONNECTING: dict[str, Callable[[str], dict[str, Any]]] = {
    "host": lambda bad: {"target": f"127.0.0.1{bad}"},
    "host name": lambda bad: {"target": f"mail{bad}.test"},
    "path": lambda bad: {"target": f"/run/x{bad}"},
    "url": lambda bad: {"target": f"smtp://mail{bad}.test"},
    "url option": lambda bad: {"target": f"smtp://mail.test?local_hostname=x{bad}.example"},
    "local_hostname": lambda bad: {"local_hostname": f"c{bad}.example"},
    "local_hostname literal": lambda bad: {"local_hostname": f"[127.0.0.1{bad}]"},
    "server_hostname": lambda bad: {"server_hostname": f"mail{bad}.test", "tls": "starttls"},
    "source_address": lambda bad: {"source_address": f"127.0.0.1{bad}"},
    "username": lambda bad: {"username": f"u{bad}", "password": "p", "auth": "PLAIN"},
    "auth": lambda bad: {"username": "u", "password": "p", "auth": f"PLAIN{bad}"},
    "protocol": lambda bad: {"protocol": f"smtp{bad}"},
    "tls": lambda bad: {"tls": f"none{bad}"},
}


@pytest.mark.parametrize("argument", CONNECTING)
@pytest.mark.parametrize("bad", ["\r\nRSET", "\n", "\r", "\0"], ids=ascii)
def test_a_control_in_any_argument_of_connect_is_refused(argument: str, bad: str) -> None:
    """FAULTS 100: before anything is dialled."""
    with serving() as server:
        options = {"target": server.host, "port": server.port, **CONNECTING[argument](bad)}
        if options["target"] != server.host:
            del options["port"]
        error = attempt(connect, **options)
        assert isinstance(error, InputError)
        assert server.ledger.connections == []


@pytest.mark.parametrize(
    "path",
    [
        "a@x> NOTIFY=NEVER <b",  # FAULTS 101
        "a@x.example> SIZE=1",
        "a b@x.example",
        "a@x .example",
        " a@x.example",
        "a@x.example ",
        "<a@x.example>",
        '"a@evil x"b@x.example',  # FAULTS 102
        '"a@x.example',
        '"a\\"@x.example',
        "Bob <a@x.example>",  # FAULTS 103
        "a@x.example,b@y.example",
        "a@x.example;b@y.example",
        "a(comment)@x.example",
        "a@x.example (Bob)",
        "a\t@x.example",
        "",  # FAULTS 104
        "<>",
        "@x.example",
        "a@",
        "a@@x.example",
        "a@x..example",
        "a@-x.example",
        "l" * 250 + "@x.example",  # FAULTS 105
        "a@" + ".".join(["d" * 60] * 5) + ".example",
        "a@" + "d" * 64 + ".example",
        "@one.example,@two.example:a@x.example",
        "a@x＞evil.example",  # FAULTS 106
        "a@x＠evil.example",
        "a@x\u3000y.example",
        "a@x。\r\n",
        "a@xn--\u00fc.example",
        "a@[300.1.1.1]",
        "a@[IPv6:zz]",
        "((((" * 50_000 + "a@x.example",  # FAULTS 111
        "<" * 100_000,
        "a" * 1_000_000,
        '"' + "\\" * 300_001 + '"@x.example',
    ],
    ids=lambda path: ascii(path[:30]),
)
def test_what_is_no_recipient(idle: Any, path: str) -> None:
    """FAULTS 101 to 106, 111: in linear time."""
    _, conn = idle
    for call in (conn.send, conn.send_bdat):
        error = attempt(call, SENDER, [A, path], BODY)
        assert isinstance(error, InputError)
        assert len(str(error)) < 2000
    if path not in ("", "<>"):
        assert isinstance(attempt(conn.send, path, A, BODY), InputError)


def test_the_null_sender_and_quoted_local_parts_pass() -> None:
    """FAULTS 102, 104: null only as the sender, and quoting kept exactly."""
    quoted = '"a@evil x"@x.example', '"q\\"uo\\\\te"@x.example', '"<b>"@x.example', '"a b"@x.example'
    with serving() as server, dialled(server) as conn:
        assert isinstance(send(conn, quoted), SendResult)
        assert server.messages[0].addresses == list(quoted)
        assert isinstance(conn.send("", A, BODY), SendResult)
        assert server.messages[1].sender == ""


def test_domains_go_as_a_labels_and_by_the_rules_of_today() -> None:
    """FAULTS 106: the stdlib's codec would send faß.de's mail to fass.de."""
    with serving(extensions=["PIPELINING"]) as server, dialled(server) as conn:
        result = send(conn, ["a@faß.de", "b@bücher.example", "c@BÜCHER.example"])
        assert result.accepted_recipients == ("a@faß.de", "b@bücher.example", "c@BÜCHER.example")
        assert server.messages[0].addresses == [
            "a@xn--fa-hia.de",
            "b@xn--bcher-kva.example",
            "c@xn--bcher-kva.example",
        ]


def test_a_local_part_that_needs_smtputf8() -> None:
    """FAULTS 107: where it is not offered nothing is written, and the error names who needs it."""
    with serving(extensions=["PIPELINING"]) as server, dialled(server) as conn:
        error = attempt(conn.send, SENDER, [A, "jörg@x.example"], BODY)
        assert isinstance(error, NotSupportedError)
        assert error.keyword == "SMTPUTF8"
        assert "jörg@x.example" in str(error)
        assert A not in str(error)
        assert server.ledger.commands == [["EHLO"]]
        assert_kept(conn, server)
    with serving() as server, dialled(server) as conn:
        assert isinstance(send(conn, [A, "jörg@x.example"]), SendResult)
        assert server.messages[0].params["SMTPUTF8"] is None


@pytest.mark.parametrize(
    ("params", "keyword"),
    [
        (MailFromParams(envid="x"), "DSN"),
        (MailFromParams(ret="FULL"), "DSN"),
        (MailFromParams(smtputf8=True), "SMTPUTF8"),
        (MailFromParams(body="8BITMIME"), "8BITMIME"),
        (MailFromParams(mt_priority=3), "MT-PRIORITY"),
        (MailFromParams(holdfor=60), "FUTURERELEASE"),
        (MailFromParams(auth="<>"), "AUTH"),
        (MailFromParams(requiretls=True), "REQUIRETLS"),
        (MailFromParams(extra={"X-NEW": None}), "X-NEW"),
        (MailFromParams(size=10), "SIZE"),
    ],
    ids=repr,
)
def test_a_parameter_that_is_not_offered(params: MailFromParams, keyword: str) -> None:
    """FAULTS 111: refused before anything is written, naming the keyword."""
    with serving(extensions=["PIPELINING"]) as server, dialled(server) as conn:
        error = attempt(conn.send_with_params, SENDER, A, BODY, params)
        assert isinstance(error, NotSupportedError)
        assert error.keyword == keyword
        assert server.ledger.commands == [["EHLO"]]
        assert_kept(conn, server)


def test_a_parameter_twice() -> None:
    """FAULTS 111."""
    for extra in ({"SIZE": "1"}, {"x-a": None, "X-A": None}, {"body": "7BIT"}):
        with pytest.raises(InputError):
            MailFromParams(size=1, body="7BIT", extra=extra)


def test_lengths_that_differ() -> None:
    with serving() as server, dialled(server) as conn:
        for params in ([], [RcptToParams()], [RcptToParams()] * 3):
            error = attempt(conn.send_with_all_params, SENDER, [A, B], BODY, None, params)
            assert isinstance(error, InputError)
        assert isinstance(attempt(conn.send, SENDER, [], BODY), InputError)
        assert server.ledger.commands == [["EHLO"]]
        assert_kept(conn, server)


def test_a_server_is_checked_before_it_is_dialled() -> None:
    for options in ({"port": 0}, {"port": 70000}, {"tls": "maybe"}, {"connect_timeout": 0}):
        with pytest.raises(InputError):
            Server("mail.test", **options)  # type: ignore[arg-type]

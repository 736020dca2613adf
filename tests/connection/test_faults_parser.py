"""FAULTS group A as a caller sees it: replies that are cut up, and replies that are none."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support import certs
from support.fates import BODY, RCPTS, SENDER, assert_closed, attempt, fates, send
from support.scripted import CUTS, Peer, ScriptedServer, ehlo
from support.transports import SEQUENTIAL, dialled, serving
from support.verdicts import first

from pysmtpx import (
    AllRecipientsFailed,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    ProtocolError,
    SendResult,
    ServiceUnavailable,
    SmtpConnection,
)
from pysmtpx.testing import EXTENSIONS, Garbage

PATHS = pytest.mark.parametrize("extensions", [EXTENSIONS, SEQUENTIAL], ids=["pipelined", "sequential"])


# -- however the octets are cut up -------------------------------------------------------


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("tls", ["none", "implicit"])
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("keywords", [("PIPELINING", "8BITMIME"), ("8BITMIME",)], ids=["group", "single"])
def test_the_same_result_however_replies_are_cut(keywords: Any, protocol: str, tls: str, cut: str) -> None:
    """FAULTS 1, 7: whole, by line and by octet; a reply may be long, short, or without text."""

    def script(peer: Peer) -> None:
        peer.greet(*keywords, verb="LHLO" if protocol == "lmtp" else "EHLO")
        for reply in (
            b"250\r\n",
            b"250-2.1.5 one\r\n250 2.1.5 two\r\n",
            b"550 \r\n",
            b"251 x\r\n",
            b"354\r\n",
        ):
            peer.line()
            peer.say(reply)
        peer.content()
        peer.say(b"250-first\r\n250 last\r\n", b"452 4.2.2 full\r\n" if protocol == "lmtp" else b"")
        peer.quit()

    context = certs.server_context() if tls == "implicit" else None
    options = {"protocol": protocol, "tls": tls, "ssl_context": certs.client_context() if context else None}
    with ScriptedServer(script, tls=context, cut=cut) as server, server.connect(**options) as conn:
        result = send(conn)
    second = "rejected 452 final" if protocol == "lmtp" else "accepted"
    assert fates(result) == dict(zip(RCPTS, ["accepted", "rejected 550 rcpt", second], strict=True))
    assert result.reply.lines == (b"first", b"last")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("tls", ["starttls", "none"])
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_session_is_opened_however_replies_are_cut(protocol: str, tls: str, cut: str) -> None:
    """FAULTS 1: greeting, EHLO, STARTTLS, EHLO again, AUTH."""
    verb = "LHLO" if protocol == "lmtp" else "EHLO"

    def script(peer: Peer) -> None:
        peer.say(b"220-one\r\n220 two\r\n")
        if tls == "starttls":
            peer.hello("STARTTLS", verb=verb)
            peer.expect("STARTTLS")
            peer.say(b"220 go\r\n")
            peer.tls(certs.server_context())
        peer.hello("AUTH PLAIN", verb=verb)
        peer.expect("AUTH")
        peer.say(b"235-2.7.0 wel\r\n235 2.7.0 come\r\n")
        peer.quit()

    options = {"protocol": protocol, "tls": tls, "username": "u", "password": "p"}
    options |= {"ssl_context": certs.client_context()} if tls == "starttls" else {}
    with ScriptedServer(script, cut=cut) as server, server.connect(**options) as conn:
        assert conn.capabilities.auth == ("PLAIN",)


@pytest.mark.parametrize("cut", CUTS)
def test_an_error_is_the_same_however_a_reply_is_cut(cut: str) -> None:
    """FAULTS 1, 5: the code is that of neither line."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.say(b"550-no\r\n250 yes\r\n")
        peer.rest()

    with ScriptedServer(script, cut=cut) as server:
        conn = server.connect()
        error = send(conn)
        assert type(error) is ProtocolError
        assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)


# -- what is a reply, and what is none -----------------------------------------------------


@pytest.mark.parametrize("reply", [b"250 ok\n", b"250-a\n250-b\r\n250 c\n", b"250 a\rb\r\n", b"250 ok\r\r\n"])
@PATHS
def test_a_bare_lf_ends_a_line_and_a_bare_cr_does_not(reply: bytes, extensions: Any) -> None:
    """FAULTS 4."""
    with serving(extensions=extensions, verdict=first(RCPT0=reply)) as server, dialled(server) as conn:
        assert isinstance(send(conn), SendResult)
        assert isinstance(send(conn), SendResult)


NO_REPLIES = {
    "codes differ": b"550-no\r\n250 yes\r\n",  # FAULTS 5
    "underscore": b"2_5 x\r\n",  # FAULTS 6
    "sign": b"+25 x\r\n",
    "space": b" 25 x\r\n",
    "two digits": b"25\r\n",
    "099": b"099 x\r\n",
    "1xx": b"150 x\r\n",
    "6xx": b"650 x\r\n",
    "999": b"999 x\r\n",
    "superscript": "2²0 x\r\n".encode(),
    "letter": b"250x\r\n",  # FAULTS 7
    "tab": b"250\tx\r\n",
    "blank": b"\r\n250 x\r\n",  # FAULTS 8
    "debug": b"DEBUG: x\r\n250 x\r\n",
    "long line": b"250 " + b"x" * 9000 + b"\r\n",  # FAULTS 10
    "many lines": b"250-x\r\n" * 600 + b"250 x\r\n",  # FAULTS 11
    "many octets": (b"250-" + b"x" * 4000 + b"\r\n") * 30 + b"250 x\r\n",
}


@pytest.mark.parametrize("name", NO_REPLIES)
@pytest.mark.parametrize("position", ["RCPT1", "DATA", "FINAL", "NOOP"])
def test_what_is_no_reply_closes(position: str, name: str) -> None:
    """FAULTS 5, 6, 7, 8, 10, 11, 31."""
    verdict = first(**{position: Garbage(NO_REPLIES[name])})
    with serving(extensions=SEQUENTIAL, verdict=verdict, strict=False) as server:
        conn = dialled(server)
        error = attempt(conn.noop) if position == "NOOP" else send(conn)
        assert type(error) is (DeliveryUnknown if position == "FINAL" else ProtocolError)
        if position != "NOOP":
            assert fates(error) == dict.fromkeys(RCPTS, "unknown" if position == "FINAL" else "unsent")
        assert_closed(conn)


@pytest.mark.parametrize("name", NO_REPLIES)
@pytest.mark.parametrize("place", ["greeting", "hello"])
def test_what_is_no_reply_opens_no_session(place: str, name: str) -> None:
    """FAULTS 5, 6, 7, 8, 10, 11, 16."""

    def script(peer: Peer) -> None:
        if place == "hello":
            peer.say(b"220 hi\r\n")
            peer.expect("EHLO")
        peer.say(NO_REPLIES[name])
        peer.rest()

    with ScriptedServer(script) as server:
        error = attempt(server.connect)
        assert type(error) is ProtocolError
        assert error.stage == place
    assert server.received.count(b"\r\n") == (place == "hello")


@pytest.mark.parametrize("endless", [b"x" * 4096, b"250-more\r\n" * 400], ids=["line", "lines"])
def test_a_reply_without_end_is_cut_off(endless: bytes) -> None:
    """FAULTS 10, 11: a server cannot exhaust our memory."""

    def script(peer: Peer) -> None:
        peer.say(b"220 hi\r\n")
        peer.expect("EHLO")
        peer.say(b"250-")
        while True:  # until the client is gone
            peer.say(endless)

    with ScriptedServer(script) as server:
        assert type(attempt(server.connect)) is ProtocolError


@pytest.mark.parametrize("position", ["MAIL", "FINAL", "NOOP"])
@pytest.mark.parametrize("extra", [b"250 ok\r\n", b"2", b"421 bye\r\n421 bye\r\n", b"\r\n"])
def test_more_than_was_owed(extra: bytes, position: str) -> None:
    """FAULTS 9: law 2. What is known already stands; the connection goes."""
    verdict = first(**{position: Garbage(b"250 ok\r\n" + extra)})
    with serving(extensions=SEQUENTIAL, verdict=verdict, strict=False) as server:
        conn = dialled(server)
        outcome = attempt(conn.noop) if position == "NOOP" else send(conn)
        assert type(outcome) is (DeliveryUnknown if position == "FINAL" else ProtocolError)
        assert_closed(conn)


@pytest.mark.parametrize(
    ("position", "kind"), [("MAIL", ServiceUnavailable), ("FINAL", SendResult), ("NOOP", ServiceUnavailable)]
)
def test_421_behind_a_reply(position: str, kind: type) -> None:
    """FAULTS 24: the server may hang up at any time; what it said before stands only at the end of data."""
    verdict = first(**{position: Garbage(b"250 ok\r\n421 bye\r\n")})
    with serving(extensions=SEQUENTIAL, verdict=verdict, strict=False) as server:
        conn = dialled(server)
        outcome = attempt(conn.noop) if position == "NOOP" else send(conn)
        assert type(outcome) is kind
        assert_closed(conn)


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"421 4.4.2 timeout\r\n", ServiceUnavailable),
        (b"250 stray\r\n", ProtocolError),
        (b"250 str", ProtocolError),
        (b"\r\n", ProtocolError),
        (b"", ConnectionLost),
    ],
)
@pytest.mark.parametrize("tls", ["none", "implicit"])
@pytest.mark.parametrize("end", [False, True])
def test_a_word_on_an_idle_connection_does_not_pair_with_the_next_command(
    octets: bytes, kind: type, tls: str, end: bool
) -> None:
    """FAULTS 9: an unsolicited 421, a stray line, the end: seen before anything is written."""
    end = end or not octets
    spoken: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("NOOP")
        peer.say(b"250 ok\r\n")
        ready.wait(5)
        peer.say(octets)
        if end:
            peer.end()
        done.set()
        spoken.append(peer.rest())

    ready, done = threading.Event(), threading.Event()
    context = certs.server_context() if tls == "implicit" else None
    with ScriptedServer(script, tls=context) as server:
        conn = server.connect(tls=tls, ssl_context=certs.client_context() if context else None)
        conn.noop()
        ready.set()
        done.wait(5)
        error = attempt(conn.send, SENDER, RCPTS, BODY)
        half = octets == b"250 str" and end  # the end may be seen with the octets before it, or after
        assert type(error) is kind or (half and isinstance(error, ConnectionLost))
        assert error.safe_to_retry
        assert_closed(conn)
    assert spoken == [b""]


# -- what replies say ---------------------------------------------------------------------


def test_controls_in_a_reply_cannot_write_to_a_terminal() -> None:
    """FAULTS 12: the raw octets are kept, and what people read is escaped."""
    text = b"5.7.1 \x1b[2J\x00\x07\xc2\x9b1m \xff\xe2\x80\xae end"
    with serving(verdict=first(FINAL=b"550 " + text + b"\r\n")) as server, dialled(server) as conn:
        error = send(conn)
        assert isinstance(error, DataRejected)
        assert error.reply.lines == (text,)
        for shown in (str(error), repr(error), str(error.reply), error.reply.text):
            assert shown.isprintable()
        assert "end" in str(error)


def test_only_lf_ends_a_line_of_ehlo() -> None:
    """FAULTS 13: str.splitlines() would invent capabilities."""
    lines = "X-A\x85STARTTLS", "X-B\x0bCHUNKING", "X-C\x1cPIPELINING", "X-D\u2028AUTH PLAIN", "X-E\rDSN"

    def script(peer: Peer) -> None:
        peer.greet(*lines)
        peer.quit()

    with ScriptedServer(script) as server, server.connect() as conn:
        capabilities = conn.capabilities
        assert not capabilities.starttls
        assert not capabilities.chunking
        assert not capabilities.pipelining
        assert not capabilities.dsn
        assert capabilities.auth == ()


def test_oddities_of_ehlo_are_borne() -> None:
    """FAULTS 14."""
    keywords = [
        "AUTH=LOGIN",
        "AUTH PLAIN",
        "size",
        "SIZE x",
        "SIZE 0",
        "pipelining",
        "PIPELINING",
        "",
        "8BITMIME",
    ]
    keywords += [f"X-{i}" for i in range(490)]

    def script(peer: Peer) -> None:
        peer.greet(*keywords)
        peer.envelope()
        peer.content()
        peer.say(b"250 ok\r\n")
        peer.quit()

    with ScriptedServer(script) as server, server.connect() as conn:
        assert set(conn.capabilities.auth) == {"LOGIN", "PLAIN"}
        assert conn.capabilities.pipelining
        assert conn.capabilities.size_limit is None
        assert isinstance(send(conn, RCPTS[0]), SendResult)


@pytest.mark.parametrize("code", [200, 251, 252, 253, 299])
@PATHS
def test_any_2xx_to_rcpt_is_acceptance(code: int, extensions: Any) -> None:
    """FAULTS 17."""
    with (
        serving(extensions=extensions, verdict=first(RCPT1=f"{code} well")) as server,
        dialled(server) as conn,
    ):
        assert fates(send(conn)) == dict.fromkeys(RCPTS, "accepted")


def test_an_enhanced_code_that_contradicts_is_ignored() -> None:
    """FAULTS 18."""
    verdict = first(RCPT0="550 2.0.0 what", RCPT1="550 5.1.1 no", DATA="354 2.0.0 go")
    with serving(verdict=verdict) as server, dialled(server) as conn:
        wrong, right = send(conn).rejected_recipients
        assert wrong.reply.enhanced is None
        assert not wrong.temporary
        assert str(right.reply.enhanced) == "5.1.1"


def test_the_answer_to_ehlo_may_come_in_pieces_with_the_greeting() -> None:
    """FAULTS 9: an answer that is there before the question was asked is none."""

    def script(peer: Peer) -> None:
        peer.say(b"220 hi\r\n" + ehlo("AUTH PLAIN"))
        peer.rest()

    with ScriptedServer(script) as server:
        conn = attempt(server.connect)
        assert not isinstance(conn, SmtpConnection)
        assert type(conn) is ProtocolError
    assert server.received == b""


@pytest.mark.parametrize("position", ["RCPT2", "DATA"])
def test_421_behind_a_refusal(position: str) -> None:
    """FAULTS 36, 41: in one segment or in two, the refusal stands."""
    verdict = first(RCPT0="550 no", RCPT1="550 no", **{position: Garbage(b"554 no\r\n421 bye\r\n")})
    if position == "DATA":
        verdict = first(DATA=Garbage(b"554 no\r\n421 bye\r\n"))
    with serving(extensions=SEQUENTIAL, verdict=verdict, strict=False) as server:
        conn = dialled(server)
        outcome = send(conn)
        assert isinstance(outcome, DataRejected if position == "DATA" else AllRecipientsFailed)
        assert outcome.reply is not None
        assert outcome.reply.code == 554
        assert not outcome.safe_to_retry
        assert_closed(conn)

"""Opening a session as a caller sees it: greeting, EHLO, HELO, and everything connect() is told."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from support.fates import assert_kept, attempt, send
from support.scripted import Peer, ScriptedServer
from support.transports import TRANSPORTS, dialled, resolve_all, serving

from pysmtpx import (
    ConnectError,
    ConnectionLost,
    InputError,
    ProtocolError,
    SendResult,
    Server,
    SmtpError,
    connect,
)
from pysmtpx.testing import Cut


def _says(*octets: bytes, end: str = "rest") -> Any:
    """A script that greets so, and ends so."""

    def script(peer: Peer) -> None:
        peer.say(*octets)
        getattr(peer, end)()
        peer.rest()

    return script


@pytest.mark.parametrize("banner", [b"554 5.3.2 no\r\n", b"521 no mail\r\n", b"421 busy\r\n", b"450 x\r\n"])
def test_a_greeting_that_refuses(banner: bytes) -> None:
    """FAULTS 16: the reply is told, and nothing is said to it."""
    with ScriptedServer(_says(banner)) as server:
        error = attempt(server.connect)
        assert isinstance(error, ConnectError)
        assert isinstance(error, ConnectionError)
        assert (error.stage, error.reply.code) == ("greeting", int(banner[:3]))
        assert error.temporary == error.safe_to_retry == banner.startswith(b"4")
    assert server.received == b""


@pytest.mark.parametrize(
    ("octets", "hint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"\x15\x03\x01\x00\x02\x02\x0a", "TLS"),
        (b"+OK POP3 ready\r\n", "POP3"),
        (b"* OK IMAP4rev1\r\n", "IMAP"),
        (b"250 hello\r\n", "220"),
        (b"354 go\r\n", "220"),
    ],
)
def test_a_greeting_of_another_protocol(octets: bytes, hint: str) -> None:
    """FAULTS 16: the error says what may be wrong."""
    with ScriptedServer(_says(octets)) as server:
        error = attempt(server.connect)
        assert type(error) is ProtocolError
        assert error.stage == "greeting"
        assert hint in str(error)
    assert server.received == b""


@pytest.mark.parametrize("octets", [b"", b"220", b"220 hi", b"220-hi\r\n"])
@pytest.mark.parametrize("end", ["end", "reset"])
def test_a_server_that_hangs_up_before_its_greeting_is_whole(octets: bytes, end: str) -> None:
    """FAULTS 2, 3."""
    with ScriptedServer(_says(octets, end=end)) as server:
        error = attempt(server.connect)
        # A reset may be there before our side of the connection is seen to be up.
        assert type(error) in (ConnectionLost, ConnectError) if end == "reset" else (ConnectionLost,)
        assert error.stage in ("connect", "greeting")
        assert error.safe_to_retry


@pytest.mark.parametrize("code", [500, 502, 504, 550, 554])
def test_ehlo_refused_for_good_is_followed_by_helo(code: int) -> None:
    """FAULTS 15 (RFC 5321 4.1.1.1)."""
    with serving(replies={"EHLO": f"{code} what"}) as server, dialled(server) as conn:
        assert not conn.capabilities.keywords
        assert isinstance(send(conn), SendResult)
        assert server.ledger.commands[0][:3] == ["EHLO", "HELO", "MAIL"]


@pytest.mark.parametrize("code", [421, 450, 451])
def test_ehlo_refused_for_now_is_the_end(code: int) -> None:
    """FAULTS 15, 24: no silent HELO, which would lose TLS and every extension."""
    with serving(replies={"EHLO": f"{code} later"}) as server:
        error = attempt(dialled, server)
        assert isinstance(error, ConnectError)
        assert (error.stage, error.reply.code) == ("hello", code)
        assert error.temporary
    assert server.ledger.commands == [["EHLO"]]


@pytest.mark.parametrize("fault", [Cut(), Cut(reset=True), Cut(after=30)])
def test_a_line_that_breaks_at_ehlo_is_no_reason_for_helo(fault: Any) -> None:
    """FAULTS 15."""
    with serving(replies={"EHLO": fault}) as server:
        error = attempt(dialled, server)
        assert type(error) is ConnectionLost
        assert error.stage == "hello"
    assert server.ledger.commands == [["EHLO"]]


@pytest.mark.parametrize("answer", ["220 hi", "251 hi", "334 hi", "354 go"])
@pytest.mark.parametrize("verb", ["EHLO", "HELO"])
def test_only_250_answers_hello(answer: str, verb: str) -> None:
    """FAULTS 15: anything else is out of step."""
    replies = {"EHLO": "502 what", "HELO": answer} if verb == "HELO" else {"EHLO": answer}
    with serving(replies=replies) as server:
        error = attempt(dialled, server)
        assert isinstance(error, ProtocolError | ConnectError)
        assert error.stage == "hello"
    assert "MAIL" not in server.ledger.commands[0]


def test_helo_refused_too() -> None:
    """FAULTS 15."""
    with serving(helo_only=True, replies={"HELO": "550 no"}) as server:
        error = attempt(dialled, server)
        assert isinstance(error, ConnectError)
        assert not error.temporary


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_what_a_connection_says_of_itself(transport: str, protocol: str) -> None:
    with serving(transport, protocol=protocol) as server, dialled(server) as conn:
        assert conn.protocol == protocol
        assert conn.is_tls == (transport in ("implicit", "starttls"))
        assert not conn.closed
        assert conn.capabilities.pipelining
        assert conn.server.host in (server.path, "127.0.0.1")
        assert "smtp" in repr(conn).lower() or "lmtp" in repr(conn)
        assert ("TLS" if conn.is_tls else "clear") in repr(conn)
        assert_kept(conn, server)
    assert conn.closed
    assert "closed" in repr(conn)
    assert server.ledger.commands[0][-1] == "QUIT"


@pytest.mark.parametrize("how", ["url", "server", "server and changes", "host and port"])
def test_a_server_may_be_named_in_every_way(how: str) -> None:
    with serving() as server:
        described = Server(server.host, server.port)
        made = {
            "url": lambda: connect(server.url),
            "server": lambda: connect(described),
            "server and changes": lambda: connect(Server(server.host, 1), server.port, connect_timeout=5),
            "host and port": lambda: connect(server.host, server.port),
        }[how]()
        with made as conn:
            assert conn.server.port == server.port
            assert_kept(conn, server)


def _hello(**options: Any) -> bytes:
    """The line by which we introduce ourselves."""
    lines: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.say(b"220 hi\r\n")
        lines.append(peer.line())
        peer.say(b"250 hi\r\n")
        peer.quit()

    with ScriptedServer(script) as server, server.connect(**options):
        pass
    return lines[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("client.example", "client.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    ],
)
def test_our_name_is_the_configured_one(name: str, said: str) -> None:
    with serving() as server, dialled(server, local_hostname=name):
        pass
    assert _hello(local_hostname=name) == b"EHLO " + said.encode()


@pytest.mark.parametrize(("host", "said"), [("mx.own.example", b"mx.own.example"), ("box", b"[127.0.0.1]")])
def test_our_name_where_none_is_configured(host: str, said: bytes, monkeypatch: Any) -> None:
    """RFC 5321 4.1.3: without a look-up, which may stall for half a minute."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert _hello() == b"EHLO " + said


def test_source_address() -> None:
    with serving() as server, dialled(server, source_address="127.0.0.7") as conn:
        assert conn._channel._driver.stream._sock.getsockname()[0] == "127.0.0.7"
        assert_kept(conn, server)
    with serving() as server:
        error = attempt(dialled, server, source_address="192.0.2.77")
        assert isinstance(error, ConnectError)
        assert "127.0.0.1" in str(error)
    assert server.ledger.commands == []


def test_an_address_of_ipv6() -> None:
    with serving(host="::1") as server, connect("::1", server.port) as conn:
        assert_kept(conn, server)
    with serving(host="::1") as server, connect("[::1]", server.port) as conn:
        assert_kept(conn, server)


def test_every_address_of_a_name_is_tried(monkeypatch: Any) -> None:
    """FAULTS 64: also where the first refuses."""
    with serving() as server:
        resolve_all(monkeypatch, server.port, "127.0.0.9", "::1", "127.0.0.1")
        with connect("mail.test", server.port, tls="none") as conn:
            assert_kept(conn, server)


def test_an_error_of_dialling_names_every_address(monkeypatch: Any) -> None:
    """FAULTS 64."""
    with ScriptedServer(_says(b"")) as server:
        port = server.port
    resolve_all(monkeypatch, port, "127.0.0.8", "::1", "127.0.0.9")
    error = attempt(connect, "mail.test", port, tls="none")
    assert isinstance(error, ConnectError)
    assert error.stage == "connect"
    for address in ("127.0.0.8", "::1", "127.0.0.9"):
        assert address in str(error)


def test_a_unix_socket_that_is_not_there(tmp_path: Any) -> None:
    error = attempt(connect, str(tmp_path / "none"), protocol="lmtp")
    assert isinstance(error, ConnectError)
    assert str(tmp_path) in str(error)


def test_round_trips_are_counted() -> None:
    """A pipelined message costs two; a sequential one a trip a command."""
    with serving() as server, dialled(server) as conn:
        before = conn.round_trips
        send(conn)
        assert conn.round_trips - before == 2
        before = conn.round_trips
        conn.send_bdat("s@x.example", ["a@x.example", "b@x.example"], b"x: y\r\n\r\n")
        assert conn.round_trips - before == 2
    with serving(extensions=()) as server, dialled(server) as conn:
        before = conn.round_trips
        send(conn)
        assert conn.round_trips - before == 6


@pytest.mark.parametrize("method", ["noop", "rset"])
@pytest.mark.parametrize("answer", ["221 bye", "251 x", "354 x", "450 x", "500 x", "421 bye"])
def test_a_single_command_wants_250(method: str, answer: str) -> None:
    """FAULTS 17, 24: a server about to hang up answers NOOP by 221."""
    with serving(replies={method.upper(): answer}) as server:
        conn = dialled(server)
        error = attempt(getattr(conn, method))
        assert isinstance(error, SmtpError)
        assert conn.closed == (answer[0] in "23" or answer.startswith("421"))
        assert str(error.reply) == answer
        conn.close()


def test_single_commands() -> None:
    with serving() as server, dialled(server) as conn:
        assert conn.noop().code == 250
        assert conn.rset().code == 250
        assert conn.verify("ann@x.example").code == 252
        assert conn.help().code == 214
        assert conn.help("MAIL").code == 214
        assert conn.command("NOOP", "text").code == 250
        assert attempt(conn.expand, "list").code == 252
        for verb in ("DATA", "mail", "QUIT", "Starttls", "BDAT", "AUTH", "EHLO", "RCPT"):
            assert isinstance(attempt(conn.command, verb), InputError)
        assert_kept(conn, server)

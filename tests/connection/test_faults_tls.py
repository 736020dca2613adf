"""FAULTS group G as a caller sees it: TLS that is not what it should be."""

from __future__ import annotations

from typing import Any

import pytest
from support import certs
from support.fates import BODY, RCPTS, SENDER, assert_closed, attempt, send
from support.scripted import Peer, ScriptedServer, ehlo
from support.transports import dialled, resolve_all, serving

from pysmtpx import (
    ConnectError,
    ConnectionLost,
    MechanismUnavailable,
    ProtocolError,
    SendResult,
    SmtpConnection,
    SmtpError,
    TlsError,
    connect,
)
from pysmtpx.testing import Garbage, MailServer

pytestmark = pytest.mark.everywhere

TLS = {"tls": "starttls", "ssl_context": certs.client_context()}
MODES = pytest.mark.parametrize("tls", ["implicit", "starttls"])


def _starttls(peer: Peer, *keywords: str) -> None:
    peer.greet("STARTTLS", *keywords)
    peer.expect("STARTTLS")


# -- STARTTLS --------------------------------------------------------------------------


@pytest.mark.parametrize("injected", [b"250 injected\r\n", b"2", b"\r\n", b"220 again\r\n", b"\x16\x03\x01"])
def test_clear_text_behind_the_answer_to_starttls(injected: bytes) -> None:
    """FAULTS 66: it could be anybody's, so it is neither used nor dropped (RFC 3207 4.2)."""

    def script(peer: Peer) -> None:
        _starttls(peer)
        peer.say(b"220 go\r\n" + injected)
        peer.rest()

    with ScriptedServer(script) as server:
        error = attempt(server.connect, **TLS)
        assert type(error) is ProtocolError
    assert server.received.endswith(b"STARTTLS\r\n")


@pytest.mark.parametrize("injected", [b"250 injected\r\n", b"220 again\r\n"])
def test_clear_text_in_a_segment_of_its_own(injected: bytes) -> None:
    """FAULTS 66: whether it arrives before the handshake or in it, no octet of ours follows in clear."""

    def script(peer: Peer) -> None:
        peer.starttls()
        peer.say(injected)
        peer.rest()

    with ScriptedServer(script) as server:
        error = attempt(server.connect, **TLS)
        assert type(error) in (ProtocolError, TlsError)
    behind = server.received.partition(b"STARTTLS\r\n")[2]
    assert not behind or behind.startswith(b"\x16\x03")


@pytest.mark.parametrize(
    "answer",
    ["454 4.7.0 not now", "502 what", "500 what", "421 bye", "530 no", "354 go", "250 ok", "221 bye"],
)
def test_starttls_that_is_refused(answer: str) -> None:
    """FAULTS 67: TLS was required, so there is neither AUTH nor MAIL."""
    with serving("starttls", replies={"STARTTLS": answer}, users={"u": "p"}, strict=False) as server:
        error = attempt(dialled, server, username="u", password="p")
        assert isinstance(error, TlsError)
        assert (error.stage, str(error.reply)) == ("starttls", answer)
        assert error.temporary == answer.startswith("4")
    assert server.ledger.commands == [["EHLO", "STARTTLS"]]


@pytest.mark.parametrize("keywords", [(), ("XXXXXXXA",), ("AUTH PLAIN",)])
def test_starttls_that_is_not_offered(keywords: tuple[str, ...]) -> None:
    """FAULTS 67: an attacker can strike the keyword out (CVE-2016-0772)."""
    with serving(extensions=keywords) as server:
        error = attempt(connect, server.host, server.port, **TLS, username="u", password="secret")
        assert isinstance(error, TlsError)
        assert error.stage == "starttls"
    assert server.ledger.commands == [["EHLO"]]


@pytest.mark.parametrize("helo", [True, False])
def test_starttls_is_required_after_helo_too(helo: bool) -> None:
    """FAULTS 67."""
    with serving(helo_only=helo, extensions=()) as server:
        assert isinstance(attempt(connect, server.host, server.port, **TLS), TlsError)


def test_opportunistic_goes_on_where_starttls_is_not_offered_or_refused() -> None:
    """FAULTS 68."""
    with serving(extensions=()) as server, connect(server.host, server.port, tls="opportunistic") as conn:
        assert not conn.is_tls
        assert isinstance(send(conn), SendResult)
    refusing = serving("starttls", replies={"STARTTLS": "454 no"})
    with refusing as server, dialled(server, tls="opportunistic") as conn:
        assert not conn.is_tls
        assert isinstance(send(conn), SendResult)


def test_opportunistic_with_a_handshake_that_fails_does_not_go_on_in_clear() -> None:
    """FAULTS 68."""
    with serving("starttls", strict=False) as server:
        error = attempt(
            dialled, server, tls="opportunistic", ssl_context=certs.client_context(certs.stranger())
        )
        assert isinstance(error, TlsError)
    assert server.ledger.commands == [["EHLO", "STARTTLS"]]


@pytest.mark.parametrize("offered", [True, False])
def test_opportunistic_never_shows_a_password_in_clear(offered: bool, monkeypatch: Any) -> None:
    """FAULTS 68, 76."""
    resolve_all(monkeypatch)
    options: dict[str, Any] = {"replies": {"STARTTLS": "454 no"}} if offered else {"extensions": ()}
    with serving(
        "starttls" if offered else "clear", users={"u": "p"}, mechanisms=["PLAIN", "LOGIN"], **options
    ) as server:
        error = attempt(connect, "mail.test", server.port, tls="opportunistic", username="u", password="p")
        assert isinstance(error, MechanismUnavailable)
    assert "AUTH" not in server.ledger.commands[0]


def test_capabilities_from_before_tls_are_forgotten() -> None:
    """FAULTS 75: what was offered in clear could have been forged."""
    with (
        serving(
            "starttls",
            extensions=["PIPELINING", "SIZE 5", "X-CLEAR"],
            tls_extensions=["SIZE 500000", "X-TLS"],
            users={"u": "p"},
        ) as server,
        dialled(server, username="u", password="p") as conn,
    ):
        assert "X-TLS" in conn.capabilities
        assert "X-CLEAR" not in conn.capabilities
        assert not conn.capabilities.pipelining
        assert conn.capabilities.size_limit == 500_000
        assert isinstance(send(conn), SendResult)
    assert server.ledger.commands[0][:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]


def test_auth_that_is_offered_under_tls_alone() -> None:
    """FAULTS 75."""
    with serving("starttls", extensions=["SIZE"], tls_extensions=["AUTH PLAIN"], users={"u": "p"}) as server:
        with dialled(server, username="u", password="p") as conn:
            assert isinstance(send(conn), SendResult)
        assert server.messages[0].user == "u"


# -- what is not TLS, and what is -------------------------------------------------------------


def test_implicit_tls_to_a_server_in_clear() -> None:
    """FAULTS 16: the wrong port, or the wrong mode."""
    with serving(strict=False) as server:
        error = attempt(connect, server.host, server.port, tls="implicit", ssl_context=certs.client_context())
        assert isinstance(error, TlsError)
        assert error.safe_to_retry


def test_clear_text_to_a_server_of_implicit_tls() -> None:
    """FAULTS 16: it waits for us, so the deadline ends it; an alert would be named as what it is."""

    def script(peer: Peer) -> None:
        peer.say(b"\x15\x03\x03\x00\x02\x02\x46")
        peer.rest()

    with ScriptedServer(script) as server:
        error = attempt(server.connect)
        assert type(error) is ProtocolError
        assert "TLS" in str(error)
        assert error.stage == "greeting"
    assert server.received == b""


def test_a_server_that_hangs_up_in_the_handshake() -> None:
    """FAULTS 69."""

    def script(peer: Peer) -> None:
        peer.starttls()

    with ScriptedServer(script) as server:
        error = attempt(server.connect, **TLS)
        assert isinstance(error, TlsError)
        assert not isinstance(error, ConnectError)


@pytest.mark.parametrize("octets", [b"", b"25", b"250-more\r\n"])
def test_an_end_without_close_notify_within_a_reply(octets: bytes) -> None:
    """FAULTS 71: an attacker can cut the line there, and Python calls it a clean end."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("NOOP")
        peer.say(octets)
        peer.end()
        peer.rest()

    with ScriptedServer(script, tls=certs.server_context()) as server:
        conn = server.connect(tls="implicit", ssl_context=certs.client_context())
        error = attempt(conn.noop)
        assert type(error) is ConnectionLost
        assert_closed(conn)


def test_an_end_without_close_notify_after_a_whole_reply() -> None:
    """FAULTS 71: the reply counts."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.envelope()
        peer.content()
        peer.say(b"250 2.0.0 queued\r\n")
        peer.end()
        peer.rest()

    with ScriptedServer(script, tls=certs.server_context()) as server:
        conn = server.connect(tls="implicit", ssl_context=certs.client_context())
        assert isinstance(send(conn, RCPTS[0]), SendResult)
        assert isinstance(attempt(conn.noop), ConnectionLost)
        assert_closed(conn)


@pytest.mark.parametrize("leave", ["quit", "close"])
def test_no_close_notify_before_the_last_reply(leave: str) -> None:
    """FAULTS 72: a server answers it by hanging up, before it has answered what was asked."""
    seen: list[Any] = []

    def script(peer: Peer) -> None:
        peer.greet()
        if leave == "quit":
            peer.expect("QUIT")
            peer.sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                peer.sock.recv(1)  # a close_notify would be b""
            peer.sock.settimeout(5)
            peer.say(b"221 bye\r\n")
        seen.append(_end_of(peer))

    with ScriptedServer(script, tls=certs.server_context()) as server:
        conn = server.connect(tls="implicit", ssl_context=certs.client_context())
        getattr(conn, leave)()
    assert seen == ["close_notify" if leave == "quit" else "cut"]


def _end_of(peer: Peer) -> str:
    try:
        return "close_notify" if peer.sock.recv(1) == b"" else "octets"
    except OSError:
        return "cut"


@MODES
def test_session_tickets_are_no_farewell(tls: str) -> None:
    """FAULTS 73: they make an idle descriptor readable, and the connection is alive."""
    context = certs.server_context()
    context.num_tickets = 4
    with MailServer(ssl_context=context, tls=tls) as server, dialled(server) as conn:  # type: ignore[arg-type]
        for _ in range(3):
            assert conn.noop().code == 250
        assert isinstance(send(conn), SendResult)


@pytest.mark.parametrize("octets", [b"220 hi\r\n", ehlo("AUTH PLAIN"), b"2"])
def test_octets_before_our_first_word_under_tls(octets: bytes) -> None:
    """FAULTS 74 (CVE-2009-3555): they answer nothing of ours."""

    def script(peer: Peer) -> None:
        peer.starttls()
        del peer.received[:]
        peer._read = 0
        peer.tls(certs.server_context())
        peer.say(octets)
        peer.expect("EHLO")
        peer.say(ehlo())
        peer.envelope()
        peer.rest()

    with ScriptedServer(script) as server:
        conn = attempt(server.connect, **TLS)
        if isinstance(conn, SmtpConnection):
            # The octets came after the look before EHLO: then every answer is that to the command
            # before, and DATA at the latest has none of its own.
            error = attempt(conn.send, SENDER, RCPTS[0], BODY)
            assert_closed(conn)
        else:
            error = conn
        assert type(error) is ProtocolError
    assert BODY not in server.received


@pytest.mark.parametrize("octets", [b"421 bye\r\n", b"250 stray\r\n", b"\x00"])
def test_octets_on_an_idle_connection_under_tls(octets: bytes) -> None:
    """FAULTS 9, 74: they must not pair with the next command."""
    with serving("implicit", replies={"NOOP": Garbage(b"250 ok\r\n" + octets)}, strict=False) as server:
        conn = dialled(server)
        error = attempt(conn.noop)
        assert isinstance(error, SmtpError)
        assert_closed(conn)

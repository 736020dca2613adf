"""The next address of a server, where the first gives no session (RFC 5321 5.1)."""

from __future__ import annotations

import ssl
import time
from typing import Any

import pytest
from support import certs
from support.fates import attempt
from support.patience import ENOUGH
from support.places import BAD_GREETINGS, places, resolve_to
from support.scripted import Peer, Script, ScriptedServer

from pysmtpx import (
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    ProtocolError,
    RetryPolicy,
    SmtpPool,
    Timeout,
    TlsError,
    connect,
)

pytestmark = pytest.mark.slow

BODY = b"Subject: x\r\n\r\nhello\r\n"


def answers_ehlo(*answers: bytes) -> Script:
    """Greets, and answers EHLO and what follows so; then it closes."""

    def script(peer: Peer) -> None:
        peer.say(b"220 mail.example ESMTP\r\n")
        for answer in answers:
            peer.line()
            peer.say(answer)
        if not answers:
            peer.line()

    return script


def in_ehlo_silent(peer: Peer) -> None:
    peer.say(b"220 mail.example ESMTP\r\n")
    peer.hold()


def well(peer: Peer) -> None:
    """Takes messages until the client says QUIT."""
    peer.greet()
    while (verb := peer.line().split(b" ")[0]) != b"QUIT":
        if verb == b"DATA":
            peer.say(b"354 go ahead\r\n")
            peer.content()
        peer.say(b"250 2.0.0 ok\r\n")
    peer.say(b"221 bye\r\n")


BAD: dict[str, Script] = {
    **BAD_GREETINGS,
    "in EHLO closes": answers_ehlo(),
    "in EHLO 421": answers_ehlo(b"421 4.3.2 busy\r\n"),
    "in EHLO 451": answers_ehlo(b"451 4.3.2 busy\r\n"),
    "in EHLO 554": answers_ehlo(b"554 no\r\n", b"554 no\r\n"),
    "in EHLO nonsense": answers_ehlo(b"nonsense\r\n"),
}
SILENT: dict[str, Script] = {"silent": Peer.hold, "in EHLO silent": in_ehlo_silent}
COUNTS = pytest.mark.parametrize("count", [1, 2, 3])


@COUNTS
@pytest.mark.parametrize("case", BAD)
def test_the_next_address_is_tried(case: str, count: int, monkeypatch: Any) -> None:
    """FAULTS 115."""
    with places(monkeypatch, *[BAD[case]] * count, well) as servers:
        with connect("mail.test", servers[0].port, tls="none", connect_timeout=5) as conn:
            conn.send("s@x.example", "a@x.example", BODY)
        assert [len(server.peers) for server in servers] == [1] * (count + 1)


@COUNTS
@pytest.mark.parametrize("case", SILENT)
def test_who_says_nothing_has_a_fair_share_of_the_time(case: str, count: int, monkeypatch: Any) -> None:
    """FAULTS 115."""
    with places(monkeypatch, *[SILENT[case]] * count, well) as servers:
        start = time.monotonic()
        with connect("mail.test", servers[0].port, tls="none", connect_timeout=3.0) as conn:
            took = time.monotonic() - start
            conn.noop()
    assert 3.0 * count / (count + 1) - 0.1 <= took < 3.0


@pytest.mark.parametrize("case", [case for case in [*BAD, *SILENT] if case != "resets"])
def test_one_address_alone_fails_as_it_always_did(case: str, monkeypatch: Any) -> None:
    script = (BAD | SILENT)[case]
    with places(monkeypatch, script) as servers:
        named = attempt(connect, "mail.test", servers[0].port, tls="none", connect_timeout=ENOUGH)
        literal = attempt(connect, "127.0.0.1", servers[0].port, tls="none", connect_timeout=ENOUGH)
    assert type(named) is type(literal)
    assert (named.stage, str(named), named.reply) == (literal.stage, str(literal), literal.reply)


def test_all_are_tried_and_the_most_hopeful_failure_is_told(monkeypatch: Any) -> None:
    """FAULTS 115: one that may pass is not hidden by another address's refusal for good."""
    for scripts in ([BAD["421"], BAD["554"]], [BAD["554"], BAD["closes"], BAD["421"], BAD["554"]]):
        with places(monkeypatch, *scripts) as servers:
            error = attempt(connect, "mail.test", servers[0].port, tls="none", connect_timeout=5)
            assert [len(server.peers) for server in servers] == [1] * len(scripts)
        assert isinstance(error, ConnectError)
        assert error.reply is not None
        assert error.reply.code == 421
        assert error.temporary
        assert any("554" in note for note in error.__notes__)
        assert len(error.__notes__) == len(scripts) - 1


@pytest.mark.parametrize("case", [case for case in BAD if case != "resets"])  # while we dial, or later
def test_an_answer_says_more_than_an_address_where_nobody_listens(case: str, monkeypatch: Any) -> None:
    """As "localhost" has two, and a server often one."""
    told = []
    for hosts in (("127.0.0.1",), ("127.0.0.1", "::1")):
        with places(monkeypatch, BAD[case]) as servers:
            resolve_to(monkeypatch, *hosts)
            error = attempt(connect, "mail.test", servers[0].port, tls="none", connect_timeout=5)
            told.append((type(error), str(error), error.temporary))
    assert told[0] == told[1]


def test_the_deadline_holds_for_all(monkeypatch: Any) -> None:
    with places(monkeypatch, *[Peer.hold] * 4) as servers:
        start = time.monotonic()
        error = attempt(connect, "mail.test", servers[0].port, tls="none", connect_timeout=0.8)
        assert 0.7 < time.monotonic() - start < 2.4  # and not the time of each of four
    assert isinstance(error, Timeout)


def test_a_refused_password_is_tried_at_no_other_address(monkeypatch: Any) -> None:
    """FAULTS 86: no lock-out."""

    def refuses(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.line()
        peer.say(b"535 5.7.8 no\r\n")
        peer.rest()

    def hangs_up(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.line()

    account = {"username": "user", "password": "hunter2-hunter2", "insecure_auth": True}
    for script, kind in ((refuses, AuthenticationError), (hangs_up, ConnectionLost)):
        with places(monkeypatch, script, well) as servers:
            error = attempt(connect, "mail.test", servers[0].port, tls="none", **account)
            assert isinstance(error, kind)
            assert not servers[1].peers


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_handshake_that_breaks_leads_to_the_next_address(tls: str, monkeypatch: Any) -> None:
    """FAULTS 115."""
    context = certs.server_context("mail.test")

    def breaks(peer: Peer) -> None:
        if tls == "starttls":
            peer.starttls()
        peer.sock.recv(1)

    def secures(peer: Peer) -> None:
        if tls == "starttls":
            peer.starttls()
            peer.tls(context)
            peer.hello()
        else:
            peer.tls(context)
            peer.greet()
        peer.quit()

    with places(monkeypatch, breaks, breaks, secures) as servers:
        options: dict[str, Any] = {"tls": tls, "ssl_context": certs.client_context(), "connect_timeout": 5}
        connect("mail.test", servers[0].port, **options).quit()
        assert [len(server.peers) for server in servers] == [1, 1, 1]


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_wrong_certificate_is_final(tls: str, monkeypatch: Any) -> None:
    """FAULTS 69, 115: whoever can be in the place of one address must not choose among them."""
    context = certs.server_context("other.test")

    def wrong(peer: Peer) -> None:
        if tls == "starttls":
            peer.starttls()
        peer.tls(context)

    with places(monkeypatch, wrong, well) as servers:
        options: dict[str, Any] = {"tls": tls, "ssl_context": certs.client_context()}
        error = attempt(connect, "mail.test", servers[0].port, **options)
        assert isinstance(error, TlsError)
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert not servers[1].peers


# -- the pool ----------------------------------------------------------------------------------------


@COUNTS
@pytest.mark.parametrize("case", [*BAD, *SILENT])
def test_the_pool_remembers_which_address_was_well(case: str, count: int, monkeypatch: Any) -> None:
    """FAULTS 115: the others are asked once, and not for each connection."""
    script = (BAD | SILENT)[case]
    with places(monkeypatch, *[script] * count, well) as servers:
        url = f"smtp://mail.test:{servers[0].port}?tls=none&connect_timeout=3"
        with SmtpPool(url, max_messages=1, retry=RetryPolicy(attempts=1)) as pool:
            for _ in range(3):
                pool.send("s@x.example", "a@x.example", BODY)
        assert [len(server.peers) for server in servers] == [1] * count + [3]


def test_one_that_was_unwell_is_tried_again_where_the_others_are(monkeypatch: Any) -> None:
    """FAULTS 115: none is given up."""
    turns = {"first": 0, "second": 0}

    def first(peer: Peer) -> None:
        turns["first"] += 1
        (BAD["421"] if turns["first"] == 1 else well)(peer)

    def second(peer: Peer) -> None:
        turns["second"] += 1
        (well if turns["second"] == 1 else BAD["421"])(peer)

    with places(monkeypatch, first, second) as servers:
        url = f"smtp://mail.test:{servers[0].port}?tls=none"
        with SmtpPool(url, max_messages=1, retry=RetryPolicy(attempts=1)) as pool:
            for _ in range(2):
                pool.send("s@x.example", "a@x.example", BODY)
    assert turns == {"first": 2, "second": 2}


def test_addresses_that_are_well_are_used_in_the_resolvers_order(monkeypatch: Any) -> None:
    """A name that stands for several machines goes on sharing the load among them."""
    with places(monkeypatch, well, well) as servers:
        url = f"smtp://mail.test:{servers[0].port}?tls=none"
        with SmtpPool(url, max_messages=1) as pool:
            for hosts in (("127.0.0.1", "::1"), ("::1", "127.0.0.1")) * 2:
                resolve_to(monkeypatch, *hosts)
                pool.send("s@x.example", "a@x.example", BODY)
        assert [len(server.peers) for server in servers] == [2, 2]


def test_a_protocol_error_is_told_where_there_is_nothing_better(monkeypatch: Any) -> None:
    with places(monkeypatch, BAD["nonsense"], BAD["nonsense"]) as servers:
        error = attempt(connect, "mail.test", servers[0].port, tls="none")
    assert isinstance(error, ProtocolError)


def test_an_unix_socket_has_no_other(tmp_path: Any) -> None:
    with ScriptedServer(BAD["421"], path=str(tmp_path / "s")) as server:
        assert isinstance(attempt(server.connect), ConnectError)
        assert len(server.peers) == 1

"""FAULTS group H as a caller sees it: logging in, from connect() to the wire."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from support import certs
from support.fates import attempt, send
from support.scripted import Peer, ScriptedServer
from support.transports import dialled, resolve_all, serving

from pysmtpx import (
    AuthenticationError,
    InputError,
    MechanismUnavailable,
    NotSupportedError,
    ProtocolError,
    SendResult,
    ServiceUnavailable,
    SmtpConnection,
    SmtpError,
    connect,
)
from pysmtpx.flow import credentials as credential_rules

USER, PASSWORD, TOKEN = "ann@x.example", "Tr0ub4dor&3-secret", "ya29.very-secret-token"
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")
ACCOUNT: dict[str, Any] = {"username": USER, "password": PASSWORD}


def _b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def _shown(error: BaseException | None) -> str:
    """Everything that a log or a terminal could come to show of an error."""
    assert error is not None
    parts = [str(error), repr(error), *traceback.format_exception(error), repr(error.__dict__)]
    return "\n".join([*parts, repr(pickle.loads(pickle.dumps(error)))])


def _conceals(text: str) -> None:
    for secret in (PASSWORD, TOKEN):
        for form in (secret.encode(), _b64(secret.encode()), _b64(f"\0{USER}\0{secret}".encode())):
            assert form.decode() not in text


# -- what works ---------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("transport", ["clear", "implicit", "starttls", "unix"])
def test_each_mechanism_logs_in(mechanism: str, transport: str) -> None:
    """FAULTS 76: in clear only because the server is on this machine."""
    with serving(transport, users={USER: PASSWORD}) as server:
        with dialled(server, **ACCOUNT, auth=mechanism) as conn:
            assert isinstance(send(conn), SendResult)
        assert server.messages[0].user == USER


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", None])
@pytest.mark.parametrize("transport", ["implicit", "starttls"])
def test_the_strongest_binds_to_the_channel(mechanism: str | None, transport: str) -> None:
    """FAULTS 83."""
    seen: list[str] = []

    def verdict(event: Any) -> None:
        if event.verb == "AUTH":
            seen.append(event.address)

    with (
        serving(transport, users={USER: PASSWORD}, verdict=verdict) as server,
        dialled(server, **ACCOUNT, auth=mechanism) as conn,
    ):
        assert isinstance(send(conn), SendResult)
    assert set(seen) == {mechanism or "SCRAM-SHA-256-PLUS"}


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_a_token_logs_in(mechanism: str) -> None:
    with (
        serving("implicit", tokens={USER: TOKEN}) as server,
        dialled(server, username=USER, token=lambda: TOKEN, auth=mechanism) as conn,
    ):
        assert isinstance(send(conn), SendResult)


def test_a_long_password_goes_in_a_step_of_its_own() -> None:
    """FAULTS 81: the command would have more than 512 octets."""
    long = "p" * 600
    seen: list[tuple[str, int]] = []

    def verdict(event: Any) -> None:
        if event.verb == "AUTH":
            seen.append((event.address, event.index))

    with (
        serving("implicit", users={USER: long}, mechanisms=["PLAIN"], verdict=verdict) as server,
        dialled(server, username=USER, password=long) as conn,
    ):
        assert isinstance(send(conn), SendResult)
    assert seen == [("PLAIN", 0), ("PLAIN", 1)]


# -- what must not be said in clear ------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"])
def test_no_reusable_secret_in_clear(mechanism: str, monkeypatch: Any) -> None:
    """FAULTS 76."""
    resolve_all(monkeypatch)
    account = {"username": USER, "token": TOKEN} if "OA" in mechanism else ACCOUNT
    with serving(mechanisms=[mechanism], users={USER: PASSWORD}, tokens={USER: TOKEN}) as server:
        error = attempt(connect, "mail.test", server.port, tls="none", **account)
        assert isinstance(error, MechanismUnavailable)
        assert error.stage == "auth"
        _conceals(_shown(error))
        assert server.ledger.commands == [["EHLO"]]
        with connect("mail.test", server.port, tls="none", insecure_auth=True, **account) as conn:
            assert isinstance(send(conn), SendResult)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "CRAM-MD5"])
def test_a_challenge_may_be_answered_in_clear(mechanism: str, monkeypatch: Any) -> None:
    """FAULTS 76."""
    resolve_all(monkeypatch)
    with (
        serving(mechanisms=["PLAIN", mechanism], users={USER: PASSWORD}) as server,
        connect("mail.test", server.port, tls="none", **ACCOUNT) as conn,
    ):
        assert isinstance(send(conn), SendResult)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password(mechanism: str) -> None:
    """FAULTS 80, 86: no other mechanism is tried with it, which would only count as one more failure."""
    with serving("implicit", users={USER: "another"}, mechanisms=[mechanism, "PLAIN"]) as server:
        error = attempt(dialled, server, **ACCOUNT, auth=[mechanism, "PLAIN"])
        assert type(error) is AuthenticationError
        assert (error.stage, error.reply.code) == ("auth", 535)
        assert not error.temporary
        assert not error.safe_to_retry
        _conceals(_shown(error))
    assert "MAIL" not in server.ledger.commands[0]


@pytest.mark.parametrize(
    ("answer", "temporary"),
    [
        ("454 4.7.0 later", True),
        ("432 4.7.12 transition", True),
        ("535 5.7.8 no", False),
        ("500 what", False),
        ("534 5.7.9 stronger", False),
    ],
)
def test_a_refusal_is_for_now_or_for_good(answer: str, temporary: bool) -> None:
    """FAULTS 80."""
    with serving(replies={"AUTH": answer}, users={USER: PASSWORD}, mechanisms=["PLAIN"]) as server:
        error = attempt(dialled, server, **ACCOUNT)
        assert isinstance(error, AuthenticationError)
        assert (error.temporary, str(error.reply)) == (temporary, answer)


def test_the_next_mechanism_is_tried_where_one_is_not_available() -> None:
    """FAULTS 80: 504, and 538 where it wants TLS."""
    replies = {("AUTH", "SCRAM-SHA-256"): "504 5.5.4 not today", ("AUTH", "SCRAM-SHA-1"): "538 5.7.11 no"}
    with serving(users={USER: PASSWORD}, mechanisms=MECHANISMS, replies=replies) as server:
        with dialled(server, **ACCOUNT) as conn:
            assert isinstance(send(conn), SendResult)
        assert server.messages[0].user == USER


def test_a_server_that_offers_nothing_of_ours() -> None:
    """FAULTS 80."""
    with serving(extensions=["AUTH GSSAPI NTLM"]) as server:
        error = attempt(dialled, server, **ACCOUNT)
        assert isinstance(error, MechanismUnavailable)
    with serving(extensions=[]) as server:
        error = attempt(dialled, server, **ACCOUNT)
        assert isinstance(error, NotSupportedError)
        assert error.keyword == "AUTH"
    assert server.ledger.commands == [["EHLO"]]


def test_421_to_auth() -> None:
    """FAULTS 24, 80."""
    with serving(replies={"AUTH": "421 4.3.2 bye"}, users={USER: PASSWORD}) as server:
        error = attempt(dialled, server, **ACCOUNT)
        assert isinstance(error, ServiceUnavailable)
        assert error.stage == "auth"


def test_a_server_that_demands_auth() -> None:
    """FAULTS 19, 80."""
    with serving(users={USER: PASSWORD}, require_auth=True) as server, dialled(server) as conn:
        error = send(conn)
        assert isinstance(error, AuthenticationError)
        assert (error.stage, error.reply.code) == ("mail", 530)
        assert not conn.closed


# -- servers that lie -------------------------------------------------------------------------------


def _auth(mechanism: str, *answers: bytes | Callable[[bytes], bytes], after: bytes = b"") -> Any:
    """A script that answers each line of AUTH, and holds what comes after."""
    rest: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet(f"AUTH {mechanism}")
        for answer in answers:
            line = peer.line()
            peer.say(answer(line) if callable(answer) else answer)
        rest.append(peer.rest())

    return script, rest


@pytest.mark.parametrize("mechanism", ["LOGIN", "PLAIN", "CRAM-MD5", "SCRAM-SHA-256"])
@pytest.mark.parametrize("cancelled", [b"501 5.7.0 cancelled\r\n", b"334 \r\n"])
def test_endless_challenges(mechanism: str, cancelled: bytes) -> None:
    """FAULTS 77: a few rounds, the cancellation, and the end."""
    lines: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet(f"AUTH {mechanism}")
        while True:
            lines.append(peer.line())
            peer.say(cancelled if lines[-1] == b"*" else b"334 VXNlcm5hbWU6\r\n")

    with ScriptedServer(script) as server:
        error = attempt(server.connect, **ACCOUNT, auth=mechanism)
        assert isinstance(error, AuthenticationError)
        _conceals(_shown(error))
    assert len(lines) <= 8
    assert b"*" not in lines[:-1]


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "SCRAM-SHA-256"])
@pytest.mark.parametrize("challenge", [b"334 not!base64\r\n", b"334 \xff\r\n", b"334\r\n"])
def test_a_challenge_that_is_none_is_cancelled(mechanism: str, challenge: bytes) -> None:
    """FAULTS 78."""
    script, rest = _auth(mechanism, challenge, b"501 5.7.0 cancelled\r\n")
    with ScriptedServer(script) as server:
        error = attempt(server.connect, **ACCOUNT)
        assert isinstance(error, AuthenticationError)
        _conceals(_shown(error))
    assert rest == [b""]
    assert b"\r\n*\r\n" in server.received or mechanism.startswith("SCRAM")


@pytest.mark.parametrize(("mechanism", "answer"), [("XOAUTH2", b""), ("OAUTHBEARER", b"AQ==")])
def test_the_reason_of_a_refused_token_and_one_refresh(mechanism: str, answer: bytes) -> None:
    """FAULTS 79."""
    reason = json.dumps({"status": "401", "schemes": "bearer", "scope": "mail"}).encode()
    tokens = iter([TOKEN, TOKEN + "2", TOKEN + "3"])
    used: list[str] = []

    def token() -> str:
        used.append(next(tokens))
        return used[-1]

    turn = (b"334 " + _b64(reason) + b"\r\n", b"535 5.7.8 no\r\n")
    script, rest = _auth(mechanism, *turn, *turn)
    with ScriptedServer(script) as server:
        error = attempt(server.connect, username=USER, token=token, auth=mechanism)
        assert type(error) is AuthenticationError
        assert "401" in str(error)
        assert error.reply.code == 535
        _conceals(_shown(error))
    assert len(used) == 2
    assert server.received.count(b"\r\n" + answer + b"\r\n") == 2
    assert rest == [b""]


def _scram(server_first: Callable[[str], str], *more: bytes) -> Any:
    def first(line: bytes) -> bytes:
        nonce = base64.b64decode(line.split()[2]).decode().rpartition("r=")[2]
        return b"334 " + _b64(server_first(nonce).encode()) + b"\r\n"

    return _auth("SCRAM-SHA-256", first, *more)


@pytest.mark.parametrize(
    ("server_first", "more"),
    [
        (lambda nonce: "r=other,s=c2FsdA==,i=4096", ()),
        (lambda nonce: f"r={nonce},s=c2FsdA==,i=4096", ()),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=1", ()),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=4095", ()),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=100000000", ()),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=4096", (b"334 " + _b64(b"v=d3Jvbmc=") + b"\r\n",)),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=4096", (b"334 " + _b64(b"e=other-error") + b"\r\n",)),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=4096", (b"235 2.7.0 welcome\r\n",)),
    ],
    ids=["nonce", "nonce not longer", "i=1", "i=4095", "i=1e8", "wrong v=", "e=", "235 without v="],
)
def test_a_server_that_does_not_know_the_password_itself(server_first: Any, more: Any) -> None:
    """FAULTS 82: whoever answers is not to be trusted with another octet."""
    script, rest = _scram(server_first, *more)
    with ScriptedServer(script) as server:
        error = attempt(server.connect, **ACCOUNT)
        assert isinstance(error, AuthenticationError)
        _conceals(_shown(error))
    assert all(left in (b"", b"*\r\n") for left in rest)


def test_235_at_once_is_no_proof() -> None:
    """FAULTS 82."""
    script, rest = _auth("SCRAM-SHA-256", b"235 welcome\r\n")
    with ScriptedServer(script) as server:
        assert isinstance(attempt(server.connect, **ACCOUNT), AuthenticationError)
    assert rest == [b""]


@pytest.mark.parametrize("answer", [b"250 ok\r\n", b"354 go\r\n", b"nonsense\r\n", b"235 ok\r\n235 ok\r\n"])
def test_an_answer_that_auth_does_not_know(answer: bytes) -> None:
    """FAULTS 9, 80."""
    script, rest = _auth("PLAIN", answer)
    with ScriptedServer(script) as server:
        error = attempt(server.connect, **ACCOUNT)
        assert type(error) is ProtocolError
        assert error.stage == "auth"
        _conceals(_shown(error))
    assert rest == [b""]


def test_no_plus_without_a_binding_of_our_own() -> None:
    """FAULTS 83: without TLS there is nothing to bind to."""
    with serving(mechanisms=["SCRAM-SHA-256-PLUS"], users={USER: PASSWORD}) as server:
        error = attempt(dialled, server, **ACCOUNT)
        assert isinstance(error, MechanismUnavailable)


def test_a_plus_that_was_struck_from_the_list_is_noticed() -> None:
    """FAULTS 83: the ``y`` flag tells the server, which refuses."""
    lines: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet("AUTH SCRAM-SHA-256")
        lines.append(base64.b64decode(peer.line().split()[2]))
        peer.say(b"535 5.7.8 downgrade\r\n")

    with ScriptedServer(script, tls=certs.server_context()) as server:
        error = attempt(server.connect, tls="implicit", ssl_context=certs.client_context(), **ACCOUNT)
        assert isinstance(error, AuthenticationError)
    assert lines[0].startswith(b"y,,")


# -- this machine, and what is written down -----------------------------------------------------------


def test_a_machine_without_md5(monkeypatch: Any) -> None:
    """FAULTS 84: FIPS blocks it; the next mechanism is taken."""
    monkeypatch.setattr(credential_rules, "_has_hash", lambda digest: digest != "md5")
    with (
        serving("implicit", mechanisms=["CRAM-MD5", "PLAIN"], users={USER: PASSWORD}) as server,
        dialled(server, **ACCOUNT) as conn,
    ):
        assert isinstance(send(conn), SendResult)


@pytest.mark.parametrize("bad", ["a\0b", "a\nb", "a\r", "\ud800"])
@pytest.mark.parametrize("field", ["username", "password", "token", "authzid"])
def test_credentials_with_what_no_mechanism_can_carry(field: str, bad: str) -> None:
    """FAULTS 84, 100: refused before anything is dialled."""
    account = ACCOUNT if field != "token" else {"username": USER}
    with serving() as server:
        error = attempt(connect, server.host, server.port, **{**account, field: bad})
        assert isinstance(error, InputError)
        assert isinstance(error, ValueError)
    assert server.ledger.commands == []


@pytest.mark.parametrize("mechanism", [*MECHANISMS, "XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("ok", [True, False])
def test_secrets_are_nowhere(mechanism: str, ok: bool, caplog: Any, capfd: Any) -> None:
    """FAULTS 85: not in a log, a repr, an error, a traceback, or what is printed."""
    caplog.set_level(logging.DEBUG)
    account: dict[str, Any] = {"username": USER, "token": TOKEN} if "OA" in mechanism else dict(ACCOUNT)
    users, tokens = {USER: PASSWORD if ok else "no"}, {USER: TOKEN if ok else "no"}
    with serving("implicit", mechanisms=[mechanism], users=users, tokens=tokens) as server:
        conn = attempt(dialled, server, **account, auth=mechanism)
        if isinstance(conn, SmtpConnection):
            shown = repr(conn) + repr(conn.server) + repr(conn.__dict__) + repr(conn._channel.__dict__)
            conn.quit()
        else:
            shown = _shown(conn)
            assert isinstance(conn, SmtpError)
        assert isinstance(conn, SmtpConnection) == ok
    captured = capfd.readouterr()
    _conceals("\n".join([shown, caplog.text, captured.out, captured.err]))


def test_a_url_with_a_password_is_never_shown() -> None:
    """FAULTS 85."""
    error = attempt(connect, f"smtp://u:{PASSWORD}@[bad/path")
    assert isinstance(error, InputError)
    _conceals(_shown(error))

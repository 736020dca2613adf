"""FAULTS 77 to 83 as a caller sees them: servers that do not speak AUTH, or lie."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from support import certs
from support.accounts import ACCOUNT, PASSWORD, TOKEN, USER, b64, conceals, shown
from support.fates import attempt
from support.scripted import Peer, ScriptedServer
from support.transports import dialled, serving

from pysmtpx import (
    AuthenticationError,
    MechanismUnavailable,
    ProtocolError,
)


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
        conceals(shown(error))
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
        conceals(shown(error))
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

    turn = (b"334 " + b64(reason) + b"\r\n", b"535 5.7.8 no\r\n")
    script, rest = _auth(mechanism, *turn, *turn)
    with ScriptedServer(script) as server:
        error = attempt(server.connect, username=USER, token=token, auth=mechanism)
        assert type(error) is AuthenticationError
        assert "401" in str(error)
        assert error.reply.code == 535
        conceals(shown(error))
    assert len(used) == 2
    assert server.received.count(b"\r\n" + answer + b"\r\n") == 2
    assert rest == [b""]


def _scram(server_first: Callable[[str], str], *more: bytes) -> Any:
    def first(line: bytes) -> bytes:
        nonce = base64.b64decode(line.split()[2]).decode().rpartition("r=")[2]
        return b"334 " + b64(server_first(nonce).encode()) + b"\r\n"

    return _auth("SCRAM-SHA-256", first, *more)


@pytest.mark.parametrize(
    ("server_first", "more"),
    [
        (lambda nonce: "r=other,s=c2FsdA==,i=4096", ()),
        (lambda nonce: f"r={nonce},s=c2FsdA==,i=4096", ()),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=1", ()),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=4095", ()),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=100000000", ()),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=4096", (b"334 " + b64(b"v=d3Jvbmc=") + b"\r\n",)),
        (lambda nonce: f"r={nonce}x,s=c2FsdA==,i=4096", (b"334 " + b64(b"e=other-error") + b"\r\n",)),
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
        conceals(shown(error))
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
        conceals(shown(error))
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

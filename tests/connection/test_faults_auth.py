"""FAULTS group H as a caller sees it: logging in, from connect() to the wire."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support.accounts import ACCOUNT, PASSWORD, TOKEN, USER, conceals, shown
from support.fates import attempt, send
from support.transports import dialled, resolve_all, serving

from pysmtpx import (
    AuthenticationError,
    InputError,
    MechanismUnavailable,
    NotSupportedError,
    SendResult,
    ServiceUnavailable,
    SmtpConnection,
    SmtpError,
    connect,
)
from pysmtpx.sasl import credentials as credential_rules

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")


# -- what works ---------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("transport", ["clear", "implicit", "starttls", "unix"])
def test_each_mechanism_logs_in(mechanism: str, transport: str) -> None:
    """FAULTS 76: in clear only because the server is on this machine."""
    with serving(transport, users={USER: PASSWORD}) as server:
        with dialled(server, **ACCOUNT, auth=mechanism) as conn:
            assert isinstance(send(conn), SendResult)
        assert server.messages[0].user == USER


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", None])
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
    assert set(seen) == {mechanism or "SCRAM-SHA-512-PLUS"}


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
        conceals(shown(error))
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
        conceals(shown(error))
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
            text = repr(conn) + repr(conn.server) + repr(conn.__dict__) + repr(conn._channel.__dict__)
            conn.quit()
        else:
            text = shown(conn)
            assert isinstance(conn, SmtpError)
        assert isinstance(conn, SmtpConnection) == ok
    captured = capfd.readouterr()
    conceals("\n".join([text, caplog.text, captured.out, captured.err]))


def test_a_url_with_a_password_is_nevershown() -> None:
    """FAULTS 85."""
    error = attempt(connect, f"smtp://u:{PASSWORD}@[bad/path")
    assert isinstance(error, InputError)
    conceals(shown(error))

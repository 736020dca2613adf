"""AUTH against a real Dovecot behind a real Postfix: each mechanism that they offer."""

from __future__ import annotations

from typing import Any

import pytest
from support import certs, corpus
from support.daemon import wait_until
from support.dovecot import token
from support.postfix import PostfixServer

import pysmtpx
from pysmtpx import Server, SmtpConnection

SENDER, ALICE, BOB = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test"
USERS = [ALICE, BOB, "carol@mail.test"]
WITH_PASSWORD = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"]
WITH_TOKEN = ["OAUTHBEARER", "XOAUTH2"]


def server(postfix: PostfixServer, mode: str = "starttls", **options: Any) -> Server:
    """Describe the port for the mode, with an account."""
    ports = {"starttls": postfix.port, "implicit": postfix.smtps_port, "none": postfix.plain_port}
    if mode != "none":
        options["ssl_context"] = certs.client_context()
    return Server(postfix.host, ports[mode], tls=mode, **options)  # type: ignore[arg-type]


def proves(postfix: PostfixServer, connection: SmtpConnection, user: str, mechanism: str) -> None:
    """Send a mail, and wait for Postfix to name who it came from."""
    connection.send(SENDER, [BOB], corpus.SEVEN_BIT["plain"])
    said = f"sasl_method={mechanism}, sasl_username={user}\n"
    wait_until(lambda: said in postfix.log_text(), 30, said)


@pytest.mark.parametrize("mode", ["starttls", "implicit", "none"])
@pytest.mark.parametrize("mechanism", WITH_PASSWORD)
@pytest.mark.parametrize("user", USERS)
def test_a_password(postfix: PostfixServer, mode: str, mechanism: str, user: str) -> None:
    """Odd passwords and long ones; on loopback also in clear text (FAULTS 76)."""
    where = server(postfix, mode, username=user, password=postfix.users[user], auth=mechanism)
    with pysmtpx.connect(where) as connection:
        proves(postfix, connection, user, mechanism)


@pytest.mark.parametrize("mechanism", WITH_PASSWORD)
def test_a_wrong_password(postfix: PostfixServer, mechanism: str) -> None:
    """FAULTS 80: for good, and not tried with another mechanism."""
    where = server(postfix, username=ALICE, password="wrong", auth=mechanism)
    with pytest.raises(pysmtpx.AuthenticationError) as caught:
        pysmtpx.connect(where)
    assert not isinstance(caught.value, pysmtpx.MechanismUnavailable)
    assert (caught.value.stage, caught.value.reply.code) == ("auth", 535)
    assert not caught.value.temporary
    assert "wrong" not in repr(caught.value) + str(caught.value)


def test_an_unknown_user(postfix: PostfixServer) -> None:
    with pytest.raises(pysmtpx.AuthenticationError) as caught:
        pysmtpx.connect(server(postfix, username="nobody@mail.test", password="x"))
    assert caught.value.reply.code == 535


def test_a_refused_password_is_tried_once(postfix: PostfixServer) -> None:
    """FAULTS 86: no lockout by falling through the list of mechanisms."""
    with pytest.raises(pysmtpx.AuthenticationError):
        pysmtpx.connect(server(postfix, username=ALICE, password="wrong"))
    wait_until(lambda: "disconnect from" in postfix.log_text(), 30, "the end of the session")
    assert "auth=0/1" in postfix.log_text()


@pytest.mark.parametrize("mode", ["starttls", "implicit", "none"])
def test_the_strongest_mechanism_first(postfix: PostfixServer, mode: str) -> None:
    with pysmtpx.connect(server(postfix, mode, username=ALICE, password=postfix.users[ALICE])) as connection:
        proves(postfix, connection, ALICE, "SCRAM-SHA-256")


def test_a_url_with_user_and_password(postfix: PostfixServer) -> None:
    url = f"smtp://bob%40mail.test:bob's%20secret@{postfix.host}:{postfix.plain_port}"
    with pysmtpx.connect(url) as connection:
        proves(postfix, connection, BOB, "SCRAM-SHA-256")


@pytest.mark.parametrize("mechanism", WITH_TOKEN)
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_a_token(postfix: PostfixServer, mode: str, mechanism: str) -> None:
    where = server(postfix, mode, username=ALICE, token=token(ALICE), auth=mechanism)
    with pysmtpx.connect(where) as connection:
        proves(postfix, connection, ALICE, mechanism)


def test_a_token_that_is_fetched_when_needed(postfix: PostfixServer) -> None:
    with pysmtpx.connect(server(postfix, username=BOB, token=lambda: token(BOB))) as connection:
        proves(postfix, connection, BOB, "OAUTHBEARER")


@pytest.mark.parametrize("mechanism", WITH_TOKEN)
@pytest.mark.parametrize(
    "bad",
    [lambda: token(ALICE, lifetime=-30), lambda: token(BOB), lambda: "nonsense"],
    ids=["expired", "another's", "no token"],
)
def test_a_token_that_does_not_hold(postfix: PostfixServer, mechanism: str, bad: Any) -> None:
    """FAULTS 79: the challenge with the reason is answered, and the refusal read."""
    with pytest.raises(pysmtpx.AuthenticationError) as caught:
        pysmtpx.connect(server(postfix, username=ALICE, token=bad(), auth=mechanism))
    assert caught.value.reply.code == 535


def test_a_mechanism_that_is_not_offered(postfix: PostfixServer) -> None:
    with pytest.raises(pysmtpx.MechanismUnavailable):
        pysmtpx.connect(server(postfix, username=ALICE, password="x", auth="SCRAM-SHA-256-PLUS"))


def test_auth_that_is_offered_under_tls_only(postfix: PostfixServer) -> None:
    """FAULTS 75: the list before STARTTLS is another than the one after it."""
    where = Server(postfix.host, postfix.port, tls="none", username=ALICE, password=postfix.users[ALICE])
    with pytest.raises((pysmtpx.AuthenticationError, pysmtpx.NotSupportedError)):
        pysmtpx.connect(where)

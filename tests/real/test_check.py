"""`pysmtpx.checking` at real servers: each step is told as it is, and nobody gets a message."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.chasquid import ChasquidServer
from support.dovecot import USERS, DovecotServer
from support.exim import EximServer
from support.opensmtpd import OpensmtpdServer
from support.postfix import BAD_SENDER, LATER, UTF8_USER, PostfixServer
from support.realserver import RealServer, on

from pysmtpx.checking import Check, check

ALICE = "alice@mail.test"
NOBODY = "nobody@mail.test"
ACCOUNT = {"username": ALICE, "password": USERS[ALICE]}
Look = Callable[..., Check]


@pytest.fixture
def look(postfix: PostfixServer, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Look at a port of Postfix, whose authority is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(postfix.base / "ca.pem"))

    def at(port: int, **options: object) -> Check:
        return check("localhost", port, **options)  # type: ignore[arg-type]

    return at


def problem(seen: Check) -> tuple[str, str]:
    (first,) = [each for each in seen.findings if each.level == "problem"]
    return first.what, first.cure


def test_postfix_in_order(look: Look, postfix: PostfixServer) -> None:
    seen = look(postfix.port, tls="starttls", sender=ALICE, recipients=[ALICE, UTF8_USER], **ACCOUNT)
    assert seen.ok, seen.findings
    assert seen.before_tls is not None
    assert "AUTH" not in seen.before_tls
    assert seen.after_tls is not None
    assert "AUTH" in seen.after_tls
    assert seen.verified
    assert seen.mechanism == "SCRAM-SHA-256"
    assert seen.logged_in
    assert [each.accepted for each in seen.envelope] == [True, True, True]
    assert postfix.mailbox(ALICE).take(0) == []


def test_postfix_without_starttls(look: Look, postfix: PostfixServer) -> None:
    assert "STARTTLS" in problem(look(postfix.plain_port, tls="starttls"))[0]
    what, cure = problem(look(postfix.plain_port, tls="none", recipients=UTF8_USER))
    assert "SMTPUTF8" in what
    assert "ASCII" in cure


def test_postfix_at_its_port_with_tls(look: Look, postfix: PostfixServer) -> None:
    assert look(postfix.smtps_port, tls="implicit").ok
    assert "smtps://" in problem(look(postfix.smtps_port, tls="starttls"))[1]
    assert "smtp://" in problem(look(postfix.port, tls="implicit"))[1]


def test_postfix_that_demands_a_certificate(look: Look, postfix: PostfixServer) -> None:
    """Under TLS 1.3 the demand comes behind the handshake."""
    what, cure = problem(look(postfix.certificate_port, tls="implicit"))
    assert "certificate" in what + cure


def test_postfix_and_a_wrong_password(look: Look, postfix: PostfixServer) -> None:
    seen = look(postfix.port, tls="starttls", username=ALICE, password="wrong")
    assert seen.logged_in is False
    assert "password" in problem(seen)[1]


@pytest.mark.parametrize(
    ("sender", "recipient", "said"),
    [
        (BAD_SENDER, ALICE, "MAIL"),
        (ALICE, LATER, "refused for now"),
        (ALICE, NOBODY, "mailbox"),
        (ALICE, "bob@elsewhere.test", "log in"),
    ],
)
def test_postfix_refuses(look: Look, postfix: PostfixServer, sender: str, recipient: str, said: str) -> None:
    assert said in " ".join(problem(look(postfix.port, tls="starttls", sender=sender, recipients=recipient)))


@pytest.mark.parametrize("at", ["port", "socket"])
def test_dovecot_by_lmtp(dovecot: DovecotServer, at: str) -> None:
    url = f"lmtp://127.0.0.1:{dovecot.port}" if at == "port" else f"lmtp+unix://{dovecot.socket_path}"
    seen = check(url, sender="", recipients=[ALICE])
    assert seen.ok, seen.findings
    assert [each.accepted for each in seen.envelope] == [True, True]
    assert NOBODY in problem(check(url, recipients=[NOBODY]))[0]
    assert dovecot.mailbox(ALICE).take(0) == []


@on(EximServer, OpensmtpdServer, ChasquidServer)
def test_other_servers(server: RealServer) -> None:
    url = f"smtp://127.0.0.1:{server.port}?tls=none"
    seen = check(url, sender="sender@elsewhere.test", recipients=[ALICE])
    assert seen.ok, seen.findings
    assert [each.accepted for each in seen.envelope] == [True, True]
    assert NOBODY in problem(check(url, sender="sender@elsewhere.test", recipients=[NOBODY]))[0]
    assert server.mailbox(ALICE).take(0) == []

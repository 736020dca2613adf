"""Errors that name the cure: each mistake, made with a server of its kind, and what the error says."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from support.certs import client_context, server_context

import pysmtpx
from pysmtpx import (
    AllRecipientsFailed,
    AuthenticationError,
    MechanismUnavailable,
    NotSupportedError,
    SmtpError,
    TlsError,
)
from pysmtpx.testing import MailServer

ACCOUNT: dict[str, Any] = {"username": "ann", "password": "geheim-1"}
MAIL = ("ann@example.org", ["bea@example.com"], b"Subject: x\r\n\r\nhello\r\n")


def failure(call: Any, *arguments: Any, **options: Any) -> SmtpError:
    """What a call fails with; its text ends with the name of its section, and it pickles."""
    with pytest.raises(SmtpError) as caught:
        call(*arguments, **options)
    error = caught.value
    assert str(error).endswith(f"[{type(error).__name__.lower()}]")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "geheim" not in f"{error}{error!r}"
    return error


def connecting(server: MailServer, **options: Any) -> SmtpError:
    """What connecting to it fails with."""
    return failure(pysmtpx.connect, server.host, server.port, **options)


# -- 530 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["MAIL", "DATA", "FINAL"])
@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("Must issue a STARTTLS command first", TlsError, "the server demands TLS first"),
        ("Authentication required", AuthenticationError, "the server demands AUTH"),
        ("no", AuthenticationError, "the server demands a log-in, or TLS"),
    ],
)
def test_530(verb: str, is_tls: bool, said: str, kind: type[SmtpError], told: str) -> None:
    """FAULTS 19: the codes are the same; the text and the line tell what is demanded."""
    tls: dict[str, Any] = {"ssl_context": server_context()} if is_tls else {}
    options: dict[str, Any] = {"tls": "starttls", "ssl_context": client_context()} if is_tls else {}
    with (
        MailServer(replies={verb: f"530 5.7.0 {said}"}, strict=False, **tls) as server,
        pysmtpx.connect(server.host, server.port, **options) as smtp,
    ):
        error = failure(smtp.send, *MAIL)
        assert type(error) is kind
        assert error.text.startswith(f"{told} (RFC")
        assert (error.reply.code, error.temporary, error.safe_to_retry) == (530, False, False)  # type: ignore[union-attr]
        assert (
            "TLS is on" if is_tls and kind is TlsError else "Use tls="
        ) in error.cure or kind is not TlsError
        assert error.rejected_recipients
        assert not smtp.closed


def test_530_to_every_recipient() -> None:
    with (
        MailServer(replies={"RCPT": "530 5.7.0 Authentication required"}) as server,
        pysmtpx.connect(server.url) as smtp,
    ):
        error = failure(smtp.send, *MAIL)
        assert type(error) is AllRecipientsFailed
        assert error.text == (
            "1 of 1 recipients were refused: bea@example.com (530 5.7.0 Authentication required)."
            " Give username and password (or token)."
        )


def test_530_although_we_are_logged_in() -> None:
    """Then it is about the account, or the sender."""
    with (
        MailServer(
            users={"ann": "geheim-1"}, replies={"MAIL": "530 5.7.0 Authentication required"}
        ) as server,
        pysmtpx.connect(server.url, **ACCOUNT) as smtp,
    ):
        assert failure(smtp.send, *MAIL).cure.startswith("A log-in was accepted before")


# -- what is not offered -------------------------------------------------------------------------------------


def test_no_auth_in_clear_but_starttls() -> None:
    """Somebody has switched TLS off, or this machine's port is tried: the option to change is named."""
    context = server_context()
    with MailServer(ssl_context=context, users={"ann": "x"}, extensions=["STARTTLS", "AUTH"]) as server:
        error = connecting(server, tls="none", **ACCOUNT)
    assert type(error) is NotSupportedError
    assert error.text == (
        "the server does not offer AUTH (RFC 4954). AUTH is likely offered only after STARTTLS here:"
        ' use tls="starttls" (it is off or failed).'
    )


def test_no_auth_at_all() -> None:
    with MailServer() as server:
        error = connecting(server, **ACCOUNT)
    assert "This port takes no log-in: use port 587 or 465" in error.cure


def test_no_starttls() -> None:
    with MailServer() as server:
        error = connecting(server, tls="starttls")
    assert type(error) is TlsError
    assert error.text == (
        "the server does not offer STARTTLS (RFC 3207). Try port 465 (smtps://) or 587. Only on a line that"
        ' nobody can listen to: tls="none" (?tls=none in a URL).'
    )


def test_a_wrong_password() -> None:
    with MailServer(users={"ann": "other"}) as server:
        error = connecting(server, **ACCOUNT)
    assert type(error) is AuthenticationError
    assert "want an app password or OAuth" in error.cure


def test_no_mechanism_in_common() -> None:
    with MailServer(tokens={"ann": "token"}) as server:
        error = connecting(server, **ACCOUNT)
    assert type(error) is MechanismUnavailable
    assert "a token takes the password's place" in error.cure

"""``login`` and ``auth``."""

from __future__ import annotations

from typing import Any

import pytest

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import Cut, Event, MailServer

USER, PASSWORD = "ann", "gräfin-päßwort"
ALL = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"]


def connected(server: MailServer) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", server.port, "me.example")


def used(server: MailServer, seen: list[str]) -> list[str]:
    return list(dict.fromkeys(seen))


def listening(seen: list[str]) -> Any:
    """Note the mechanism of every AUTH."""

    def verdict(event: Event) -> None:
        if event.verb == "AUTH":
            seen.append(event.address)

    return verdict


@pytest.mark.parametrize("mechanism", ALL)
def test_every_mechanism_takes_a_password_in_utf8(mechanism: str) -> None:
    with MailServer(users={USER: PASSWORD}, mechanisms=[mechanism]) as server, connected(server) as smtp:
        assert smtp.login(USER, PASSWORD)[0] == 235
        assert (smtp.user, smtp.password) == (USER, PASSWORD)
        assert smtp.sendmail("ann@example.org", "bob@example.com", b"Subject: x\r\n\r\n") == {}
    assert server.messages[0].user == USER


def test_the_strongest_mechanism_is_used() -> None:
    seen: list[str] = []
    with (
        MailServer(users={USER: PASSWORD}, mechanisms=ALL[::-1], verdict=listening(seen)) as server,
        connected(server) as smtp,
    ):
        code, text = smtp.login(USER, PASSWORD)
        assert code == 235
        assert isinstance(text, bytes)
    assert set(seen) == {"SCRAM-SHA-256"}


@pytest.mark.parametrize(
    ("written", "first"), [("PLAIN", "PLAIN"), ("LOGIN PLAIN", "PLAIN"), ("cram-md5", "CRAM-MD5")]
)
def test_a_user_picks_mechanisms_by_writing_the_features(written: str, first: str) -> None:
    seen: list[str] = []
    with (
        MailServer(users={USER: PASSWORD}, mechanisms=ALL, verdict=listening(seen)) as server,
        connected(server) as smtp,
    ):
        smtp.ehlo()
        smtp.esmtp_features["auth"] = written
        assert smtp.login(USER, PASSWORD)[0] == 235
    assert set(seen) == {first}


def test_after_a_refusal_the_next_mechanism_is_tried() -> None:
    seen: list[str] = []

    def verdict(event: Event) -> str | None:
        listening(seen)(event)
        return "535 5.7.8 not so" if event.verb == "AUTH" and event.address != "LOGIN" else None

    mechanisms = ["CRAM-MD5", "PLAIN", "LOGIN"]
    with (
        MailServer(users={USER: "p"}, mechanisms=mechanisms, verdict=verdict) as server,
        connected(server) as smtp,
    ):
        assert smtp.login(USER, "p")[0] == 235
    assert list(dict.fromkeys(seen)) == mechanisms


def test_a_wrong_password_is_told_by_the_last_refusal() -> None:
    with MailServer(users={USER: "right"}, mechanisms=ALL) as server, connected(server) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            smtp.login(USER, "wrong")
        assert caught.value.smtp_code == 535
        assert isinstance(caught.value.smtp_error, bytes)
        assert smtp.noop()[0] == 250


def test_what_login_says_where_it_cannot() -> None:
    with (
        MailServer() as server,
        connected(server) as smtp,
        pytest.raises(smtplib.SMTPNotSupportedError, match="AUTH extension not supported"),
    ):
        smtp.login(USER, "p")
    with MailServer(extensions=["AUTH GSSAPI"]) as server, connected(server) as smtp:
        with pytest.raises(smtplib.SMTPException, match="No suitable authentication method") as caught:
            smtp.login(USER, "p")
        assert type(caught.value) is smtplib.SMTPException


def test_already_logged_in_is_no_error() -> None:
    replies = {"AUTH": "503 5.5.1 already"}
    with (
        MailServer(users={USER: "p"}, mechanisms=["PLAIN"], replies=replies) as server,
        connected(server) as smtp,
    ):
        assert smtp.login(USER, "p") == (503, b"5.5.1 already")


def test_the_connection_may_end_in_the_middle() -> None:
    for answer, kind in (
        (Cut(), smtplib.SMTPServerDisconnected),
        ("421 bye", smtplib.SMTPAuthenticationError),
    ):
        with MailServer(users={USER: "p"}, mechanisms=ALL, replies={"AUTH": answer}) as server:
            smtp = connected(server)
            with pytest.raises(kind):
                smtp.login(USER, "p")
            assert smtp.sock is None


def test_without_an_initial_response() -> None:
    with MailServer(users={USER: PASSWORD}, mechanisms=["PLAIN"]) as server, connected(server) as smtp:
        assert smtp.login(USER, PASSWORD, initial_response_ok=False)[0] == 235


@pytest.mark.parametrize("initial", [True, False])
def test_auth_with_an_object_of_the_callers(initial: bool) -> None:
    asked: list[Any] = []

    def xoauth2(challenge: bytes | None = None) -> str:
        asked.append(challenge)
        return "user=ann\1auth=Bearer t-o-k-e-n\1\1"

    with MailServer(tokens={USER: "t-o-k-e-n"}, mechanisms=["XOAUTH2"]) as server, connected(server) as smtp:
        smtp.ehlo()
        assert smtp.auth("xoauth2", xoauth2, initial_response_ok=initial)[0] == 235
    assert asked == ([None] if initial else [b""])


def test_auth_that_is_refused() -> None:
    with MailServer(users={USER: "right"}, mechanisms=["PLAIN"]) as server, connected(server) as smtp:
        smtp.ehlo()
        smtp.user, smtp.password = USER, "wrong"
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            smtp.auth("PLAIN", smtp.auth_plain)
        assert caught.value.smtp_code == 535


def test_a_server_that_cannot_prove_itself_gets_nothing_more() -> None:
    """Someone in the server's place could accept any password (RFC 5802 3)."""
    seen: list[str] = []

    def verdict(event: Event) -> str | None:
        listening(seen)(event)
        return "235 2.7.0 come in" if event.verb == "AUTH" and event.index == 1 else None

    with MailServer(users={USER: "p"}, mechanisms=ALL, verdict=verdict, strict=False) as server:
        smtp = connected(server)
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            smtp.login(USER, "p")
        assert caught.value.smtp_code == -1
        assert smtp.sock is None
    assert set(seen) == {"SCRAM-SHA-256"}


def test_a_password_that_a_mechanism_cannot_carry_goes_by_the_next() -> None:
    seen: list[str] = []
    password = "with \u0221"  # not assigned in Unicode 3.2 (RFC 4013 2.5)
    with (
        MailServer(
            users={USER: password}, mechanisms=["SCRAM-SHA-256", "PLAIN"], verdict=listening(seen)
        ) as server,
        connected(server) as smtp,
    ):
        assert smtp.login(USER, password)[0] == 235
    assert set(seen) == {"PLAIN"}


def test_an_empty_password_is_the_servers_to_refuse() -> None:
    with (
        MailServer(users={USER: "p"}, mechanisms=["PLAIN"], strict=False) as server,
        connected(server) as smtp,
    ):
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login(USER, "")
        assert smtp.login(USER, "p")[0] == 235


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "PLAIN", "LOGIN"])
def test_the_authobjects_take_a_password_in_utf8(mechanism: str) -> None:
    with MailServer(users={USER: PASSWORD}, mechanisms=[mechanism]) as server, connected(server) as smtp:
        smtp.ehlo()
        smtp.user, smtp.password = USER, PASSWORD
        authobject = getattr(smtp, f"auth_{mechanism.lower().replace('-', '_')}")
        assert smtp.auth(mechanism, authobject)[0] == 235

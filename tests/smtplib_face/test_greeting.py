"""EHLO, STARTTLS and the line between two messages: who goes away is not talked to, nobody is forgotten."""

from __future__ import annotations

import sys
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
from support.certs import client_context, server_context

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import Cut, Garbage, MailServer

ANN, BOB, EVE = "ann@example.org", "bob@example.com", "eve@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"


class Stepwise(smtplib.SMTP):
    """Asked for each command."""

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        return super().docmd(cmd, args)


KINDS = pytest.mark.parametrize("kind", [smtplib.SMTP, Stepwise])
CALLS: dict[str, Callable[[smtplib.SMTP], object]] = {
    "sendmail": lambda smtp: smtp.sendmail(ANN, [BOB, EVE], OCTETS),
    "login": lambda smtp: smtp.login("ann", "p"),
    "starttls": lambda smtp: smtp.starttls(),
    "needed": lambda smtp: smtp.ehlo_or_helo_if_needed(),
}


@KINDS
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "reply", ["421 4.3.2 bye", Cut(), Cut(2, "what"), Cut(8, "421 4.3.2 bye"), Cut(5, "500 no")]
)
def test_who_goes_away_at_ehlo_is_not_greeted_again(
    reply: Any, call: str, kind: type[smtplib.SMTP], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []
    monkeypatch.setattr(sys, "audit", lambda *event: events.append(event))
    with MailServer(strict=False, replies={"EHLO": reply}) as server:
        smtp = kind("127.0.0.1", server.port, "me.example", timeout=5)
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            CALLS[call](smtp)
        assert smtp.sock is None
        if call == "sendmail":
            error: Any = caught.value
            assert error.unsent_recipients == (BOB, EVE)
            assert error.safe_to_retry
    assert [event[2] for event in events if event[0] == "smtplib.send"] == [b"ehlo me.example\r\n"]


@pytest.mark.parametrize("code", [500, 502, 554, 451])
def test_a_refused_ehlo_is_followed_by_helo(code: int) -> None:
    with (
        MailServer(strict=False, replies={"EHLO": f"{code} no"}) as server,
        smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp,
    ):
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
    assert server.ledger.commands[0][:2] == ["EHLO", "HELO"]


@KINDS
@pytest.mark.parametrize("way", ["sendmail", "send_message"])
def test_of_a_server_that_hung_up_between_two_messages_everybody_is_unsent(
    way: str, kind: type[smtplib.SMTP]
) -> None:
    with MailServer(replies={("FINAL", 0): Cut(None)}) as server:
        smtp = kind("127.0.0.1", server.port, "me.example", timeout=5)
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}
        message = EmailMessage()
        message["From"], message["To"] = ANN, f"{BOB}, {EVE}"
        with pytest.raises(smtplib.SMTPServerDisconnected) as caught:
            smtp.sendmail(ANN, [BOB, EVE], OCTETS) if way == "sendmail" else smtp.send_message(message)
        error: Any = caught.value
        assert error.unsent_recipients == (BOB, EVE)
        assert (error.unknown_recipients, error.rejected_recipients) == ((), ())
        assert error.safe_to_retry


# -- STARTTLS ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        "250 2.0.0 ok",
        "200 ok",
        "221 2.0.0 bye",
        "235 2.7.0 ok",
        "354 go on",
        "421 4.3.2 bye",
        Garbage(b"what\r\n"),
    ],
)
def test_no_password_goes_in_clear_behind_a_yes_to_starttls_that_brought_no_tls(reply: Any) -> None:
    with MailServer(
        strict=False, ssl_context=server_context(), users={"ann": "p"}, replies={"STARTTLS": reply}
    ) as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example", timeout=5)
        with pytest.raises(smtplib.SMTPException):
            smtp.starttls(context=client_context())
        assert smtp.sock is None
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.login("ann", "p")
    assert [verb for verbs in server.ledger.commands for verb in verbs if verb == "AUTH"] == []


@pytest.mark.parametrize("reply", ["454 4.7.0 not now", "502 5.5.1 no", "501 5.5.4 no"])
def test_a_refused_starttls_leaves_the_session_as_it_is_in_smtplib(module: Any, reply: str) -> None:
    with (
        MailServer(strict=False, ssl_context=server_context(), replies={"STARTTLS": reply}) as server,
        module.SMTP("127.0.0.1", server.port, "me.example", timeout=5) as smtp,
    ):
        with pytest.raises(smtplib.SMTPResponseException) as caught:
            smtp.starttls(context=client_context())
        assert caught.value.smtp_code == int(reply[:3])
        assert smtp.sendmail(ANN, BOB, OCTETS) == {}

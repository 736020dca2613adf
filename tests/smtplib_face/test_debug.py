"""Debug output, and events of ``sys.audit``: everything but what logs in."""

from __future__ import annotations

import base64
import sys
from typing import Any

import pytest

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import Event, MailServer

ANN, BOB = "ann@example.org", "bob@example.com"
OCTETS = b"Subject: hello\r\n\r\nHi.\r\n"
USER, PASSWORD = "ann", "tr0ub4dor&3"
ALL = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"]
SECRETS = [
    PASSWORD,
    *(base64.b64encode(text.encode()).decode() for text in (PASSWORD, f"\0{USER}\0{PASSWORD}")),
]


def debugging(server: MailServer) -> smtplib.SMTP:
    smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example")
    smtp.set_debuglevel(1)
    return smtp


def echo(event: Event) -> str | None:
    """A server that repeats what it was sent."""
    if event.verb != "AUTH" or (event.index == 0 and event.address == "LOGIN"):
        return None
    return f"535 5.7.8 no: {' '.join(SECRETS)}"


def test_what_is_said_and_heard_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with MailServer() as server, debugging(server) as smtp:
        smtp.sendmail(ANN, BOB, OCTETS)
    told = capsys.readouterr().err
    for line in (
        "send: 'ehlo me.example\\r\\n'",
        "mail from:<ann@example.org>",
        "data",
        "Hi.",
        "354",
        "QUIT",
    ):
        assert line in told
    assert "reply: retcode (250); Msg: b'2.1.0" in told


@pytest.mark.parametrize("mechanism", ALL)
@pytest.mark.parametrize("verdict", [None, echo], ids=["accepts", "echoes"])
def test_no_secret_is_told(mechanism: str, verdict: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        MailServer(users={USER: PASSWORD}, mechanisms=[mechanism], verdict=verdict) as server,
        debugging(server) as smtp,
    ):
        for password in (PASSWORD, "pässwört"):
            try:
                smtp.login(USER, password)
                break
            except smtplib.SMTPAuthenticationError:
                pass
        assert smtp.noop()[0] == 250
    told = capsys.readouterr().err
    assert f"AUTH {mechanism} ***" in told or "send: '***'" in told
    assert [secret for secret in SECRETS if secret in told] == []
    assert "send: 'noop" in told


@pytest.mark.parametrize("way", ["auth", "docmd", "stepwise"])
def test_no_secret_of_a_callers_own_exchange_is_told(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Stepwise(smtplib.SMTP):
        def _print_debug(self, *args: object) -> None:
            print(*args, file=sys.stderr)

        def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
            return super().docmd(cmd, args)

    with (
        MailServer(users={USER: PASSWORD}, mechanisms=["PLAIN", "LOGIN"]) as server,
        Stepwise("127.0.0.1", server.port, "me.example") as smtp,
    ):
        smtp.set_debuglevel(2)
        smtp.ehlo()
        if way == "docmd":
            assert smtp.docmd("AUTH", "LOGIN")[0] == 334
            assert smtp.docmd(base64.b64encode(USER.encode()).decode())[0] == 334
            assert smtp.docmd(SECRETS[1])[0] == 235
        elif way == "auth":
            smtp.user, smtp.password = USER, PASSWORD
            assert smtp.auth("PLAIN", smtp.auth_plain, initial_response_ok=False)[0] == 235
        else:
            assert smtp.login(USER, PASSWORD)[0] == 235
        smtp.noop()
        assert smtp.debuglevel == 2
    told = capsys.readouterr().err
    assert "AUTH" in told
    assert "send: 'noop" in told
    assert [secret for secret in SECRETS if secret in told] == []


def test_no_secret_is_in_an_exception() -> None:
    with MailServer(users={USER: PASSWORD}) as server, debugging(server) as smtp:
        smtp.ehlo()
        with pytest.raises(ValueError, match="prohibited newline") as caught:
            smtp.docmd("AUTH", f"PLAIN {SECRETS[2]}\nNOOP")
        assert SECRETS[2] not in str(caught.value)
        assert smtp.noop()[0] == 250


def test_events_of_sys_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[Any, ...]] = []
    monkeypatch.setattr(sys, "audit", lambda *event: events.append(event))
    with MailServer() as server:
        with smtplib.SMTP("127.0.0.1", server.port, "me.example") as smtp:
            smtp.sendmail(ANN, BOB, OCTETS)
        assert ("smtplib.connect", smtp, "127.0.0.1", server.port) in events
    sent = [event[2] for event in events if event[0] == "smtplib.send"]
    assert sent[0] == b"ehlo me.example\r\n"
    assert sent[2] == OCTETS + b".\r\n"
    assert all(event[1] is smtp for event in events)

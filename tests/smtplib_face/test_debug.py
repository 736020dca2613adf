"""Debug output, and events of ``sys.audit``: everything but what logs in."""

from __future__ import annotations

import base64
import contextlib
import smtplib as standard
import sys
from typing import Any

import pytest
from support.traces import frames_shown

import pysmtpx.smtplib as smtplib
from pysmtpx.testing import Cut, Event, MailServer

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


@pytest.mark.parametrize("features", [[], ["PIPELINING"]], ids=["sequential", "pipelined"])
@pytest.mark.parametrize("data", [None, "554 5.3.4 no"], ids=["taken", "refused"])
def test_what_is_told_of_a_sendmail_are_the_lines_of_smtplib(
    features: list[str], data: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same lines; pipelined, the commands stand before the replies."""
    told = []
    for module in (standard, smtplib):
        replies: Any = {"DATA": data} if data else {}
        with (
            MailServer(
                extensions=features, refuse={"eve@x.test": "550-no\n550 never"}, replies=replies
            ) as server,
            module.SMTP("127.0.0.1", server.port, "me.example") as smtp,
        ):
            smtp.set_debuglevel(1)
            with contextlib.suppress(smtplib.SMTPDataError):
                smtp.sendmail(ANN, [BOB, "eve@x.test"], OCTETS)
            smtp.set_debuglevel(0)
        # After a refused DATA ours says RSET.
        lines = [
            line
            for line in capsys.readouterr().err.splitlines()
            if "rset" not in line and "reset" not in line
        ]
        told.append(
            [line.replace("mail FROM:", "mail from:").replace("rcpt TO:", "rcpt to:") for line in lines]
        )
    theirs, ours = told
    assert (sorted(ours) if features else ours) == (sorted(theirs) if features else theirs)
    assert any(line.startswith("data: (") for line in ours)


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


@pytest.mark.parametrize("way", ["login", "stepwise", "auth", "docmd", "send"])
@pytest.mark.parametrize("mechanism", ALL)
def test_no_secret_is_in_an_event_of_sys_audit(
    mechanism: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 85. The event is raised all the same."""

    class Stepwise(smtplib.SMTP):
        def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
            return super().docmd(cmd, args)

    if way != "login" and mechanism.startswith("SCRAM"):
        mechanism = "CRAM-MD5"
    events: list[Any] = []
    monkeypatch.setattr(sys, "audit", lambda *event: events.append(event))
    kind = smtplib.SMTP if way == "login" else Stepwise
    with (
        MailServer(users={USER: PASSWORD}, mechanisms=[mechanism, "PLAIN"]) as server,
        kind("127.0.0.1", server.port, "me.example") as smtp,
    ):
        smtp.ehlo()
        smtp.user, smtp.password = USER, PASSWORD
        if way == "docmd":
            assert smtp.docmd("AUTH", f"PLAIN {SECRETS[2]}")[0] == 235
        elif way == "send":
            smtp.send(f"AUTH PLAIN {SECRETS[2]}\r\n".encode())
            assert smtp.getreply()[0] == 235
        elif way == "auth":
            method = getattr(smtp, f"auth_{mechanism.lower().replace('-', '_')}")
            assert smtp.auth(mechanism, method)[0] == 235
        else:
            smtp.esmtp_features["auth"] = mechanism
            assert smtp.login(USER, PASSWORD)[0] == 235
        assert smtp.noop()[0] == 250
    sent = [event[2] for event in events if event[0] == "smtplib.send"]
    assert [line for line in sent for secret in SECRETS if secret.encode() in line] == []
    assert sent[1].split()[0] in (b"AUTH", b"***")
    assert b"***" in b" ".join(sent)
    assert sent[-2:] == [b"noop\r\n", b"QUIT\r\n"]


@pytest.mark.parametrize(
    "verdict", [lambda event: Cut(), lambda event: "535 5.7.8 no", lambda event: "421 bye"]
)
@pytest.mark.parametrize("mechanism", ALL)
def test_no_frame_of_a_failed_login_shows_a_secret(mechanism: str, verdict: Any) -> None:
    """Whoever reports errors shows the locals of each frame."""

    def judge(event: Event) -> Any:
        return verdict(event) if event.verb == "AUTH" and event.index else None

    with MailServer(strict=False, users={USER: PASSWORD}, mechanisms=[mechanism], verdict=judge) as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "me.example")
        with pytest.raises(smtplib.SMTPException) as caught:
            smtp.login(USER, "wrong" + PASSWORD)
        smtp.close()
    wrong = ("wrong" + PASSWORD, f"\0{USER}\0wrong{PASSWORD}")
    secrets = [*SECRETS, *(base64.b64encode(text.encode()).decode() for text in wrong)]
    assert [secret for secret in secrets if secret in frames_shown(caught.value)] == []


@pytest.mark.parametrize("way", ["login", "stepwise", "auth", "docmd"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_no_secret_that_a_server_repeats_is_in_an_error(mechanism: str, way: str) -> None:
    class Stepwise(smtplib.SMTP):
        def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
            return super().docmd(cmd, args)

    kind = smtplib.SMTP if way == "login" else Stepwise
    with (
        MailServer(strict=False, users={USER: PASSWORD}, mechanisms=[mechanism], verdict=echo) as server,
        kind("127.0.0.1", server.port, "me.example") as smtp,
    ):
        smtp.ehlo()
        smtp.user, smtp.password = USER, PASSWORD
        told = ""
        if way == "docmd":
            code, text = smtp.docmd("auth", f"PLAIN {SECRETS[2]}")
            told = text.decode()
            assert (code, SECRETS[2] in told) == (535, False)
        else:
            method = getattr(smtp, f"auth_{mechanism.lower().replace('-', '_')}")
            with pytest.raises(smtplib.SMTPException) as caught:
                smtp.auth(mechanism, method) if way == "auth" else smtp.login(USER, PASSWORD)
            told = f"{caught.value!r} {caught.value.__cause__!r}"
        assert [secret for secret in SECRETS if secret in told] == []
        assert "not shown" in told or "334" in told


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

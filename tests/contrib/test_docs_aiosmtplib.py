"""The page for those who come from aiosmtplib: its snippets run, and its tables leave no name out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from support import pages

import pysmtpx
from pysmtpx.testing import MailServer

PATH = pages.DOCS / "from-aiosmtplib.md"
PAGE = PATH.read_text("utf-8")
SNIPPETS = pages.sources_of(PATH)
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| aiosmtplib")
]
THEIR_NAMES = {
    *(
        "send",
        "SMTP",
        "SMTPResponse",
        "SMTPStatus",
        "SMTPTokenGenerator",
        "SMTPException",
        "SMTPNotSupported",
    ),
    *(
        "SMTPAuthenticationError",
        "SMTPConnectError",
        "SMTPDataError",
        "SMTPHeloError",
        "SMTPRecipientRefused",
    ),
    *("SMTPRecipientsRefused", "SMTPResponseException", "SMTPSenderRefused", "SMTPServerDisconnected"),
    *("SMTPTimeoutError", "SMTPConnectTimeoutError", "SMTPReadTimeoutError", "SMTPConnectResponseError"),
}
THEIR_METHODS = {
    *(
        "connect",
        "login",
        "auth_plain",
        "auth_login",
        "auth_crammd5",
        "auth_xoauth2",
        "starttls",
        "ehlo",
        "helo",
    ),
    *(
        "send_message",
        "sendmail",
        "send_message_sync",
        "sendmail_sync",
        "mail",
        "rcpt",
        "data",
        "noop",
        "rset",
    ),
    *("vrfy", "expn", "help", "quit", "close", "execute_command", "is_connected", "supports_extension"),
    *("supported_auth_methods", "is_ehlo_or_helo_needed", "last_ehlo_response"),
}
THEIR_ARGUMENTS = {
    *(
        "hostname",
        "port",
        "username",
        "password",
        "oauth_token_generator",
        "local_hostname",
        "source_address",
    ),
    *(
        "timeout",
        "use_tls",
        "start_tls",
        "validate_certs",
        "client_cert",
        "client_key",
        "tls_context",
        "sock",
    ),
    *("cert_bundle", "socket_path", "sender", "recipients", "mail_options", "rcpt_options"),
}


def made(recipient: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ann@example.org", recipient, "x"
    message.set_content("hello")
    return message


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer(refuse={"bob@example.com": "550 5.1.1 unknown"}) as server:
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, server: MailServer) -> dict[str, Any]:
    """What the snippets find around them; every server they name is the embedded one."""
    connect, pool = pysmtpx.connect, pysmtpx.SmtpPool
    monkeypatch.setattr(pysmtpx, "connect", lambda target: connect(server.url))
    monkeypatch.setattr(pysmtpx, "SmtpPool", lambda target, **options: pool(server.url, **options))
    messages = [made(f"{name}@example.com") for name in ("cy", "bob", "dee")]
    return {"message": made("bob@example.com, eve@example.com"), "messages": messages}


@pytest.mark.parametrize(
    ("number", "printed", "arrived"),
    [
        (0, "bob@example.com 550 5.1.1 unknown\n", ["eve@example.com"]),
        (1, "bob@example.com rejected 1 of 1 recipients were refused", ["cy@example.com", "dee@example.com"]),
        (2, "rcpt 550 5.1.1 unknown False\n", ["cy@example.com", "dee@example.com"]),
    ],
)
def test_a_snippet_runs(
    number: int,
    printed: str,
    arrived: list[str],
    names: dict[str, Any],
    server: MailServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(SNIPPETS) == 3
    exec(compile(SNIPPETS[number], "from-aiosmtplib.md", "exec"), names)
    assert capsys.readouterr().out.startswith(printed)
    assert sorted(each.addresses[0] for each in server.messages) == arrived


def test_no_name_of_theirs_is_left_out() -> None:
    left = " ".join(row[0] for row in ROWS)
    named = set(re.findall(r"\w+", left))
    assert THEIR_NAMES - named == set()
    assert THEIR_METHODS - named == set()
    assert THEIR_ARGUMENTS - {"username", "password"} - named == set()


def test_every_name_of_ours_exists() -> None:
    right = " ".join(" ".join(row[1:]) for row in ROWS)
    known = {*pysmtpx.__all__, *dir(pysmtpx.SmtpConnection), *pysmtpx.Server.__slots__, *dir(pysmtpx.Reply)}
    known |= {*pysmtpx.SendResult.__slots__, *pysmtpx.RejectedRecipient.__slots__, *dir(pysmtpx.SmtpError)}
    code = " ".join(re.findall(r"`([^`]*)`", right))
    code = re.sub(r'"[^"]*"|[\w+]+://\S*', " ", code)
    arguments = {
        *("a", "as", "auth", "certificate", "in", "key", "message", "notify", "octets", "recipients")
    }
    arguments |= {"result", "ret", "sender", "smtp", "with"}
    arguments |= {"mail_params", "rcpt_params", "timeout", "SSL_CERT_FILE"}
    assert set(re.findall(r"[A-Za-z_]+", code)) - known - arguments == set()


def test_the_single_command_that_is_named_is_one() -> None:
    (verb,) = re.findall(r'`smtp\.command\("(\w+)"', PAGE)
    with MailServer(lenient=True) as server, pysmtpx.connect(server.url) as smtp:
        assert smtp.command(verb).code == 500  # the embedded server does not know it

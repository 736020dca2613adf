"""What a connection costs that was not there before: round trips up to its first message, by count."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from support import certs

import pysmtpx
from benchmarks.relay import Relay
from pysmtpx.testing import MailServer

DIAL, GREETING, EHLO, STARTTLS, TLS, ENVELOPE, CONTENT = 1, 1, 1, 1, 1, 1, 1
CLEAR = DIAL + GREETING + EHLO + ENVELOPE + CONTENT
UPGRADED = CLEAR + STARTTLS + TLS + EHLO
AT_ONCE = CLEAR + TLS
AUTH = {"PLAIN": 1, "LOGIN": 3, "CRAM-MD5": 2, "SCRAM-SHA-512": 3, "SCRAM-SHA-512-PLUS": 3}
"""LOGIN asks for the name and for the password; SCRAM has three answers, the last of them empty."""


def server_context() -> ssl.SSLContext:
    context = certs.server_context()
    context.num_tickets = 0
    return context


def count(send: Any = pysmtpx.SmtpConnection.send, **options: Any) -> int:
    """Round trips with these options, until the message is taken."""
    relays: list[Relay] = []
    counted: list[int] = []

    def verdict(event: Any) -> None:
        if event.verb == "FINAL":  # which it is about to answer
            counted.append(DIAL + relays[0].answers + 1)

    mode = options.pop("tls", "none")
    if mode != "none":
        options |= {"tls": mode, "ssl_context": certs.client_context()}
    secure = {} if mode == "none" else {"ssl_context": server_context(), "tls": mode}
    with MailServer(users={"user": "pencil"}, verdict=verdict, **secure) as server:  # type: ignore[arg-type]
        relays.append(Relay(server.port))
        with pysmtpx.connect("localhost", relays[0].port, **options) as smtp:
            send(smtp, "a@x.example", ["b@y.example", "c@y.example"], b"Subject: x\r\n\r\n.\r\n")
        relays[0].close()
    return counted[0]


@pytest.mark.parametrize(
    ("mode", "trips"), [("none", CLEAR), ("starttls", UPGRADED), ("implicit", AT_ONCE)], ids=str
)
def test_without_a_log_in(mode: str, trips: int) -> None:
    assert count(tls=mode) == trips


@pytest.mark.parametrize("mechanism", AUTH)
@pytest.mark.parametrize(("mode", "trips"), [("starttls", UPGRADED), ("implicit", AT_ONCE)], ids=str)
def test_with_a_log_in(mode: str, trips: int, mechanism: str) -> None:
    account = {"username": "user", "password": "pencil", "auth": mechanism}
    assert count(tls=mode, **account) == trips + AUTH[mechanism]

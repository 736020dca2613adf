"""Opening and closing a session, without a socket: what is written for each answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.drive import Run, drive
from support.opening import open_session

from pysmtpx.errors import (
    AuthenticationError,
    CommandRejected,
    ConnectError,
    ConnectionLost,
    MechanismUnavailable,
    NotSupportedError,
    ProtocolError,
    ServiceUnavailable,
    Timeout,
    TlsError,
)
from pysmtpx.flow.session import Opening, demand, exchange, quit_session
from pysmtpx.sasl.binding import ChannelBinding
from pysmtpx.sasl.credentials import Credentials
from pysmtpx.wire import command
from pysmtpx.wire.capabilities import Protocol
from pysmtpx.wire.limits import Stage

GREETING = (b"", b"220 mail.example ESMTP\r\n")
EHLO, HELO, LHLO = b"EHLO c.example\r\n", b"HELO c.example\r\n", b"LHLO c.example\r\n"
STARTTLS = b"STARTTLS\r\n"
PLAIN = b"AUTH PLAIN AHUAcA==\r\n"
ACCOUNT = Credentials(username="u", password="p", mechanisms=("PLAIN",))


def caps(*lines: str) -> bytes:
    *rest, last = ["mail.example", *lines]
    return "".join([*(f"250-{line}\r\n" for line in rest), f"250 {last}\r\n"]).encode()


def opening(**options: Any) -> Opening:
    return Opening(**{"protocol": Protocol.SMTP, "name": "c.example", **options})


def run(*script: Any, binding: ChannelBinding | None = None, **options: Any) -> Run:
    return drive(open_session(opening(**options)), [GREETING, *script], binding=binding)


# -- greeting and hello ------------------------------------------------------------------


def test_ehlo() -> None:
    outcome = run((EHLO, caps("PIPELINING", "SIZE 5")))
    assert outcome.result().pipelining
    assert outcome.stages == [Stage.GREETING, Stage.HELLO]
    assert not outcome.closed


def test_lhlo() -> None:
    outcome = run((LHLO, caps("PIPELINING")), protocol=Protocol.LMTP)
    assert outcome.result().pipelining


@pytest.mark.parametrize("reply", [b"554 no\r\n", b"521 no\r\n", b"421 busy\r\n", b"450 x\r\n"])
def test_a_greeting_that_refuses(reply: bytes) -> None:
    """FAULTS 16: nothing is written, QUIT neither."""
    outcome = drive(open_session(opening()), [(b"", reply)])
    assert isinstance(outcome.error, ConnectError)
    assert (outcome.error.stage, outcome.closed, outcome.sent) == ("greeting", True, [])
    assert outcome.error.temporary == reply.startswith(b"4")


@pytest.mark.parametrize("reply", [b"250 hi\r\n", b"221 hi\r\n", b"354 hi\r\n"])
def test_a_greeting_that_is_none(reply: bytes) -> None:
    """FAULTS 16."""
    outcome = drive(open_session(opening()), [(b"", reply)])
    assert type(outcome.error) is ProtocolError
    assert outcome.closed


@pytest.mark.parametrize("code", [500, 502, 504, 550])
def test_ehlo_refused_for_good(code: int) -> None:
    """FAULTS 15."""
    outcome = run((EHLO, b"%d what\r\n" % code), (HELO, b"250 hi\r\n"))
    assert not outcome.result().keywords
    assert not outcome.closed


@pytest.mark.parametrize("code", [421, 450, 451, 220, 354])
def test_ehlo_answered_otherwise(code: int) -> None:
    """FAULTS 15: no HELO."""
    outcome = run((EHLO, b"%d what\r\n" % code))
    assert type(outcome.error) is (ConnectError if code >= 400 else ProtocolError)
    assert outcome.error.stage == "hello"
    assert outcome.closed


@pytest.mark.parametrize("failure", [ConnectionLost("gone"), Timeout("late")])
def test_a_line_that_breaks_at_ehlo(failure: Any) -> None:
    """FAULTS 15."""
    assert run((EHLO, failure)).error is failure


@pytest.mark.parametrize("helo", [b"550 no\r\n", b"421 no\r\n"])
def test_helo_refused(helo: bytes) -> None:
    outcome = run((EHLO, b"502 what\r\n"), (HELO, helo))
    assert isinstance(outcome.error, ConnectError)
    assert outcome.closed


@pytest.mark.parametrize(("protocol", "line", "other"), [("smtp", EHLO, "LMTP"), ("lmtp", LHLO, "SMTP")])
def test_the_other_protocol(protocol: str, line: bytes, other: str) -> None:
    """FAULTS 58: LHLO has no fall-back, for one reply is not one a recipient."""
    script = [(line, b"500 what\r\n")] + ([(HELO, b"500 what\r\n")] if protocol == "smtp" else [])
    outcome = run(*script, protocol=Protocol(protocol))
    assert isinstance(outcome.error, ConnectError)
    assert other in str(outcome.error)
    assert outcome.closed


# -- STARTTLS -----------------------------------------------------------------------------------


def test_starttls_and_hello_again() -> None:
    """FAULTS 75."""
    outcome = run(
        (EHLO, caps("STARTTLS", "PIPELINING")),
        (STARTTLS, b"220 go\r\n"),
        (EHLO, caps("SIZE 7")),
        starttls="required",
    )
    assert outcome.secure
    assert not outcome.result().pipelining
    assert outcome.result().size_limit == 7


@pytest.mark.parametrize("answer", [b"454 x\r\n", b"502 x\r\n", b"421 x\r\n", b"354 x\r\n", b"250 x\r\n"])
@pytest.mark.parametrize("mode", ["required", "opportunistic"])
def test_starttls_refused(answer: bytes, mode: str) -> None:
    """FAULTS 67, 68: opportunistic goes on in clear after a clean refusal alone."""
    outcome = run((EHLO, caps("STARTTLS")), (STARTTLS, answer), starttls=mode)
    if mode == "opportunistic" and answer[:3] in (b"454", b"502"):
        assert outcome.result() is not None
        assert not outcome.secure
    else:
        assert isinstance(outcome.error, TlsError)
        assert (outcome.error.stage, outcome.closed) == ("starttls", True)


def test_starttls_not_offered() -> None:
    """FAULTS 67, 68."""
    outcome = run((EHLO, caps("SIZE")), starttls="required")
    assert isinstance(outcome.error, TlsError)
    assert outcome.closed
    assert run((EHLO, caps("SIZE")), starttls="opportunistic").result().offers_size
    outcome = run((EHLO, b"502 what\r\n"), (HELO, b"250 hi\r\n"), starttls="required")
    assert isinstance(outcome.error, TlsError)


@pytest.mark.parametrize("injected", [b"250 x\r\n", b"2"])
def test_clear_text_behind_the_220(injected: bytes) -> None:
    """FAULTS 66."""
    outcome = run((EHLO, caps("STARTTLS")), (STARTTLS, b"220 go\r\n" + injected), starttls="required")
    assert type(outcome.error) is ProtocolError
    assert not outcome.secure


# -- AUTH --------------------------------------------------------------------------------------------


def test_auth_under_starttls_alone() -> None:
    """FAULTS 75, 76: the list that counts is the one under TLS."""
    outcome = run(
        (EHLO, caps("STARTTLS", "AUTH LOGIN")),
        (STARTTLS, b"220 go\r\n"),
        (EHLO, caps("AUTH PLAIN")),
        (PLAIN, b"235 ok\r\n"),
        starttls="required",
        credentials=ACCOUNT,
    )
    assert outcome.result().auth == ("PLAIN",)
    assert outcome.secret == [False, False, False, True]  # FAULTS 85


@pytest.mark.parametrize(
    ("options", "goes"),
    [
        ({}, False),
        ({"private": True}, True),
        ({"allow_clear": True}, True),
        ({"starttls": "opportunistic"}, False),
    ],
)
def test_a_password_in_clear(options: dict[str, Any], goes: bool) -> None:
    """FAULTS 68, 76."""
    script = [(EHLO, caps("AUTH PLAIN"))] + ([(PLAIN, b"235 ok\r\n")] if goes else [])
    outcome = run(*script, credentials=ACCOUNT, **options)
    if goes:
        assert outcome.result().auth == ("PLAIN",)
    else:
        assert isinstance(outcome.error, MechanismUnavailable)


def test_the_binding_is_that_of_the_new_line() -> None:
    """FAULTS 83."""
    plus = Credentials(username="u", password="p", mechanisms=("SCRAM-SHA-256-PLUS",))
    outcome = run(
        (EHLO, caps("STARTTLS")),
        (STARTTLS, b"220 go\r\n"),
        (EHLO, caps("AUTH SCRAM-SHA-256-PLUS")),
        (re.compile(rb"AUTH SCRAM-SHA-256-PLUS cD10bHMtc2VydmVyLWVuZC1wb2lud.*\r\n"), b"535 no\r\n"),
        starttls="required",
        credentials=plus,
        binding=ChannelBinding("tls-server-end-point", b"fingerprint"),
    )
    assert type(outcome.error) is AuthenticationError


def test_no_auth_on_offer() -> None:
    outcome = run((EHLO, caps()), private=True, credentials=ACCOUNT)
    assert isinstance(outcome.error, NotSupportedError)


# -- single commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 250, 354, 450, 550])
def test_exchange_returns_whatever_is_said(code: int) -> None:
    outcome = drive(exchange(command.NOOP), [(b"NOOP\r\n", b"%d x\r\n" % code)])
    assert outcome.result().code == code
    assert outcome.closed == (code == 354)  # it would take the next command for something else


def test_exchange_and_421() -> None:
    """FAULTS 24."""
    outcome = drive(exchange(command.NOOP), [(b"NOOP\r\n", b"421 x\r\n")])
    assert isinstance(outcome.error, ServiceUnavailable)


@pytest.mark.parametrize(
    ("code", "wanted", "kind", "closed"),
    [
        (250, 250, None, False),
        (250, None, None, False),
        (252, None, None, False),
        (221, 250, ProtocolError, True),
        (354, None, ProtocolError, True),
        (450, 250, CommandRejected, False),
        (500, None, CommandRejected, False),
        (421, 250, ServiceUnavailable, False),
    ],
)
def test_demand(code: int, wanted: int | None, kind: type | None, closed: bool) -> None:
    outcome = drive(demand(command.NOOP, wanted), [(b"NOOP\r\n", b"%d x\r\n" % code)])
    assert outcome.closed == closed
    if kind is None:
        assert outcome.result().code == code
    else:
        assert type(outcome.error) is kind
        assert outcome.error.stage == "command"


@pytest.mark.parametrize(
    "answer",
    [b"221 bye\r\n", b"421 bye\r\n", b"500 x\r\n", b"?\r\n", ConnectionLost("gone"), Timeout("late")],
)
def test_quit_closes_and_never_fails(answer: Any) -> None:
    """FAULTS 34."""
    outcome = drive(quit_session(), [(b"QUIT\r\n", answer)])
    assert outcome.error is None
    assert outcome.closed
    assert outcome.sent == [b"QUIT\r\n"]

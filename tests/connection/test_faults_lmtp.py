"""FAULTS group E as a caller sees it: LMTP, where each recipient has a final reply of its own."""

from __future__ import annotations

from typing import Any

import pytest
from support.fates import BODY, RCPTS, SENDER, assert_closed, assert_kept, attempt, fates, send
from support.patience import ENOUGH
from support.scripted import Peer, ScriptedServer
from support.transports import SEQUENTIAL, dialled, serving
from support.verdicts import first

from pysmtpx import (
    AllRecipientsFailed,
    ConnectError,
    ConnectionLost,
    DeliveryUnknown,
    MailFromParams,
    ProtocolError,
    RcptToParams,
    SendResult,
    Timeout,
    UsageError,
)
from pysmtpx.testing import EXTENSIONS, Cut, Garbage, Stall

LMTP: dict[str, Any] = {"protocol": "lmtp"}
TRANSPORT = pytest.mark.parametrize("transport", ["clear", "unix", "implicit"])
METHOD = pytest.mark.parametrize("method", ["send_lmtp", "send_lmtp_bdat"])


@TRANSPORT
@METHOD
@pytest.mark.parametrize("extensions", [EXTENSIONS, SEQUENTIAL], ids=["pipelined", "sequential"])
@pytest.mark.parametrize("codes", [(250, 450, 550), (552, 250, 250), (250, 250, 250)])
def test_each_recipient_has_an_outcome(transport: str, method: str, extensions: Any, codes: Any) -> None:
    """FAULTS 54: in the order of the accepted recipients; the connection lives (not after a refused BDAT)."""
    verdict = first(**{f"FINAL{i}": f"{code} 2.0.0 to {i}" for i, code in enumerate(codes)})
    with (
        serving(transport, extensions=extensions, verdict=verdict, **LMTP) as server,
        dialled(server) as conn,
    ):
        result = attempt(getattr(conn, method), SENDER, RCPTS, BODY)
        assert isinstance(result, SendResult)
        want = ["accepted" if code < 300 else f"rejected {code} final" for code in codes]
        assert fates(result) == dict(zip(RCPTS, want, strict=True))
        assert [r.text for r in result.replies] == [f"2.0.0 to {i}" for i, c in enumerate(codes) if c < 300]
        assert result.reply == result.replies[-1]
        (message,) = server.messages
        assert message.delivered == list(result.accepted_recipients)
        if method == "send_lmtp" or codes == (250, 250, 250):
            assert_kept(conn, server)
        else:
            assert_closed(conn)


def test_refused_at_rcpt_and_at_the_end() -> None:
    """FAULTS 54: a recipient that RCPT refused has no final reply."""
    verdict = first(RCPT1="550 5.1.1 no", FINAL0="250 ok", FINAL1="452 4.2.2 full")
    with serving(verdict=verdict, **LMTP) as server, dialled(server) as conn:
        assert fates(send(conn)) == dict(
            zip(RCPTS, ["accepted", "rejected 550 rcpt", "rejected 452 final"], strict=True)
        )
        assert_kept(conn, server)


@pytest.mark.parametrize("codes", [(450, 450, 550), (550, 551, 552)])
def test_every_delivery_failed(codes: tuple[int, ...]) -> None:
    """FAULTS 54."""
    verdict = first(**{f"FINAL{i}": f"{code} no" for i, code in enumerate(codes)})
    with serving(verdict=verdict, **LMTP) as server, dialled(server) as conn:
        error = send(conn)
        assert isinstance(error, AllRecipientsFailed)
        assert error.stage == "final"
        assert error.count == 3
        assert [reply.code for reply in error.responses] == list(codes)
        assert error.temporary == (450 in codes)
        assert fates(error) == {p: f"rejected {c} final" for p, c in zip(RCPTS, codes, strict=True)}
        assert_kept(conn, server)


@TRANSPORT
@METHOD
@pytest.mark.parametrize("answered", [0, 1, 2])
@pytest.mark.parametrize(
    "fault",
    [Cut(), Cut(reset=True), Cut(after=3), "421 4.3.2 bye", Garbage(b"?\r\n"), "354 more"],
    ids=["fin", "rst", "half", "421", "garbage", "3xx"],
)
def test_the_line_breaks_after_k_of_n(transport: str, method: str, answered: int, fault: Any) -> None:
    """FAULTS 55: who was answered for is settled, the rest is unknown."""
    verdict = first(**{"FINAL0": "250 ok", "FINAL1": "550 no", f"FINAL{answered}": fault})
    with serving(transport, verdict=verdict, strict=False, **LMTP) as server:
        conn = dialled(server)
        error = attempt(getattr(conn, method), SENDER, RCPTS, BODY)
        assert isinstance(error, DeliveryUnknown)
        settled = ["accepted", "rejected 550 final"][:answered]
        assert fates(error) == dict(zip(RCPTS, settled + ["unknown"] * (3 - answered), strict=True))
        assert error.safe_to_retry is error.temporary is False
        assert_closed(conn)


@METHOD
def test_silence_after_k_of_n(method: str) -> None:
    """FAULTS 55."""
    with serving(verdict=first(FINAL1=Stall()), strict=False, **LMTP) as server:
        conn = dialled(server)
        error = attempt(getattr(conn, method), SENDER, RCPTS, BODY, timeout=ENOUGH)
        assert isinstance(error, DeliveryUnknown)
        assert isinstance(error.__cause__, Timeout)
        assert fates(error) == dict(zip(RCPTS, ["accepted", "unknown", "unknown"], strict=True))
        assert_closed(conn)


def test_an_address_that_stands_twice_is_matched_by_position() -> None:
    """FAULTS 56."""
    twice = ("a@x.example", "b@x.example", "a@x.example")
    verdict = first(FINAL0="452 4.2.2 first", FINAL1="250 second", FINAL2="250 third")
    with serving(verdict=verdict, **LMTP) as server, dialled(server) as conn:
        result = send(conn, twice)
        assert result.accepted_recipients == ("b@x.example", "a@x.example")
        assert [(r.recipient, r.reply.code) for r in result.rejected_recipients] == [("a@x.example", 452)]
        assert [reply.text for reply in result.replies] == ["second", "third"]


def test_nobody_accepted_yet_354() -> None:
    """FAULTS 57: after the empty terminator there may be no reply to wait for."""
    verdict = first(RCPT="550 no", DATA="354 go ahead")
    with serving(verdict=verdict, strict=False, **LMTP) as server:
        conn = dialled(server)
        error = send(conn)
        assert isinstance(error, AllRecipientsFailed)
        assert_closed(conn)
    assert not server.messages


@pytest.mark.parametrize("wanted", ["smtp", "lmtp"])
def test_the_other_protocol_on_the_line(wanted: str) -> None:
    """FAULTS 58: the error says which one it may be."""
    other = "lmtp" if wanted == "smtp" else "smtp"
    with serving(protocol=other, strict=False) as server:
        error = attempt(dialled, server, protocol=wanted)
        assert isinstance(error, ConnectError)
        assert (error.stage, error.reply.code) == ("hello", 500)
        assert other.upper() in str(error)
        assert not error.temporary


def test_one_reply_for_all_recipients() -> None:
    """FAULTS 58: an SMTP server that took LHLO answers once; the rest is unknown when time is up."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", verb="LHLO")
        peer.envelope(3)
        peer.content()
        peer.say(b"250 all of them\r\n")
        peer.rest()

    with ScriptedServer(script) as server:
        conn = server.connect(protocol="lmtp")
        error = send(conn, timeout=ENOUGH)
        assert isinstance(error, DeliveryUnknown)
        assert isinstance(error.__cause__, Timeout)
        assert fates(error) == dict(zip(RCPTS, ["accepted", "unknown", "unknown"], strict=True))
        assert_closed(conn)


def test_a_reply_too_many() -> None:
    """FAULTS 9, 55: then nobody can say which reply is whose."""
    verdict = first(FINAL2="250 ok\r\n250 and one more")
    with serving(verdict=verdict, **LMTP) as server:
        conn = dialled(server)
        error = send(conn)
        assert isinstance(error, DeliveryUnknown)
        assert isinstance(error.__cause__, ProtocolError)
        assert_closed(conn)


@pytest.mark.parametrize("fault", [Cut(), "421 bye"])
@pytest.mark.parametrize("position", ["MAIL", "RCPT1", "DATA"])
def test_before_the_end_of_data_nobody_is_in_doubt(position: str, fault: Any) -> None:
    """FAULTS 24, 42 over LMTP."""
    with serving(verdict=first(**{position: fault}), **LMTP) as server:
        conn = dialled(server)
        error = send(conn)
        assert isinstance(error, ConnectionError | ConnectionLost)
        assert error.safe_to_retry
        assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert_closed(conn)


PARAMS = (MailFromParams(), [RcptToParams()] * 3)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_method_of_the_other_protocol_writes_nothing(protocol: str) -> None:
    """RFC 2033 4.2: the count of replies would be wrong."""
    with serving(protocol=protocol) as server, dialled(server) as conn:
        smtp = [
            ("send", ()),
            ("send_with_params", PARAMS[:1]),
            ("send_with_all_params", PARAMS),
            ("send_bdat", PARAMS),
        ]
        lmtp = [("send_lmtp", ()), ("send_lmtp_with_all_params", PARAMS), ("send_lmtp_bdat", PARAMS)]
        for name, params in lmtp if protocol == "smtp" else smtp:
            error = attempt(getattr(conn, name), SENDER, RCPTS, BODY, *params)
            assert isinstance(error, UsageError)
            assert isinstance(error, ProtocolError)
            assert name in str(error)
        assert server.ledger.commands == [["LHLO" if protocol == "lmtp" else "EHLO"]]
        assert_kept(conn, server)

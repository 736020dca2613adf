"""FAULTS group B as a caller sees it: the transaction over real sockets."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from support.fates import RCPTS, SENDER, assert_closed, assert_kept, attempt, fates, send
from support.transports import SEQUENTIAL, TRANSPORTS, dialled, serving
from support.verdicts import first

from pysmtpx import (
    AllRecipientsFailed,
    AuthenticationError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    MessageTooLarge,
    ProtocolError,
    SenderRejected,
    ServiceUnavailable,
    SmtpError,
)
from pysmtpx.testing import EXTENSIONS, Cut, Garbage

PATHS = pytest.mark.parametrize("extensions", [EXTENSIONS, SEQUENTIAL], ids=["pipelined", "sequential"])
POSITIONS = ("MAIL", "RCPT0", "RCPT1", "RCPT2", "DATA", "FINAL")
STAGES = dict(zip(POSITIONS, ("mail", "rcpt", "rcpt", "rcpt", "data", "final"), strict=True))


@pytest.mark.parametrize("transport", TRANSPORTS)
@PATHS
def test_a_message_arrives_to_the_octet(transport: str, extensions: Any) -> None:
    body = b"Subject: x\r\n\r\n.one dot\r\n..two\r\n.\r\nlast without end"
    with serving(transport, extensions=extensions) as server, dialled(server) as conn:
        result = send(conn, body=body)
        assert fates(result) == dict.fromkeys(RCPTS, "accepted")
        assert result.reply.code == 250
        (message,) = server.messages
        assert message.content == body + b"\r\n"
        assert message.tls == conn.is_tls == (transport in ("implicit", "starttls"))
        assert_kept(conn, server)


# -- refusals -------------------------------------------------------------------------


@PATHS
@pytest.mark.parametrize("code", [451, 550, 530])
@pytest.mark.parametrize("transport", ["clear", "implicit"])
def test_mail_refused(transport: str, code: int, extensions: Any) -> None:
    """FAULTS 19."""
    with (
        serving(transport, extensions=extensions, verdict=first(MAIL=f"{code} 5.7.1 no")) as server,
        dialled(server) as conn,
    ):
        error = send(conn)
        assert type(error) is (AuthenticationError if code == 530 else SenderRejected)
        assert (error.stage, error.reply.code) == ("mail", code)
        assert error.temporary == error.safe_to_retry == (code == 451)
        assert fates(error) == dict.fromkeys(RCPTS, f"rejected {code} mail")
        assert_kept(conn, server)


@pytest.mark.parametrize("method", ["send", "send_bdat"])
def test_a_message_over_the_size_is_refused_before_an_octet(method: str) -> None:
    """FAULTS 20."""
    with serving(extensions=["SIZE 1000", "CHUNKING"]) as server, dialled(server) as conn:
        error = attempt(getattr(conn, method), SENDER, RCPTS, b"x: y\r\n\r\n" + b"z" * 991 + b"\r\n")
        assert isinstance(error, MessageTooLarge)
        assert not error.temporary
        assert not error.safe_to_retry
        assert error.stage == "input"
        assert server.ledger.commands == [["EHLO"]]
        assert_kept(conn, server)


@PATHS
@pytest.mark.parametrize("codes", [(550, 250, 250), (250, 451, 250), (450, 250, 550), (251, 252, 553)])
def test_some_recipients_refused(codes: tuple[int, ...], extensions: Any) -> None:
    """FAULTS 21: the rest have it; who was refused, and how, is told."""
    answers = {f"RCPT{i}": f"{code} text" for i, code in enumerate(codes)}
    want = {
        path: "accepted" if code < 300 else f"rejected {code} rcpt"
        for path, code in zip(RCPTS, codes, strict=True)
    }
    with serving(extensions=extensions, verdict=first(**answers)) as server, dialled(server) as conn:
        assert fates(send(conn)) == want
        assert server.messages[0].addresses == [path for path, fate in want.items() if fate == "accepted"]
        assert_kept(conn, server)


@PATHS
@pytest.mark.parametrize("codes", [(550, 550, 550), (450, 550, 553), (451, 452, 450)])
def test_all_recipients_refused(codes: tuple[int, ...], extensions: Any) -> None:
    """FAULTS 23, 37: no content is sent; each has its own reply."""
    answers = {f"RCPT{i}": f"{code} text {i}" for i, code in enumerate(codes)}
    with serving(extensions=extensions, verdict=first(**answers)) as server, dialled(server) as conn:
        error = send(conn)
        assert isinstance(error, AllRecipientsFailed)
        assert error.count == 3
        assert [reply.code for reply in error.responses] == list(codes)
        assert [reply.text for reply in error.responses] == ["text 0", "text 1", "text 2"]
        assert error.temporary == error.safe_to_retry == any(code < 500 for code in codes)
        assert fates(error) == {p: f"rejected {c} rcpt" for p, c in zip(RCPTS, codes, strict=True)}
        assert error.stage == "rcpt"
        assert not server.messages
        assert_kept(conn, server)


@pytest.mark.parametrize("final", ["250 2.0.0 empty, thanks", "554 5.5.1 no valid recipients"])
def test_354_after_every_recipient_was_refused_is_answered_by_the_empty_terminator(final: str) -> None:
    """FAULTS 37: even a 250 to it changes nothing."""
    verdict = first(RCPT="550 no", DATA="354 go ahead", FINAL=final)
    with serving(verdict=verdict) as server, dialled(server) as conn:
        error = send(conn)
        assert isinstance(error, AllRecipientsFailed)
        assert fates(error) == dict.fromkeys(RCPTS, "rejected 550 rcpt")
        assert not server.messages
        assert_kept(conn, server)


@pytest.mark.parametrize("transport", ["clear", "implicit"])
def test_mail_refused_yet_a_recipient_accepted_and_354(transport: str) -> None:
    """FAULTS 39: the empty message could be delivered, so the connection is closed at once."""
    verdict = first(MAIL="550 no", RCPT0="503 no", RCPT1="250 ok", RCPT2="503 no", DATA="354 go ahead")
    with serving(transport, verdict=verdict, strict=False) as server:
        conn = dialled(server)
        error = send(conn)
        assert isinstance(error, SenderRejected)
        assert fates(error) == dict.fromkeys(RCPTS, "rejected 550 mail")
        assert_closed(conn)
    assert not server.messages
    assert server.ledger.connections[0].commands == ["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "DATA"]


@PATHS
@pytest.mark.parametrize("code", [421, 451, 503, 554])
@pytest.mark.parametrize("rset", [None, "421 bye", "500 what", "200 what", Garbage(b"!\r\n"), Cut(after=2)])
def test_data_refused(code: int, rset: Any, extensions: Any) -> None:
    """FAULTS 25, 33, 40: RSET follows; whatever becomes of it, the first error stands."""
    answers = {"RCPT1": "550 no", "DATA": f"{code} 4.3.0 not now"}
    if rset is not None:
        answers["RSET"] = rset
    with serving(extensions=extensions, verdict=first(**answers)) as server, dialled(server) as conn:
        error = send(conn)
        if code == 421:
            assert isinstance(error, ServiceUnavailable)
            assert_closed(conn)
            return
        assert isinstance(error, DataRejected)
        assert (error.stage, error.reply.code) == ("data", code)
        assert error.safe_to_retry == error.temporary == (code == 451)
        rejected = f"rejected {code} data"
        assert fates(error) == {RCPTS[0]: rejected, RCPTS[1]: "rejected 550 rcpt", RCPTS[2]: rejected}
        if rset is None:
            assert_kept(conn, server)
        else:
            assert_closed(conn)


@PATHS
@pytest.mark.parametrize("answer", ["250 ok", "220 hi", "334 go", "350 go", "399 go"])
def test_only_354_lets_the_content_follow(answer: str, extensions: Any) -> None:
    """FAULTS 26: the content would run as commands."""
    with serving(extensions=extensions, verdict=first(DATA=answer)) as server:
        conn = dialled(server)
        error = send(conn)
        assert type(error) is ProtocolError
        assert (error.stage, str(error.reply)) == ("data", answer)
        assert fates(error) == dict.fromkeys(RCPTS, "unsent")
        assert error.safe_to_retry
        assert_closed(conn)
    assert server.ledger.commands == [["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "DATA"]]


@PATHS
@pytest.mark.parametrize("code", [451, 552, 554])
@pytest.mark.parametrize("transport", ["clear", "starttls"])
def test_the_content_is_refused_at_its_end(transport: str, code: int, extensions: Any) -> None:
    """FAULTS 30: a clean refusal, and the connection lives."""
    verdict = first(RCPT0="550 no", FINAL=f"{code} 4.7.1 spam")
    with serving(transport, extensions=extensions, verdict=verdict) as server, dialled(server) as conn:
        error = send(conn)
        assert isinstance(error, DataRejected)
        assert error.stage == "final"
        assert error.temporary == error.safe_to_retry == (code == 451)
        rejected = f"rejected {code} final"
        assert fates(error) == {RCPTS[0]: "rejected 550 rcpt", RCPTS[1]: rejected, RCPTS[2]: rejected}
        assert_kept(conn, server)


# -- 421, the end of the line, garbage: at every position -------------------------------------


@PATHS
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("transport", ["clear", "implicit"])
def test_421_to_any_command(transport: str, position: str, extensions: Any) -> None:
    """FAULTS 24, 41: reported, closed, nobody has it; who was refused before keeps that reply."""
    verdict = first(**{"RCPT0": "550 no", position: "421 4.3.2 going down"})
    with serving(transport, extensions=extensions, verdict=verdict) as server:
        conn = dialled(server)
        error = send(conn)
        assert isinstance(error, ServiceUnavailable)
        assert isinstance(error, ConnectionError)
        assert (error.stage, error.reply.code) == (STAGES[position], 421)
        assert error.temporary
        assert error.safe_to_retry
        want = dict.fromkeys(RCPTS, "unsent")
        if POSITIONS.index(position) > 1:
            want[RCPTS[0]] = "rejected 550 rcpt"
        assert fates(error) == want
        assert_closed(conn)
    assert not server.messages


@PATHS
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(
    "fault",
    [
        Cut(),
        Cut(after=None, reply="250 2"),
        Cut(after=5),
        Cut(reset=True),
        Garbage(b"\r\n"),
        Garbage(b"25\xb2 x\r\n"),
        Garbage(b"100 x\r\n"),
        "399 what",
    ],
    ids=["fin", "fin-after-reply", "fin-in-reply", "rst", "blank", "garbage", "1xx", "3xx"],
)
def test_the_line_breaks_at_any_position(position: str, fault: Any, extensions: Any) -> None:
    """FAULTS 2, 8, 17, 29, 31, 42, 43: unsent before the end of data, unknown after it."""
    verdict = first(**{"RCPT0": "550 no", position: fault})
    # A command that follows a whole reply crosses the FIN behind it: no fault of the client's.
    strict = fault != Cut(after=None, reply="250 2")
    with serving(extensions=extensions, verdict=verdict, strict=strict) as server:
        conn = dialled(server)
        outcome = send(conn)
        if fault == Cut(after=None, reply="250 2"):
            _judge_whole_reply_before_the_end(conn, position, outcome)
            return
        refused = {RCPTS[0]: "rejected 550 rcpt"} if POSITIONS.index(position) > 1 else {}
        if position == "FINAL":
            assert isinstance(outcome, DeliveryUnknown)
            assert isinstance(outcome.__cause__, ConnectionLost | ProtocolError)
            assert fates(outcome) == dict.fromkeys(RCPTS, "unknown") | refused
            assert outcome.safe_to_retry is outcome.temporary is False
        else:
            assert type(outcome) is (ConnectionLost if isinstance(fault, Cut) else ProtocolError)
            assert outcome.stage == STAGES[position]
            assert fates(outcome) == dict.fromkeys(RCPTS, "unsent") | refused
            assert outcome.safe_to_retry
        assert_closed(conn)
    if extensions is SEQUENTIAL and position != "FINAL":
        count = 1 + POSITIONS.index(position) + 1
        assert server.ledger.commands == [["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "DATA"][:count]]


def _judge_whole_reply_before_the_end(conn: Any, position: str, outcome: Any) -> None:
    """A whole reply outranks the end of file after it; DATA needs 354, and 250 is not that."""
    if position == "FINAL":
        assert fates(outcome)[RCPTS[1]] == "accepted"
        assert isinstance(attempt(conn.noop), ConnectionLost)
    else:
        assert type(outcome) is (ProtocolError if position == "DATA" else ConnectionLost)
        assert fates(outcome)[RCPTS[2]] == "unsent"
    assert_closed(conn)


def test_mail_refused_and_the_line_breaks_before_the_other_replies() -> None:
    """FAULTS 36: a refusal that was read outranks the loss after it."""
    with serving(verdict=first(MAIL="550 5.1.8 no", RCPT0=Cut(reset=True))) as server:
        conn = dialled(server)
        error = send(conn)
        assert isinstance(error, SenderRejected)
        assert isinstance(error.__cause__, ConnectionLost)
        assert fates(error) == dict.fromkeys(RCPTS, "rejected 550 mail")
        assert_closed(conn)


def test_an_error_survives_pickling_with_every_fate() -> None:
    with serving(verdict=first(RCPT0="550 5.1.1 no", FINAL=Cut())) as server:
        conn = dialled(server)
        error = send(conn)
        again: SmtpError = pickle.loads(pickle.dumps(error))
        assert fates(again) == fates(error)
        assert (type(again), again.stage, str(again)) == (type(error), error.stage, str(error))

"""The transaction flow against scripts: what is written, and what each refusal makes of it."""

from __future__ import annotations

import itertools

import pytest
from support.drive import drive
from support.fates import BODY, RCPTS, fates
from support.transactions import PIPELINED, SEQUENTIAL, plan, run

from pysmtpx.errors import (
    AllRecipientsFailed,
    AuthenticationError,
    ConnectionLost,
    DataRejected,
    ProtocolError,
    RecipientsRejected,
    SenderRejected,
    SmtpError,
    Timeout,
)
from pysmtpx.flow.transaction import delivery
from pysmtpx.wire.capabilities import Capabilities, Protocol
from pysmtpx.wire.limits import Stage

# -- what is written ------------------------------------------------------------------


def test_pipelined_is_two_writes() -> None:
    outcome = run(plan(), 250, 250, 250, 250, 354, 250)
    assert outcome.sent == [
        b"MAIL FROM:<s@x.example>\r\n"
        b"RCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nRCPT TO:<c@x.example>\r\nDATA\r\n",
        BODY + b".\r\n",  # content and terminator in one write
    ]
    assert outcome.result().accepted_recipients == RCPTS


def test_sequential_is_one_command_a_write() -> None:
    outcome = run(plan(capabilities=SEQUENTIAL), 250, 250, 250, 250, 354, 250)
    assert [data.split(b" ")[0].strip() for data in outcome.sent[:5]] == [b"MAIL", *[b"RCPT"] * 3, b"DATA"]
    assert outcome.sent[5] == BODY + b".\r\n"


def test_sequential_sends_nothing_after_a_refused_mail_but_rset() -> None:
    log: list[bytes] = []
    outcome = run(plan(capabilities=SEQUENTIAL), 550, log=log)
    assert log == [b"MAIL FROM:<s@x.example>", b"RSET"]  # FAULTS 19
    assert isinstance(outcome.error, SenderRejected)
    assert not outcome.closed


def test_sequential_sends_no_data_where_nobody_was_accepted() -> None:
    log: list[bytes] = []
    outcome = run(plan(capabilities=SEQUENTIAL), 250, 550, 451, 552, log=log)
    assert log[-1] == b"RSET"  # FAULTS 23
    assert b"DATA" not in log
    error = outcome.error
    assert isinstance(error, AllRecipientsFailed)
    assert error.count == 3
    assert [r.code for r in error.responses] == [550, 451, 552]
    assert error.temporary


def test_bdat_of_known_size_is_one_chunk_with_its_header_in_one_write() -> None:
    outcome = run(plan(bdat=True), 250, 250, 250, 250, 250)
    assert outcome.sent[-1] == b"BDAT %d LAST\r\n%s" % (len(BODY), BODY)
    assert len(outcome.sent) == 2
    assert b"DATA" not in outcome.sent[0]  # FAULTS 52


def test_bdat_does_not_stuff_dots_and_counts_exactly() -> None:
    """FAULTS 52."""
    body = b"x: y\r\n\r\n.dot\r\n..\r\n.\r\n"
    outcome = run(plan(body, bdat=True), 250, 250, 250, 250, 250)
    assert outcome.sent[-1] == b"BDAT %d LAST\r\n%s" % (len(body), body)


def test_bdat_of_unknown_size_goes_in_chunks_each_after_the_reply_to_the_one_before() -> None:
    body = [b"x: y\r\n\r\n", *[b"z" * 500 + b"\r\n"] * 5000]
    log: list[bytes] = []
    outcome = run(plan(iter(body), bdat=True), 250, 250, 250, 250, 250, 250, 250, log=log)
    chunks = [line.split() for line in log if line.startswith(b"BDAT")]
    assert len(chunks) == 3
    assert [len(c) for c in chunks] == [2, 2, 3]
    assert sum(int(c[1]) for c in chunks) == sum(map(len, body))
    assert outcome.result().reply.code == 250


def test_empty_content_is_the_terminator_alone_and_an_empty_last_chunk() -> None:
    assert run(plan(b""), 250, 250, 250, 250, 354, 250).sent[-1] == b".\r\n"
    assert run(plan(b"", bdat=True), 250, 250, 250, 250, 250).sent[-1] == b"BDAT 0 LAST\r\n"


def test_a_large_envelope_keeps_within_the_window_and_never_runs_dry() -> None:
    count = 2500
    recipients = tuple(f"r{i}@x.example" for i in range(count))
    outcome = run(plan(recipients=recipients), 250, *[250] * count, 354, 250)
    assert outcome.result().accepted_recipients == recipients
    assert max(data.count(b"\r\n") for data in outcome.sent) <= 1000
    assert len(outcome.sent) < 8


# -- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("verdicts", list(itertools.product([250, 251, 450, 550], repeat=3)))
@pytest.mark.parametrize("final", [250, 451, 554])
def test_pipelined_and_sequential_agree_for_every_pattern(verdicts: tuple[int, ...], final: int) -> None:
    """FAULTS 21, 23, 36."""
    good = [code < 300 for code in verdicts]
    pipelined = run(plan(), 250, *verdicts, 354, final)
    codes = [354, final] if any(good) else []
    sequential = run(plan(capabilities=SEQUENTIAL), 250, *verdicts, *codes)
    for outcome in (pipelined, sequential):
        assert not outcome.closed
        if any(good) and final == 250:
            result = outcome.result()
            assert result.accepted_recipients == tuple(p for p, ok in zip(RCPTS, good, strict=True) if ok)
            assert [(r.recipient, r.reply.code, r.stage) for r in result.rejected_recipients] == [
                (p, code, Stage.RCPT) for p, code, ok in zip(RCPTS, verdicts, good, strict=True) if not ok
            ]
        else:
            assert set(fates(outcome.error)) == set(RCPTS)
    if pipelined.error is not None:
        assert type(pipelined.error) is type(sequential.error)
        assert fates(pipelined.error) == fates(sequential.error)
        assert pipelined.error.temporary == sequential.error.temporary


@pytest.mark.parametrize("data", [354, 503, 554])
def test_mail_refused_and_every_reply_drained(data: int) -> None:
    """FAULTS 36, 37: all N+1 replies are read; 354 is answered with the empty terminator."""
    log: list[bytes] = []
    outcome = run(plan(), 550, 503, 503, 503, data, 250, log=log)
    assert isinstance(outcome.error, SenderRejected)
    assert outcome.error.reply.code == 550
    assert outcome.stages.count(Stage.RCPT) == 3
    assert Stage.DATA in outcome.stages
    assert not outcome.closed
    if data == 354:
        assert outcome.sent[-1] == b".\r\n"
    else:
        assert log[-1] == b"RSET"
    assert fates(outcome.error) == dict.fromkeys(RCPTS, "rejected 550 mail")


def test_mail_refused_and_reading_stops_half_way() -> None:
    """The refusal that was read outranks the loss that followed (FAULTS 36)."""
    outcome = drive(delivery(plan()), [(None, b"550 no\r\n503 no\r\n")])
    assert isinstance(outcome.error, SenderRejected)
    assert outcome.error.reply.code == 550
    assert isinstance(outcome.error.__cause__, ConnectionLost)
    assert outcome.closed


def test_mail_refused_yet_a_recipient_accepted_and_354_closes() -> None:
    """FAULTS 39: the empty message could be delivered."""
    outcome = run(plan(), 550, 250, 250, 503, 354)
    assert isinstance(outcome.error, SenderRejected)
    assert outcome.closed
    assert len(outcome.sent) == 1


@pytest.mark.parametrize("answer", [250, 554, ConnectionLost("gone")])
def test_all_refused_and_354_is_answered_by_the_empty_terminator(answer: object) -> None:
    """FAULTS 37: whatever the answer, even 250, the outcome stays refused."""
    log: list[bytes] = []
    outcome = run(plan(), 250, 550, 551, 452, 354, answer, log=log)
    assert outcome.sent[1] == b".\r\n"
    assert isinstance(outcome.error, AllRecipientsFailed)
    assert outcome.error.count == 3
    assert outcome.closed == isinstance(answer, ConnectionLost)
    assert b"RSET" not in log


def test_all_refused_under_lmtp_and_354_closes() -> None:
    """FAULTS 57: there may be no reply to wait for."""
    outcome = run(plan(protocol=Protocol.LMTP), 250, 550, 550, 550, 354)
    assert isinstance(outcome.error, AllRecipientsFailed)
    assert outcome.closed
    assert len(outcome.sent) == 1


@pytest.mark.parametrize("code", [451, 503, 554])
@pytest.mark.parametrize("capabilities", [PIPELINED, SEQUENTIAL])
def test_data_refused_is_followed_by_rset(code: int, capabilities: Capabilities) -> None:
    """FAULTS 25, 40."""
    log: list[bytes] = []
    outcome = run(plan(capabilities=capabilities), 250, 250, 550, 250, code, 250, log=log)
    assert isinstance(outcome.error, DataRejected)
    assert log[-1] == b"RSET"
    assert not outcome.closed
    assert fates(outcome.error) == {
        RCPTS[0]: f"rejected {code} data",
        RCPTS[1]: "rejected 550 rcpt",
        RCPTS[2]: f"rejected {code} data",
    }
    assert outcome.error.safe_to_retry == (code == 451)


@pytest.mark.parametrize("rset", [421, 500, 200, ConnectionLost("gone"), Timeout("late")])
def test_a_failed_rset_closes_and_keeps_the_first_error(rset: object) -> None:
    """FAULTS 33."""
    outcome = run(plan(), 250, 250, 250, 250, 554, rset)
    assert isinstance(outcome.error, DataRejected)
    assert outcome.error.reply.code == 554
    assert outcome.closed or isinstance(rset, SmtpError)  # the driver has closed in that case


@pytest.mark.parametrize("code", [200, 220, 250, 334, 355])
@pytest.mark.parametrize("capabilities", [PIPELINED, SEQUENTIAL])
def test_only_354_continues(code: int, capabilities: Capabilities) -> None:
    """FAULTS 26."""
    outcome = run(plan(capabilities=capabilities), 250, 250, 250, 250, code)
    assert isinstance(outcome.error, ProtocolError)
    assert outcome.closed
    assert not any(BODY in data for data in outcome.sent)
    assert fates(outcome.error) == dict.fromkeys(RCPTS, "unsent")
    assert outcome.error.safe_to_retry


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("code", [334, 354])
def test_3xx_to_mail_or_rcpt_closes(position: int, code: int) -> None:
    """FAULTS 17, 43."""
    codes = [250] * 4
    codes[position] = code
    outcome = run(plan(), *codes, 354)
    assert isinstance(outcome.error, ProtocolError)
    assert outcome.closed
    assert len(outcome.sent) == 1


def test_any_2xx_is_acceptance() -> None:
    """FAULTS 17."""
    assert run(plan(), 200, 252, 299, 251, 354, 200).result().accepted_recipients == RCPTS


@pytest.mark.parametrize("code", [451, 552, 554])
def test_final_refusal_keeps_the_connection(code: int) -> None:
    """FAULTS 30."""
    outcome = run(plan(), 250, 250, 250, 550, 354, code)
    assert isinstance(outcome.error, DataRejected)
    assert not outcome.closed
    assert fates(outcome.error)[RCPTS[0]] == f"rejected {code} final"
    assert fates(outcome.error)[RCPTS[2]] == "rejected 550 rcpt"
    assert outcome.error.temporary == (code == 451)


def test_530_to_mail_is_an_authentication_error() -> None:
    """FAULTS 19."""
    outcome = run(plan(), 530, 503, 503, 503, 503, 250)
    assert isinstance(outcome.error, AuthenticationError)
    assert not outcome.closed


# -- all or nothing ----------------------------------------------------------------------


def test_all_or_nothing_never_pipelines_data() -> None:
    """FAULTS 38."""
    log: list[bytes] = []
    outcome = run(plan(all_or_nothing=True), 250, 250, 550, 250, 250, log=log)
    assert type(outcome.error) is RecipientsRejected
    assert log[-1] == b"RSET"
    assert b"DATA" not in log
    assert fates(outcome.error) == {
        RCPTS[0]: "unsent",
        RCPTS[1]: "rejected 550 rcpt",
        RCPTS[2]: "unsent",
    }


def test_all_or_nothing_sends_where_all_are_accepted() -> None:
    outcome = run(plan(all_or_nothing=True), 250, 250, 250, 250, 354, 250)
    assert outcome.result().accepted_recipients == RCPTS
    assert outcome.sent[1] == b"DATA\r\n"

"""The transaction flow against scripts: what is written, and what each reply makes of it."""

from __future__ import annotations

import itertools

import pytest
from support.drive import Run, drive

from pysmtpx.errors import (
    AllRecipientsFailed,
    AuthenticationError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    ProtocolError,
    RecipientsRejected,
    SenderRejected,
    ServiceUnavailable,
    SmtpError,
    Timeout,
)
from pysmtpx.flow.effects import WITHHELD
from pysmtpx.flow.plan import Options, make_plan
from pysmtpx.flow.transaction import transaction
from pysmtpx.wire.capabilities import Capabilities, Protocol
from pysmtpx.wire.envelope import MailObject
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply

BODY = b"Subject: x\r\n\r\nhello\r\n"
RCPTS = ("a@x.example", "b@x.example", "c@x.example")


def caps(*lines: str) -> Capabilities:
    return Capabilities.from_reply(Reply(250, (b"mail.example", *(line.encode() for line in lines))))


PIPELINED = caps("PIPELINING", "CHUNKING", "8BITMIME")
SEQUENTIAL = caps("CHUNKING", "8BITMIME")


def plan(
    content: object = BODY,
    *,
    recipients: tuple[str, ...] = RCPTS,
    capabilities: Capabilities = PIPELINED,
    protocol: Protocol = Protocol.SMTP,
    **options: bool,
):
    mail = MailObject("s@x.example", recipients, content)  # type: ignore[arg-type]
    return make_plan(mail, capabilities, protocol=protocol, is_tls=False, options=Options(**options))


def server(*codes: int | SmtpError | bytes, lmtp: int = 1, log: list[bytes] | None = None):
    """Answer each command line with the next code; content that ends is one command."""
    answers = list(codes)
    state = {"data": False, "left": b"", "chunk": 0}

    def step() -> bytes:
        code = answers.pop(0) if answers else 250
        if isinstance(code, SmtpError):
            answers[:] = [code]
            raise code
        return code if isinstance(code, bytes) else b"%d answer\r\n" % code

    def answer(data: bytes):
        state["left"] += data
        out = b""
        try:
            while True:
                if state["data"]:
                    left = state["left"]
                    if left != b".\r\n" and not left.endswith(b"\r\n.\r\n"):
                        return out
                    state["left"], state["data"] = b"", False
                    out += b"".join(step() for _ in range(lmtp))
                    continue
                line, found, rest = state["left"].partition(b"\r\n")
                if not found:
                    return out
                if line.startswith(b"BDAT"):
                    size = int(line.split()[1])
                    if len(rest) < size:
                        return out
                    rest = rest[size:]
                state["left"] = rest
                if log is not None:
                    log.append(line)
                reply = step()
                out += reply
                state["data"] = line == b"DATA" and reply.startswith(b"354")
        except SmtpError as error:
            return out or error  # with octets out, whoever reads on finds the line gone

    return answer


def run(p, *codes, lmtp: int = 1, log: list[bytes] | None = None) -> Run:
    return drive(transaction(p), server(*codes, lmtp=lmtp, log=log))


def paths(error: SmtpError) -> dict[str, str]:
    """Each recipient with the name of its one outcome."""
    named = (
        [(p, "accepted") for p in error.accepted_recipients]
        + [(r.recipient, f"rejected {r.reply.code} {r.stage}") for r in error.rejected_recipients]
        + [(p, "unknown") for p in error.unknown_recipients]
        + [(p, "unsent") for p in error.unsent_recipients]
    )
    assert len(dict(named)) == len(named)
    return dict(named)


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
            assert set(paths(outcome.error)) == set(RCPTS)
    if pipelined.error is not None:
        assert type(pipelined.error) is type(sequential.error)
        assert paths(pipelined.error) == paths(sequential.error)
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
    assert paths(outcome.error) == dict.fromkeys(RCPTS, "rejected 550 mail")


def test_mail_refused_and_reading_stops_half_way() -> None:
    """The refusal that was read outranks the loss that followed (FAULTS 36)."""
    outcome = drive(transaction(plan()), [(None, b"550 no\r\n503 no\r\n")])
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
    assert paths(outcome.error) == {
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
    assert paths(outcome.error) == dict.fromkeys(RCPTS, "unsent")
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
    assert paths(outcome.error)[RCPTS[0]] == f"rejected {code} final"
    assert paths(outcome.error)[RCPTS[2]] == "rejected 550 rcpt"
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
    assert paths(outcome.error) == {
        RCPTS[0]: "unsent",
        RCPTS[1]: "rejected 550 rcpt",
        RCPTS[2]: "unsent",
    }


def test_all_or_nothing_sends_where_all_are_accepted() -> None:
    outcome = run(plan(all_or_nothing=True), 250, 250, 250, 250, 354, 250)
    assert outcome.result().accepted_recipients == RCPTS
    assert outcome.sent[1] == b"DATA\r\n"


# -- 421, loss, timeout, garbage -----------------------------------------------------------


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("capabilities", [PIPELINED, SEQUENTIAL])
def test_421_before_the_content_is_reported_and_nothing_follows(
    position: int, capabilities: Capabilities
) -> None:
    """FAULTS 24, 41."""
    codes: list[object] = [250, 250, 550, 250, 354]
    codes[position] = 421
    outcome = run(plan(capabilities=capabilities), *codes[: position + 1], ConnectionLost("gone"))
    assert isinstance(outcome.error, ServiceUnavailable)
    assert outcome.error.reply.code == 421
    assert outcome.closed
    expected = dict.fromkeys(RCPTS, "unsent")
    if position > 2:
        expected[RCPTS[1]] = "rejected 550 rcpt"
    assert paths(outcome.error) == expected
    assert outcome.error.safe_to_retry


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("failure", [ConnectionLost("gone"), Timeout("late"), b"garbage\r\n"])
def test_a_break_before_the_content_leaves_everyone_unsent(position: int, failure: object) -> None:
    """FAULTS 29, 42."""
    codes: list[object] = [250, 250, 550, 250, 354]
    outcome = run(plan(capabilities=SEQUENTIAL), *codes[:position], failure)
    kind = ProtocolError if isinstance(failure, bytes) else type(failure)
    assert type(outcome.error) is kind
    assert outcome.error.stage == ("mail", "rcpt", "rcpt", "rcpt", "data")[position]
    assert paths(outcome.error)[RCPTS[0]] == "unsent"
    assert outcome.error.safe_to_retry


@pytest.mark.parametrize("bdat", [False, True])
@pytest.mark.parametrize("failure", [ConnectionLost("gone"), Timeout("late"), b"garbage\r\n", 354, 334])
def test_a_break_after_the_end_of_data_is_unknown(failure: object, bdat: bool) -> None:
    """FAULTS 31, 51."""
    codes = [250, 250, 550, 250] if bdat else [250, 250, 550, 250, 354]
    outcome = run(plan(bdat=bdat), *codes, failure)
    error = outcome.error
    assert isinstance(error, DeliveryUnknown)
    assert paths(error) == {RCPTS[0]: "unknown", RCPTS[1]: "rejected 550 rcpt", RCPTS[2]: "unknown"}
    assert not error.safe_to_retry
    assert not error.temporary
    assert error.__cause__ is not None
    assert outcome.closed


def test_421_after_the_end_of_data_is_a_reply_like_another() -> None:
    """FAULTS 24, 30: the server answered, and it has not taken the message."""
    outcome = run(plan(), 250, 250, 250, 250, 354, 421)
    assert isinstance(outcome.error, ServiceUnavailable)
    assert paths(outcome.error) == dict.fromkeys(RCPTS, "unsent")


def _long() -> bytes:
    return b"x: y\r\n\r\n" + (b"z" * 500 + b"\r\n") * 1000


@pytest.mark.parametrize("bdat", [False, True])
@pytest.mark.parametrize(
    ("early", "kind", "outcome_of_first"),
    [
        (b"552 5.3.4 too big\r\n", DataRejected, "rejected 552 content"),  # FAULTS 27
        (b"451 later\r\n", DataRejected, "rejected 451 content"),  # FAULTS 27
        (b"421 bye\r\n", ServiceUnavailable, "unsent"),  # FAULTS 27
        (b"250 thanks\r\n", DeliveryUnknown, "unknown"),  # FAULTS 28
        (b"354 go on\r\n", ProtocolError, "unsent"),
        (ConnectionLost("gone"), ConnectionLost, "unsent"),  # FAULTS 29
    ],
)
def test_a_reply_while_the_content_is_written(early, kind, outcome_of_first: str, bdat: bool) -> None:
    greet = b"250 x\r\n" * 4 + (b"" if bdat else b"354 x\r\n")
    writes = []

    def answer(data: bytes):
        writes.append(data)
        return greet if len(writes) == 1 else early if len(writes) == 3 else b""

    outcome = drive(transaction(plan(_long(), bdat=bdat)), answer)
    assert type(outcome.error) is kind
    assert paths(outcome.error)[RCPTS[0]] == outcome_of_first
    assert outcome.closed
    assert len(writes) == 3  # stopped at once
    assert not writes[-1].endswith(b".\r\n")


@pytest.mark.parametrize("code", [452, 554])
def test_a_refused_chunk_closes(code: int) -> None:
    """FAULTS 47, 48: a server that did not swallow the chunk reads content as commands."""
    body = iter([b"x: y\r\n\r\n", *[b"z" * 500 + b"\r\n"] * 5000])
    log: list[bytes] = []
    outcome = run(plan(body, bdat=True), 250, 250, 250, 250, 250, code, log=log)
    assert isinstance(outcome.error, DataRejected)
    assert outcome.closed
    assert [line for line in log if line.startswith(b"BDAT")][-1].count(b"LAST") == 0
    assert b"RSET" not in log


def test_a_refused_last_chunk_closes() -> None:
    """FAULTS 48."""
    outcome = run(plan(bdat=True), 250, 250, 250, 250, 554)
    assert isinstance(outcome.error, DataRejected)
    assert outcome.closed


class Broken(RuntimeError):
    pass


@pytest.mark.parametrize("bdat", [False, True])
@pytest.mark.parametrize("chunks", [0, 500])
def test_content_that_raises_closes_and_raises_its_own_error(chunks: int, bdat: bool) -> None:
    """FAULTS 35."""

    def content():
        for _ in range(chunks):
            yield b"z" * 500 + b"\r\n"
        raise Broken

    flow = transaction(plan(content(), bdat=bdat))
    log: list[bytes] = []
    closed: list[bool] = []
    with pytest.raises(Broken):
        _until_close(flow, server(250, 250, 250, 250, 354, log=log), closed)
    assert closed == [True]


def _until_close(flow, answer, closed: list[bool]) -> None:
    """Drive a flow whose own exception is not ours to catch."""

    def watched():
        try:
            effect = next(flow)
            while True:
                if type(effect).__name__ == "Close":
                    closed.append(True)
                effect = flow.send((yield effect))
        except StopIteration as stop:
            return stop.value

    drive(watched(), answer)


# -- LMTP ------------------------------------------------------------------------------


@pytest.mark.parametrize("finals", list(itertools.product([250, 450, 550], repeat=3)))
@pytest.mark.parametrize("bdat", [False, True])
def test_lmtp_has_one_reply_a_recipient(finals: tuple[int, ...], bdat: bool) -> None:
    """FAULTS 54."""
    codes = [250] * 4 + ([] if bdat else [354])
    finals_octets = b"".join(b"%d f%d\r\n" % (code, i) for i, code in enumerate(finals))
    outcome = run(plan(protocol=Protocol.LMTP, bdat=bdat), *codes, finals_octets)
    good = [code == 250 for code in finals]
    if not any(good):
        assert isinstance(outcome.error, AllRecipientsFailed)
        assert outcome.error.stage == "final"
        assert [r.code for r in outcome.error.responses] == list(finals)
        return
    result = outcome.result()
    assert result.accepted_recipients == tuple(p for p, ok in zip(RCPTS, good, strict=True) if ok)
    assert [reply.code for reply in result.replies] == [250] * sum(good)
    assert [(r.recipient, r.reply.code, r.stage) for r in result.rejected_recipients] == [
        (p, code, Stage.FINAL) for p, code, ok in zip(RCPTS, finals, good, strict=True) if not ok
    ]
    assert outcome.closed == (bdat and not all(good))


@pytest.mark.parametrize("answered", range(3))
@pytest.mark.parametrize("end", [b"", b"421 bye\r\n", b"garbage\r\n", b"354 x\r\n"])
def test_lmtp_that_ends_half_way(answered: int, end: bytes) -> None:
    """FAULTS 55: the first k are final, the rest unknown."""
    finals = b"".join((b"250 ok\r\n", b"550 no\r\n", b"250 ok\r\n")[:answered]) + end
    outcome = run(plan(protocol=Protocol.LMTP), 250, 250, 250, 250, 354, finals)
    error = outcome.error
    assert isinstance(error, DeliveryUnknown)
    want = ["accepted", "rejected 550 final", "accepted"][:answered] + ["unknown"] * (3 - answered)
    assert paths(error) == dict(zip(RCPTS, want, strict=True))


def test_lmtp_matches_by_position_where_an_address_stands_twice() -> None:
    """FAULTS 56."""
    twice = ("a@x.example", "a@x.example", "b@x.example")
    outcome = run(
        plan(protocol=Protocol.LMTP, recipients=twice),
        250,
        250,
        250,
        250,
        354,
        b"250 1\r\n452 2\r\n250 3\r\n",
    )
    result = outcome.result()
    assert result.accepted_recipients == ("a@x.example", "b@x.example")
    assert [(r.recipient, r.reply.code) for r in result.rejected_recipients] == [("a@x.example", 452)]


def test_an_interrupt_after_the_end_of_data_says_so() -> None:
    flow = transaction(plan())
    effect = next(flow)
    answers = iter([Reply(250)] * 4 + [Reply(354)])
    while True:
        if type(effect).__name__ == "Send":
            if bytes(effect.data).endswith(b".\r\n"):
                break
            effect = flow.send(False)
        else:
            effect = flow.send(next(answers))
    with pytest.raises(KeyboardInterrupt) as caught:
        flow.throw(KeyboardInterrupt())
    assert "perhaps delivered" in caught.value.__notes__[0]


@pytest.mark.parametrize("position", [0, 1, 3])
@pytest.mark.parametrize(
    ("extra", "kind"), [(b"250 stray\r\n", ProtocolError), (b"421 bye\r\n", ServiceUnavailable)]
)
def test_what_is_said_unasked_is_no_answer_to_the_next_command(position: int, extra: bytes, kind) -> None:
    """FAULTS 9, 74: it came after the reply before was read, and before the next command was written."""
    flow = transaction(plan(capabilities=SEQUENTIAL))
    effect, count = next(flow), 0
    while count <= position:  # the replies up to here, in peace
        effect = flow.send(0 if type(effect).__name__ == "Send" else Reply(250))
        count += type(effect).__name__ == "Send"
    assert effect.guard
    assert flow.send(WITHHELD).stage in (Stage.RCPT, Stage.DATA, Stage.MAIL)
    stray = Reply(int(extra[:3]), (extra[4:-2],))
    assert type(flow.send(stray)).__name__ == "Close"
    with pytest.raises(kind) as caught:
        flow.send(None)
    assert paths(caught.value) == dict.fromkeys(RCPTS, "unsent")

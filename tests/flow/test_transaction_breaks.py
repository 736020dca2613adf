"""The transaction flow against scripts: 421, loss, time, garbage, early replies, and LMTP."""

from __future__ import annotations

import itertools

import pytest
from support.drive import drive, heard
from support.fates import BODY, RCPTS, fates
from support.transactions import PIPELINED, SEQUENTIAL, plan, run, server

from pysmtpx.errors import (
    AllRecipientsFailed,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    ProtocolError,
    ServiceUnavailable,
    Timeout,
)
from pysmtpx.flow.effects import WITHHELD, Close, Receive, Send
from pysmtpx.flow.transaction import delivery
from pysmtpx.wire.capabilities import Capabilities, Protocol
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply

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
    assert fates(outcome.error) == expected
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
    assert fates(outcome.error)[RCPTS[0]] == "unsent"
    assert outcome.error.safe_to_retry


@pytest.mark.parametrize("bdat", [False, True])
@pytest.mark.parametrize("failure", [ConnectionLost("gone"), Timeout("late"), b"garbage\r\n", 354, 334])
def test_a_break_after_the_end_of_data_is_unknown(failure: object, bdat: bool) -> None:
    """FAULTS 31, 51."""
    codes = [250, 250, 550, 250] if bdat else [250, 250, 550, 250, 354]
    outcome = run(plan(bdat=bdat), *codes, failure)
    error = outcome.error
    assert isinstance(error, DeliveryUnknown)
    assert fates(error) == {RCPTS[0]: "unknown", RCPTS[1]: "rejected 550 rcpt", RCPTS[2]: "unknown"}
    assert not error.safe_to_retry
    assert not error.temporary
    assert error.__cause__ is not None
    assert outcome.closed


def test_421_after_the_end_of_data_is_a_reply_like_another() -> None:
    """FAULTS 24, 30: the server answered, and it has not taken the message."""
    outcome = run(plan(), 250, 250, 250, 250, 354, 421)
    assert isinstance(outcome.error, ServiceUnavailable)
    assert fates(outcome.error) == dict.fromkeys(RCPTS, "unsent")


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

    outcome = drive(delivery(plan(_long(), bdat=bdat)), answer)
    assert type(outcome.error) is kind
    assert fates(outcome.error)[RCPTS[0]] == outcome_of_first
    assert outcome.closed
    assert len(writes) == 3  # stopped at once
    assert not writes[-1].endswith(b".\r\n")


@pytest.mark.parametrize("bdat", [False, True])
@pytest.mark.parametrize("is_long", [False, True])
def test_a_reply_right_before_the_last_octets(is_long: bool, bdat: bool) -> None:
    """FAULTS 27: about the content if anything of a chunk was written; else one too many for the envelope."""
    flow = delivery(plan(_long() if is_long else BODY, bdat=bdat))
    effect, answers = next(flow), iter([Reply(250)] * 4 + [Reply(354)])
    while not getattr(effect, "commits", False):
        effect = flow.send(0 if isinstance(effect, Send) else heard(effect, answers))
    assert effect.guard, "whatever is there stops it"
    assert isinstance(flow.send(WITHHELD), Receive)
    assert isinstance(flow.send(Reply(552)), Close)
    is_surplus = bdat and not is_long
    with pytest.raises(ProtocolError if is_surplus else DataRejected) as caught:
        flow.send(None)
    fate = "unsent" if is_surplus else "rejected 552 content"
    assert fates(caught.value) == dict.fromkeys(RCPTS, fate)


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

    flow = delivery(plan(content(), bdat=bdat))
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
    assert fates(error) == dict(zip(RCPTS, want, strict=True))


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
    flow = delivery(plan())
    effect = next(flow)
    answers = iter([Reply(250)] * 4 + [Reply(354)])
    while True:
        if type(effect).__name__ == "Send":
            if bytes(effect.data).endswith(b".\r\n"):
                break
            effect = flow.send(False)
        else:
            effect = flow.send(heard(effect, answers))
    with pytest.raises(KeyboardInterrupt) as caught:
        flow.throw(KeyboardInterrupt())
    assert "perhaps delivered" in caught.value.__notes__[0]


@pytest.mark.parametrize("position", [0, 1, 3])
@pytest.mark.parametrize(
    ("extra", "kind"), [(b"250 stray\r\n", ProtocolError), (b"421 bye\r\n", ServiceUnavailable)]
)
def test_what_is_said_unasked_is_no_answer_to_the_next_command(position: int, extra: bytes, kind) -> None:
    """FAULTS 9, 74: it came after the reply before was read, and before the next command was written."""
    flow = delivery(plan(capabilities=SEQUENTIAL))
    effect, count = next(flow), 0
    while count <= position:  # the replies up to here, in peace
        is_send = type(effect).__name__ == "Send"
        effect = flow.send(0 if is_send else heard(effect, itertools.repeat(Reply(250))))
        count += type(effect).__name__ == "Send"
    assert effect.guard
    assert flow.send(WITHHELD).stage in (Stage.RCPT, Stage.DATA, Stage.MAIL)
    stray = Reply(int(extra[:3]), (extra[4:-2],))
    assert type(flow.send(stray)).__name__ == "Close"
    with pytest.raises(kind) as caught:
        flow.send(None)
    assert fates(caught.value) == dict.fromkeys(RCPTS, "unsent")

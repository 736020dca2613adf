"""Transactions in flight by BDAT: where the line breaks, and where a reply is one too many."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.fates import RCPTS, fates
from support.transactions import plan

from pysmtpx.errors import (
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    ProtocolError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
)
from pysmtpx.flow.effects import END, WITHHELD, Close, Hear, Receive, Report, Send, Settled, Take
from pysmtpx.flow.flight import flight
from pysmtpx.flow.stream import Entry
from pysmtpx.wire.capabilities import Protocol
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply

LONG = b"x: y\r\n\r\n" + (b"z" * 500 + b"\r\n") * 500
SHORT = b"x: y\r\n\r\n"


@dataclass
class Line:
    """What a flight talks to; each write is answered by the next of ``said``."""

    said: list[Sequence[int | Reply]]
    answers: list[int | tuple[int, int]] = field(default_factory=list)
    """To its writes: what ``Send`` is resumed with, and how many octets of it were not handed over."""
    failure: SmtpError = field(default_factory=lambda: ConnectionLost("gone"))
    """Behind the last reply."""
    inbox: deque[Reply] = field(default_factory=deque)
    writes: list[bytes] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def run(self, entries: list[Entry], count: int = 4) -> list[Report]:
        flow, result = flight(count), None
        try:
            while True:
                effect = flow.throw(result) if isinstance(result, SmtpError) else flow.send(result)
                try:
                    result = self._perform(effect, entries)
                except SmtpError as error:
                    result = error
        except StopIteration:
            return self.reports

    def _perform(self, effect: Any, entries: list[Entry]) -> Any:
        match effect:
            case Send():
                return self._send(effect)
            case Receive(last=last):
                return self._reply(last)
            case Hear(listener=listener, count=count, last=last):
                for left in reversed(range(count)):
                    listener.note(self._reply(last and not left))
            case Take():
                return entries.pop(0) if entries else END
            case Report():
                self.reports.append(effect)
            case Close() | Settled():
                pass
        return None

    def _send(self, effect: Send) -> int:
        if effect.guard and self.inbox:
            return WITHHELD
        answer = self.answers.pop(0) if self.answers else 0
        self.writes.append(bytes(effect.data))
        result, effect.short = answer if isinstance(answer, tuple) else (answer, 0)
        said = self.said.pop(0) if self.said else ()
        self.inbox += (reply if isinstance(reply, Reply) else Reply(reply) for reply in said)
        return result

    def _reply(self, last: bool) -> Reply:
        if not self.inbox:
            raise self.failure
        reply = self.inbox.popleft()
        if last and self.inbox:
            error = ProtocolError("more than was owed")
            error.surplus = (reply, self.inbox[0])
            raise error
        return reply


def messages(*contents: bytes, protocol: Protocol = Protocol.SMTP) -> list[Entry]:
    return [Entry(n, plan(content, protocol=protocol, bdat=True)) for n, content in enumerate(contents)]


ENVELOPE = [250] * 5
"""The answers to RSET, MAIL and each RCPT."""


# -- where the line breaks --------------------------------------------------------------------


@pytest.mark.parametrize("failure", [ConnectionLost("gone"), Timeout("the server stopped reading")])
@pytest.mark.parametrize(
    ("content", "said", "answers"),
    [
        (LONG, [ENVELOPE[1:]], [0, 0, 1]),
        (LONG, [ENVELOPE[1:]], [0, 0, 0, 0, (1, 1)]),  # the kernel did not take the whole of the last slice
        (SHORT, [], [(1, 1)]),
        (SHORT, [ENVELOPE], [(1, 1)]),
        (SHORT, [ENVELOPE[:3]], [(1, 3)]),
    ],
)
def test_a_line_that_breaks_in_mid_content_leaves_it_unsent(failure, content, said, answers) -> None:
    """FAULTS 29, 51."""
    (report,) = Line(list(said), list(answers), failure).run(messages(content))
    assert type(report.outcome) is type(failure)
    if answers != [(1, 3)]:
        assert report.outcome.stage is Stage.CONTENT
    assert fates(report.outcome) == dict.fromkeys(RCPTS, "unsent")
    assert report.outcome.safe_to_retry


def test_a_line_that_is_gone_before_anything_was_written() -> None:
    (report,) = Line([], [WITHHELD]).run(messages(SHORT))
    assert type(report.outcome) is ConnectionLost
    assert report.outcome.stage is Stage.INPUT
    assert fates(report.outcome) == dict.fromkeys(RCPTS, "unsent")


@pytest.mark.parametrize(("content", "said"), [(LONG, [ENVELOPE[1:]]), (SHORT, [ENVELOPE])])
def test_it_breaks_with_the_last_octet_handed_over(content: bytes, said: Any) -> None:
    """FAULTS 51."""
    (report,) = Line(list(said)).run(messages(content))
    assert type(report.outcome) is DeliveryUnknown
    assert fates(report.outcome) == dict.fromkeys(RCPTS, "unknown")


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("early", "kind", "fate"),
    [
        (Reply(552, (b"too big",)), DataRejected, "rejected 552 content"),  # FAULTS 27
        (Reply(250), DeliveryUnknown, "unknown"),  # FAULTS 28
        (Reply(421), ServiceUnavailable, "unsent"),  # FAULTS 24
    ],
)
@pytest.mark.parametrize(
    ("content", "said", "answers"),
    [
        (LONG, lambda early: [ENVELOPE[1:], [early]], [0, 1]),
        (LONG, lambda early: [ENVELOPE[1:], [], [early]], [0, 0, 1]),
        (LONG, lambda early: [ENVELOPE[1:], [], [], [], [early]], [0, 0, 0, 0, (1, 7)]),
        (SHORT, lambda early: [[*ENVELOPE, early]], [(1, 7)]),
    ],
)
def test_what_was_said_to_half_of_it_outranks_the_loss(
    protocol, early: Reply, kind, fate: str, content, said, answers
) -> None:
    line = Line(said(early), list(answers), Timeout("the server stopped reading"))
    behind = [SHORT] if content is LONG else []  # else it is in the same write
    reports = line.run(messages(content, *behind, protocol=protocol))
    assert type(reports[0].outcome) is kind
    assert fates(reports[0].outcome) == dict.fromkeys(RCPTS, fate)
    for report in reports[1:]:
        assert fates(report.outcome) == dict.fromkeys(RCPTS, "unsent")
    assert len(line.writes) == len(answers), "not an octet behind it"


def test_what_was_read_of_one_message_outranks_what_the_next_write_comes_to() -> None:
    """FAULTS 60: of five that go together the server takes two and a part of the third."""
    entries = messages(*[SHORT] * 5)
    alone = Line([])
    alone.run(entries[:1])
    size = len(alone.writes[0])
    line = Line([[*ENVELOPE, 250] * 2], [(1, 2 * size + 20)], Timeout("the server stopped reading"))
    reports = line.run(entries, 8)
    assert [set(fates(report.outcome).values()) for report in reports] == [
        {"accepted"},
        {"accepted"},
        {"unsent"},
        {"unsent"},
        {"unsent"},
    ]
    assert [report.outcome.stage for report in reports[2:]] == [Stage.CONTENT, Stage.INPUT, Stage.INPUT]


def test_nothing_goes_behind_a_line_that_is_gone() -> None:
    """What is taken when the line is found gone is unsent, and not in doubt."""
    reports = Line([[*ENVELOPE, 250]], [1, WITHHELD]).run(messages(SHORT, LONG))
    assert fates(reports[1].outcome) == dict.fromkeys(RCPTS, "unsent")
    assert type(reports[0].outcome).__name__ == "SendResult"


@pytest.mark.parametrize(
    ("at", "stage", "told"),
    [
        (0, Stage.RSET, ["unsent"] * 3),
        (1, Stage.MAIL, ["unsent"] * 3),
        (2, Stage.RCPT, ["unsent"] * 3),
        (4, Stage.RCPT, ["unsent"] * 3),
        (5, Stage.FINAL, ["unsent"] * 3),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_a_shutdown_is_told_with_the_stage_that_it_answers(before: int, at: int, stage, told) -> None:
    """FAULTS 24, 41: and whoever was written behind it was not heard."""
    said = [*([*ENVELOPE, 250] * before), *[250] * at, 421]
    reports = Line([said]).run(messages(*[SHORT] * (before + 2)))
    shut, behind = (report.outcome for report in reports[before:])
    assert type(shut) is ServiceUnavailable
    assert shut.stage is stage
    assert list(fates(shut).values()) == told
    assert type(behind) in (ServiceUnavailable, ConnectionLost)
    assert behind.stage is Stage.MAIL
    assert fates(behind) == dict.fromkeys(RCPTS, "unsent")
    assert all(report.outcome.accepted_recipients == RCPTS for report in reports[:before])


@pytest.mark.parametrize("late", [421, 250, 550])
def test_what_is_said_when_nothing_is_owed_is_no_answer_to_the_next(late: int) -> None:
    """FAULTS 9, 87: nothing is written then, and the next message may go at once on another connection."""
    entries = messages(SHORT, LONG, SHORT)

    class Late(Line):
        def _perform(self, effect: Any, entries: list[Entry]) -> Any:
            if isinstance(effect, Report) and effect.token == 0:
                self.inbox.append(Reply(late))
            return super()._perform(effect, entries)

    line = Late([[*ENVELOPE, 250]])
    reports = line.run(entries, 2)
    assert len(line.writes) == 1
    assert reports[0].outcome.accepted_recipients == RCPTS
    for report in reports[1:]:
        assert fates(report.outcome) == dict.fromkeys(RCPTS, "unsent")
        assert report.outcome.safe_to_retry


# -- a reply too many -------------------------------------------------------------------------

COUNT = 3
PLACES = [*range(6)]
"""Behind the answers to RSET, MAIL and each RCPT, and behind the last one."""
REFUSALS = ("none", "mail", "one", "everybody", "final")


def answers_of(refusal: str, *, lmtp: bool) -> tuple[list[int], set[str]]:
    """What a server says to RSET and one transaction, and who has the message then."""
    rcpts = [250] * 3
    if refusal == "mail":
        return [250, 550, 503, 503, 503, 503], set()
    if refusal == "one":
        rcpts[1] = 550
    if refusal == "everybody":
        return [250, 250, 550, 550, 550, 503], set()
    accepted = [path for path, code in zip(RCPTS, rcpts, strict=True) if code == 250]
    if not lmtp:
        return [250, 250, *rcpts, 554 if refusal == "final" else 250], (
            set() if refusal == "final" else set(accepted)
        )
    finals = [250] * len(accepted)
    if refusal == "final":
        finals[0] = 554
    return [250, 250, *rcpts, *finals], {p for p, c in zip(accepted, finals, strict=True) if c == 250}


def cases() -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Refusals of one or two of the messages, and the message and the place of the surplus."""
    for refusals in itertools.product(REFUSALS, repeat=COUNT):
        if sum(refusal != "none" for refusal in refusals) <= 2:
            yield from ((refusals, number, place) for number in range(COUNT) for place in PLACES)


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("surplus", "count"), [(250, 4), (503, 4), (550, 4), (550, 2), (354, 4), (None, 4), (None, 2)]
)
def test_one_reply_too_many(surplus: int | None, protocol: Protocol, count: int) -> None:
    """FAULTS 9, 43: nobody is told accepted, refused or unsent by the answer to another command."""
    lmtp = protocol is Protocol.LMTP
    entries = messages(*[SHORT] * COUNT, protocol=protocol)
    for refusals, number, place in cases():
        case = f"{refusals}, {surplus} behind {place} of {number}"
        served = [answers_of(refusal, lmtp=lmtp) for refusal in refusals]
        said = [list(replies) for replies, _ in served]
        if surplus is not None:
            said[number].insert(place + 1, surplus)
        reports = Serving(said).run(list(entries), count)
        assert [report.token for report in reports] == [*range(len(reports))], case
        for report in reports:
            has_it = served[report.token][1]
            for path, fate in fates(report.outcome).items():
                if fate == "accepted":
                    assert path in has_it, case
                elif fate != "unknown":
                    assert path not in has_it, case
                else:
                    assert surplus is not None, case


class Serving(Line):
    """One that answers each transaction which is written, and nothing more once it was refused."""

    def _send(self, effect: Send) -> int:
        count = bytes(effect.data).count(b"RSET\r\n")
        replies = list(itertools.chain.from_iterable(self.said[:count]))
        self.said[:count] = [replies]
        return super()._send(effect)


def test_one_reply_for_all_recipients_of_lmtp() -> None:
    """FAULTS 119 in flight: the answers to the next transaction are not taken for those that did not come."""
    said = [[*ENVELOPE, 552, *ENVELOPE, 250, 250, 250]]
    reports = Line(said, failure=Timeout("no reply came in time")).run(
        messages(SHORT, SHORT, protocol=Protocol.LMTP)
    )
    first, second = (fates(report.outcome) for report in reports)
    assert first == dict(zip(RCPTS, ["rejected 552 final", "unknown", "unknown"], strict=True))
    assert second == dict.fromkeys(RCPTS, "unknown")

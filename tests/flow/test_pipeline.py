"""A stream of messages as it is pushed: what is told when, and what may go wrong with the line in flight."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.fates import RCPTS, fates
from support.judge import END, LATER
from support.judge import Line as Served
from support.opening import open_session
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
from pysmtpx.flow.effects import WITHHELD, Close, Flow, Hear, Receive, Send, Transcribe, Until
from pysmtpx.flow.pipeline import Done, Pipeline
from pysmtpx.flow.plan import Plan, make_plan
from pysmtpx.flow.session import Opening
from pysmtpx.testing.config import Config
from pysmtpx.testing.protocol import ServerSession
from pysmtpx.wire.capabilities import Protocol
from pysmtpx.wire.envelope import MailObject
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply

LONG = b"x: y\r\n\r\n" + (b"z" * 500 + b"\r\n") * 500
SHORT = b"x: y\r\n\r\n"


@dataclass
class Line:
    """What a pipeline talks to; each write is answered by the next of ``said``."""

    said: list[Sequence[int | Reply]]
    answers: list[int | tuple[int, int]] = field(default_factory=list)
    """To its writes: what ``Send`` is resumed with, and how many octets of it were not handed over."""
    failure: SmtpError = field(default_factory=lambda: ConnectionLost("gone"))
    """Behind the last reply."""
    inbox: deque[Reply] = field(default_factory=deque)
    writes: list[bytes] = field(default_factory=list)
    reports: list[Done] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    """Every effect."""

    def run(self, plans: list[Plan], count: int = 4) -> list[Done]:
        """Push all of them, as whoever has a list does; what became known."""
        pipeline = Pipeline(in_flight=count)
        for number, each in enumerate(plans):
            if pipeline.is_closed:
                break
            self._drive(pipeline.push(number, each), pipeline)
        self._drive(pipeline.finish(), pipeline)
        return self.reports

    def _drive(self, flow: Flow[None], pipeline: Pipeline) -> None:
        result = None
        try:
            while True:
                effect = flow.throw(result) if isinstance(result, SmtpError) else flow.send(result)
                try:
                    result = self._perform(effect)
                except SmtpError as error:
                    result = error
        except StopIteration:
            self.reports += pipeline.known()

    def _perform(self, effect: Any) -> Any:
        self.asked.append(effect)
        match effect:
            case Send():
                return self._send(effect)
            case Receive(last=last):
                return self._reply(last)
            case Hear(listener=listener, count=count, last=last):
                for left in reversed(range(count)):
                    listener.note((self._reply(last and not left),))
            case Close() | Until() | Transcribe():
                pass
            case _:
                raise AssertionError(effect)
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


def messages(*contents: bytes, protocol: Protocol = Protocol.SMTP) -> list[Plan]:
    return [plan(content, protocol=protocol, bdat=True) for content in contents]


ENVELOPE = [250] * 5
"""The answers to RSET, MAIL and each RCPT."""


# -- what is told when ------------------------------------------------------------------------

GOES_AHEAD = [250] * 4 + [354]
"""The answers to MAIL, each RCPT and DATA."""
SOON, LATE = object(), object()
"""Two deadlines."""


def tokens(reports: list[Done]) -> list[Any]:
    return [report.token for report in reports]


def test_without_more_a_message_is_told_by_its_push() -> None:
    line, pipeline = Line([GOES_AHEAD, [250]] * 2), Pipeline()
    for number in range(2):
        line._drive(pipeline.push(number, plan(SHORT)), pipeline)
        assert tokens(line.reports) == list(range(number + 1))
        assert not pipeline.is_busy
    assert len(line.writes) == 4


def test_overlapped_it_is_told_by_the_push_of_the_next() -> None:
    """Nothing of the next one's content is written by then: whoever leaves now leaves it undelivered."""
    line, pipeline = Line([GOES_AHEAD, [250, *GOES_AHEAD], [250]]), Pipeline(overlap=True)
    for number in range(2):
        line._drive(pipeline.push(number, plan(SHORT)), pipeline)
        assert tokens(line.reports) == list(range(number))
        assert pipeline.is_busy
    assert b"".join(line.writes).count(SHORT) == 1
    assert line.writes[1].startswith(SHORT + b".\r\nMAIL FROM:")
    line._drive(pipeline.finish(), pipeline)
    assert tokens(line.reports) == [0, 1]
    assert not pipeline.is_busy
    line._drive(pipeline.finish(), pipeline)
    assert len(line.writes) == 3, "there is nothing to finish"


def test_in_flight_they_are_written_together_when_the_window_is_full() -> None:
    line, pipeline = Line([[*ENVELOPE, 250] * 4, [*ENVELOPE, 250]]), Pipeline(in_flight=4)
    for number in range(5):
        line._drive(pipeline.push(number, plan(SHORT, bdat=True)), pipeline)
        assert len(line.writes) == (number >= 3)
        assert tokens(line.reports) == ([0, 1] if number >= 3 else []), "half of the window stays under way"
    line._drive(pipeline.finish(), pipeline)
    assert tokens(line.reports) == [*range(5)]


@pytest.mark.parametrize("options", [{}, {"overlap": True}, {"in_flight": 4}])
def test_behind_the_end_of_the_connection_everything_is_unsent(options: Any) -> None:
    line, pipeline = Line([[421]]), Pipeline(**options)
    entries = messages(*[SHORT] * 3) if options.get("in_flight") else [plan(SHORT) for _ in range(3)]
    line._drive(pipeline.push(0, entries[0]), pipeline)
    line._drive(pipeline.finish(), pipeline)
    assert pipeline.is_closed
    for number in (1, 2):
        line._drive(pipeline.push(number, entries[number]), pipeline)
    assert tokens(line.reports) == [0, 1, 2]
    assert len(line.writes) == 1
    for report in line.reports[1:]:
        assert isinstance(report.outcome, SmtpError)
        assert fates(report.outcome) == dict.fromkeys(RCPTS, "unsent")
        assert report.outcome.stage is Stage.INPUT
        assert report.outcome.safe_to_retry


def test_the_time_of_a_message_begins_when_the_one_before_is_answered() -> None:
    """Overlapped: behind its final reply. In flight: when it is the oldest."""
    line, pipeline = Line([GOES_AHEAD, [250, *GOES_AHEAD], [250]]), Pipeline(overlap=True)
    assert pipeline.deadline(SOON) is SOON, "none is older"
    line._drive(pipeline.push(0, plan(SHORT), SOON), pipeline)
    assert pipeline.deadline(LATE) is SOON
    line.asked.clear()
    line._drive(pipeline.push(1, plan(SHORT), LATE), pipeline)
    assert [type(effect) for effect in line.asked] == [Send, Receive, Hear]
    assert line.asked[2].is_next
    assert line.asked[2].deadline is LATE
    assert pipeline.deadline() is LATE

    line, pipeline = Line([[*ENVELOPE, 250] * 2]), Pipeline(in_flight=3)
    line._drive(pipeline.push(0, plan(SHORT, bdat=True), SOON), pipeline)
    line._drive(pipeline.push(1, plan(SHORT, bdat=True), LATE), pipeline)
    assert pipeline.deadline() is SOON
    line._drive(pipeline.finish(), pipeline)
    (place,) = [place for place, effect in enumerate(line.asked) if isinstance(effect, Until)]
    assert line.asked[place].deadline is LATE
    assert sum(isinstance(effect, Hear) for effect in line.asked[:place]) == 1


def test_an_envelope_that_is_out_of_step_behind_an_end_of_data_is_sent_again_alone() -> None:
    """FAULTS 46: whoever pushes is told of the trouble, and nothing overlaps from then on."""
    said = [GOES_AHEAD, [250, *[503] * 5], [250], GOES_AHEAD, [250], GOES_AHEAD, [250]]
    line, pipeline = Line(said), Pipeline(overlap=True)
    for number in range(3):
        line._drive(pipeline.push(number, plan(SHORT)), pipeline)
        assert tokens(line.reports) == [[], [0, 1], [0, 1, 2]][number]
    assert [report.trouble for report in line.reports] == [False, True, False]
    assert all(report.outcome.accepted_recipients == RCPTS for report in line.reports)
    assert line.writes[2] == b"RSET\r\n"
    assert line.writes[3] == line.writes[5] == line.writes[0]
    guarded = [effect.guard for effect in line.asked if isinstance(effect, Send)]
    assert guarded == [True] * 7, "between two messages nothing may be there"


def test_the_transcript_of_an_error_is_that_of_its_answer() -> None:
    """Not of what was said of the next message, by which the error before is told."""
    line, pipeline = Line([GOES_AHEAD, [554, *GOES_AHEAD], [250]]), Pipeline(overlap=True)
    for number in range(2):
        line._drive(pipeline.push(number, plan(SHORT)), pipeline)
    (told,) = line.reports
    first = next(place for place, effect in enumerate(line.asked) if isinstance(effect, Transcribe))
    assert line.asked[first].error is told.outcome
    assert isinstance(line.asked[first - 1], Receive)


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
    line = Line([[*ENVELOPE, 250]])
    pipeline = Pipeline(in_flight=2)
    for number, each in enumerate(messages(SHORT, LONG, SHORT)):
        line._drive(pipeline.push(number, each), pipeline)
        line._drive(pipeline.finish(), pipeline)
        if not number:
            line.inbox.append(Reply(late))
    reports = line.reports
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


# -- overlapped -------------------------------------------------------------------------------

THOSE = ("a@x.example", "b@x.example")
OTHERS = ("c@x.example", "d@x.example")


@pytest.mark.parametrize("is_late", [False, True])
def test_who_has_the_message_before_is_not_said_to_have_the_next(is_late: bool) -> None:
    """FAULTS 29, 46: the line is lost in the second transaction of a message that somebody has."""
    line = Served(
        ServerSession(Config(extensions=["PIPELINING", "LIMITS RCPTMAX=1"])), itertools.repeat(1000)
    )
    line._take(line.session.greeting())
    offered = line.run(open_session(Opening(protocol=Protocol.SMTP, name="client.example")))
    entries = [
        (paths, make_plan(mail, offered, protocol=Protocol.SMTP, is_tls=False))
        for paths in (THOSE, OTHERS)
        for mail in (MailObject("s@x.example", paths, SHORT),)
    ]

    def take(wait: bool) -> Any:
        if len(entries) == 1:
            # Behind DATA and its 354, before the end of data: the next message is there, or is late.
            line.dead = True
            if is_late and not wait:
                return LATER
        return entries.pop(0) if entries else END

    reports: list[Done] = []
    line.stream(Pipeline(overlap=True), take, reports)
    assert [report.token for report in reports] == [THOSE, OTHERS][: len(reports)]
    first, *others = (report.outcome for report in reports)
    assert fates(first) == {"a@x.example": "accepted", "b@x.example": "unsent"}
    assert len(others) == (0 if is_late else 1)
    for other in others:
        assert isinstance(other, SmtpError)
        assert fates(other) == dict.fromkeys(OTHERS, "unsent")
        assert other.accepted_replies == ()
        assert other.safe_to_retry


def test_overlapped_one_refusal_for_all_recipients_makes_nobody_accepted() -> None:
    """FAULTS 119: what answers the next envelope is read as final replies; that shows when too few come."""
    said = [GOES_AHEAD, [Reply(552, (b"5.3.4 too big",)), 250, 550, 550, 550, 503]]
    line, pipeline = Line(said, failure=Timeout("no reply came in time")), Pipeline(overlap=True)
    for number in range(2):
        line._drive(pipeline.push(number, plan(SHORT, protocol=Protocol.LMTP)), pipeline)
    line._drive(pipeline.finish(), pipeline)
    first, second = line.reports
    assert list(fates(first.outcome).values()) == ["rejected 552 final", "unknown", "unknown"]
    assert set(fates(second.outcome).values()) == {"unsent"}

"""Transactions in flight by BDAT: what breaks off in the middle of large content is no doubt."""

from __future__ import annotations

from typing import Any

import pytest
from support.drive import heard
from support.fates import RCPTS, fates
from support.transactions import plan

from pysmtpx.errors import ConnectionLost, DataRejected, DeliveryUnknown, SmtpError, Timeout
from pysmtpx.flow.effects import END, WITHHELD, Close, Hear, Receive, Report, Send, Take
from pysmtpx.flow.flight import flight
from pysmtpx.flow.stream import Entry
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply

LONG = b"x: y\r\n\r\n" + (b"z" * 500 + b"\r\n") * 500
SHORT = b"x: y\r\n\r\n"


def run(contents: list[bytes], answers: list[int | SmtpError], replies: list[Reply]) -> list[Report]:
    """What a flight reports; ``answers`` are those to its writes, and behind the replies the line is gone."""
    flow = flight(4)
    entries = [Entry(i, plan(content, bdat=True)) for i, content in enumerate(contents)]
    reports: list[Report] = []
    given, said = iter(answers), iter(replies)
    result: Any = None
    try:
        while True:
            effect = flow.throw(result) if isinstance(result, SmtpError) else flow.send(result)
            match effect:
                case Send():
                    result = next(given)
                case Receive() | Hear():
                    try:
                        result = heard(effect, said)
                    except StopIteration:
                        result = ConnectionLost("gone")
                case Take():
                    result = entries.pop(0) if entries else END
                case Report():
                    reports.append(effect)
                    result = None
                case Close():
                    result = None
    except StopIteration:
        assert next(given, None) is None, "it was not written so often"
        return reports


ENVELOPE = [Reply(250)] * 5
"""The answers to RSET, MAIL and each RCPT."""


@pytest.mark.parametrize(
    ("answers", "kind", "stage"),
    [
        ([0, 1, WITHHELD], ConnectionLost, Stage.CONTENT),
        ([0, Timeout("the server stopped reading")], Timeout, Stage.CONTENT),
        ([WITHHELD], ConnectionLost, Stage.INPUT),
    ],
)
def test_a_line_that_breaks_in_mid_content_leaves_it_unsent(answers, kind, stage: Stage) -> None:
    """FAULTS 29."""
    replies = ENVELOPE if answers[-1] is WITHHELD else []
    (report,) = run([LONG], answers, replies)
    assert type(report.outcome) is kind
    assert report.outcome.stage is stage
    assert fates(report.outcome) == dict.fromkeys(RCPTS, "unsent")
    assert report.outcome.safe_to_retry


def test_it_breaks_with_the_last_octets() -> None:
    (report,) = run([LONG], [0, 0, 0, 1], ENVELOPE)
    assert type(report.outcome) is DeliveryUnknown


@pytest.mark.parametrize(
    ("early", "kind", "fate"),
    [
        (Reply(552, (b"too big",)), DataRejected, "rejected 552 content"),  # FAULTS 27
        (Reply(250), DeliveryUnknown, "unknown"),  # FAULTS 28
    ],
)
def test_what_was_said_to_half_of_it_outranks_the_loss(early: Reply, kind, fate: str) -> None:
    reports = run([LONG, SHORT], [0, 1, WITHHELD], [*ENVELOPE, early])
    assert type(reports[0].outcome) is kind
    assert fates(reports[0].outcome) == dict.fromkeys(RCPTS, fate)
    assert [report.token for report in reports] == [0]


def test_nothing_goes_behind_a_line_that_is_gone() -> None:
    """What is taken when the line is found gone is unsent, and not in doubt."""
    reports = run([SHORT, LONG], [1, WITHHELD], [*ENVELOPE, Reply(250)])
    assert fates(reports[1].outcome) == dict.fromkeys(RCPTS, "unsent")
    assert type(reports[0].outcome).__name__ == "SendResult"

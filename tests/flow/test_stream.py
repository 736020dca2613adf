"""A stream that loses its line between two messages: what one came to is not said of the next."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from support.fates import fates
from support.judge import Line
from support.opening import open_session

from pysmtpx.flow.effects import END, LATER
from pysmtpx.flow.plan import make_plan
from pysmtpx.flow.session import Opening
from pysmtpx.flow.stream import Entry, stream
from pysmtpx.testing.config import Config
from pysmtpx.testing.protocol import ServerSession
from pysmtpx.wire.capabilities import Protocol
from pysmtpx.wire.envelope import MailObject

BODY = b"Subject: x\r\n\r\nhello\r\n"
FIRST = ("a@x.example", "b@x.example")
NEXT = ("c@x.example", "d@x.example")


@pytest.mark.parametrize("is_late", [False, True])
def test_who_has_the_message_before_is_not_said_to_have_the_next(is_late: bool) -> None:
    """FAULTS 29, 46: the line is lost in the second transaction of a message that somebody has."""
    line = Line(ServerSession(Config(extensions=["PIPELINING", "LIMITS RCPTMAX=1"])), itertools.repeat(1000))
    line._take(line.session.greeting())
    offered = line.run(open_session(Opening(protocol=Protocol.SMTP, name="client.example")))
    entries = [
        Entry(paths, make_plan(mail, offered, protocol=Protocol.SMTP, is_tls=False))
        for paths in (FIRST, NEXT)
        for mail in (MailObject("s@x.example", paths, BODY),)
    ]

    def take(wait: bool) -> Any:
        if len(entries) == 1:
            # Behind DATA and its 354, before the end of data: the next message is there, or is late.
            line.dead = True
            if is_late and not wait:
                return LATER
        return entries.pop(0) if entries else END

    reports: list[Any] = []
    line.stream(stream(overlap=True), take, reports)
    assert [report.token for report in reports] == [FIRST, NEXT][: len(reports)]
    first, *others = (report.outcome for report in reports)
    assert fates(first) == {"a@x.example": "accepted", "b@x.example": "unsent"}
    assert len(others) == (0 if is_late else 1)
    for other in others:
        assert fates(other) == dict.fromkeys(NEXT, "unsent")
        assert other.accepted_replies == ()
        assert other.safe_to_retry

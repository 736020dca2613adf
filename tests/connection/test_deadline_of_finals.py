"""The end of data is not begun where its answer cannot be expected in time (FAULTS 122)."""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import Any

import pytest
from support.fates import attempt, fates
from support.patience import LONG
from support.transports import SEQUENTIAL, dialled, serving

import pysmtpx
from pysmtpx import MailObject, SmtpPool
from pysmtpx.net.deadline import AnswerTime, Deadline
from pysmtpx.testing import EXTENSIONS, Event

BODY = b"Subject: x\r\n\r\nhello\r\n"
SENDER, PATH = "s@x.example", "a@x.example"


def slow_to_accept(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that takes a minute for each final reply, by the client's clock, and no time for the rest."""
    ahead = [0.0]
    monkeypatch.setattr("pysmtpx.driver.now", lambda: monotonic() + ahead[0])

    def verdict(event: Event) -> Any:
        if event.verb == "FINAL":
            ahead[0] += 60.0
        return None

    return verdict


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("bdat", [False, True], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("extensions", [EXTENSIONS, SEQUENTIAL], ids=["pipelined", "sequential"])
def test_a_message_ends_unsent_and_not_unknown(
    protocol: Any, bdat: bool, extensions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"protocol": protocol, "extensions": extensions, "verdict": slow_to_accept(monkeypatch)}
    with serving(**options) as server, dialled(server) as conn:
        send = getattr(conn, "send" + "_lmtp" * (protocol == "lmtp") + "_bdat" * bdat)
        send(SENDER, PATH, BODY)
        error = attempt(send, SENDER, PATH, BODY, timeout=LONG)
        assert isinstance(error, pysmtpx.Timeout)
        assert fates(error) == {PATH: "unsent"}
        assert error.stage == "content"
        assert error.safe_to_retry
        assert conn.closed
    assert server.ledger.count == 1


def test_a_pool_shares_what_its_connections_saw() -> None:
    """A deadline of 1 s, and a server that takes 0.25 s for each reply: hardly anybody is in doubt."""
    with serving(delay=0.25) as server, SmtpPool(server.url, max_connections=4) as pool:
        told = Counter[str]()
        accepted = 0
        for outcome in pool.send_many((MailObject(SENDER, PATH, BODY) for _ in range(60)), timeout=1.0):
            told[outcome.status] += 1
            accepted += len(outcome.accepted_recipients)
        assert told["unknown"] <= 8, told  # those before anything was known
        assert told.total() == 60
    assert accepted <= server.ledger.count <= accepted + told["unknown"]


def test_what_was_seen_fades(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("pysmtpx.net.deadline.now", lambda: clock[0])
    times = AnswerTime()

    def is_too_long_for(seconds: float | None) -> bool:
        return times.is_too_long_for(Deadline.after(seconds), clock[0])

    assert not is_too_long_for(1.0)
    times.note(clock[0] - 4.0, clock[0])
    times.note(clock[0] - 0.1, clock[0])  # the longest counts
    assert is_too_long_for(1.0)
    clock[0] += 15
    assert is_too_long_for(1.0)
    clock[0] += 10
    assert not is_too_long_for(1.0)
    times.note_missing(clock[0] - 1.0, clock[0])
    assert is_too_long_for(1.9)
    assert not is_too_long_for(None)

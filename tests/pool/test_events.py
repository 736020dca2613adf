"""What a pool tells: everything to the hook, and to the log nothing that is nobody's business."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from pysmtpx import AllRecipientsFailed, MailObject, SmtpError
from pysmtpx.events import Event, Events, Kind
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import EnhancedCode, Reply

CONTENT, ADDRESS = b"Subject: private\r\n\r\nprivate\r\n", "somebody@x.example"


def refusal() -> SmtpError:
    reply = Reply(550, (f"5.1.1 {ADDRESS} is not here".encode(),), EnhancedCode(5, 1, 1))
    return AllRecipientsFailed(1, [reply], stage=Stage.RCPT)


def event(kind: Kind) -> Event:
    error = refusal()
    mail = MailObject("", [ADDRESS], CONTENT)
    return Event(kind, "mx.example:25", 0.25, mail, error, attempt=2, delay=1.5, why=str(error))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_hook_is_told_everything(kind: Kind) -> None:
    told: list[Event] = []
    given = event(kind)
    Events(told.append).emit(given)
    assert told == [given]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_above_debug_the_log_names_no_address_and_never_the_content(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "pysmtpx"):
        Events().emit(event(kind))
    assert caplog.records
    for record in caplog.records:
        assert record.name == "pysmtpx"
        assert "private" not in record.getMessage()
        assert record.levelno == logging.DEBUG or ADDRESS not in record.getMessage()


@pytest.mark.parametrize(("kind", "level"), [("refused", logging.WARNING), ("retried", logging.INFO)])
def test_what_somebody_should_know_is_told_with_its_codes(
    kind: Kind, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pysmtpx"):
        Events().emit(event(kind))
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage() == (
        f"mx.example:25 {kind} after 0.250 s, try 2, AllRecipientsFailed at rcpt 550 5.1.1, again in 1.5 s"
    )


def test_a_hook_that_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS 92."""
    told: list[Event] = []

    def hook(given: Event) -> None:
        told.append(given)
        raise KeyError("bug")

    events = Events(hook)
    events.emit(Event("sent", "mx.example:25", 0.1))
    events.emit(Event("closed", "mx.example:25", 0.1))
    assert [given.kind for given in told] == ["sent", "closed"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_a_log_that_is_mailed_by_the_same_pool_does_not_go_on_for_ever() -> None:
    """Neither for a hook that always raises, nor for a server that refuses what is mailed."""
    told: list[Event] = []

    def hook(given: Event) -> None:
        told.append(given)
        raise KeyError("bug")

    events = Events(hook)

    class Mails(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            events.emit(event("refused"))

    handler = Mails()
    logging.getLogger("pysmtpx").addHandler(handler)
    try:
        events.emit(event("refused"))
    finally:
        logging.getLogger("pysmtpx").removeHandler(handler)
    assert len(told) == 1
    events.emit(event("sent"))
    assert len(told) == 2


def test_an_interrupt_goes_through_the_hook() -> None:
    def hook(given: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Events(hook).emit(Event("sent", "mx.example:25", 0.1))


def test_an_event_shows_no_content() -> None:
    assert "private" not in repr(Event("sent", "mx.example:25", 0.1, CONTENT))

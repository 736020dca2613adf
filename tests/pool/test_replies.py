"""What a reply says of the server or the connection, and what is learnt from it."""

from __future__ import annotations

from typing import Any

import pytest

from pysmtpx import (
    AllRecipientsFailed,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    ProtocolError,
    RejectedRecipient,
    SenderRejected,
    SendResult,
    Server,
    ServiceUnavailable,
    SmtpError,
    Timeout,
)
from pysmtpx.pooling.backoff import Backoff
from pysmtpx.pooling.connection import PooledServer
from pysmtpx.pooling.replies import is_slowdown
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import EnhancedCode, Reply

SENT = SendResult(("a@x.example",), (), Reply(250))


def server() -> PooledServer:
    return PooledServer(Server("a.example"), Backoff(4))


# -- which replies


def reply(code: int, *enhanced: int) -> Reply:
    return Reply(code, (b"",), EnhancedCode(*enhanced) if enhanced else None)


ALL = ("mail", "rcpt", "data", "final")


@pytest.mark.parametrize(
    ("given", "slows"),
    [
        (reply(421), ALL),
        (reply(432), ALL),
        (reply(451), ("mail", "data", "final")),
        (reply(452), ("mail", "data", "final")),
        (reply(454), ("mail", "data", "final")),
        (reply(450), ()),
        (reply(450, 4, 7, 1), ("mail",)),
        (reply(451, 4, 7, 1), ("mail",)),
        (reply(454, 4, 7, 0), ("mail",)),
        (reply(451, 4, 3, 0), ALL),
        (reply(452, 4, 3, 1), ALL),
        (reply(452, 4, 5, 3), ("mail",)),
        (reply(451, 4, 5, 3), ("mail",)),
        (reply(450, 4, 2, 0), ()),
        (reply(452, 4, 2, 2), ()),
        (reply(451, 4, 1, 8), ()),
        (reply(550), ()),
        (reply(550, 5, 7, 1), ()),
        (reply(552), ()),
    ],
    ids=str,
)
def test_which_replies_ask_for_less(given: Reply, slows: tuple[str, ...]) -> None:
    """At RCPT and behind the content policy is about the recipient or the message: greylisting is."""
    both = AllRecipientsFailed(2, [given, given])
    both.rejected_recipients = tuple(RejectedRecipient(path, given, Stage.RCPT) for path in ("a@x", "b@x"))
    errors: dict[str, list[SmtpError]] = {
        "mail": [SenderRejected(reply=given, stage=Stage.MAIL)],
        "rcpt": [AllRecipientsFailed(1, [given]), both],
        "data": [DataRejected(reply=given, stage=Stage.DATA)],
        "final": [
            DataRejected(reply=given, stage=Stage.FINAL),
            AllRecipientsFailed(1, [given], stage=Stage.FINAL),
        ],
    }
    assert tuple(s for s in ALL if {*map(is_slowdown, errors[s])} == {True}) == slows
    assert tuple(s for s in ALL if any(map(is_slowdown, errors[s]))) == slows


def test_what_the_server_took_or_did_not_answer_asks_for_nothing() -> None:
    assert not is_slowdown(SENT)
    assert not any(map(is_slowdown, (ConnectionLost(), Timeout(), ProtocolError(), DeliveryUnknown())))
    assert is_slowdown(ServiceUnavailable(reply=Reply(421)))


# -- what is learnt


def hang() -> SmtpError:
    error = DeliveryUnknown("no reply")
    error.__cause__ = Timeout("late")
    return error


@pytest.mark.parametrize(
    ("error", "works"),
    [
        (hang(), False),
        (Timeout(stage=Stage.FINAL), False),
        (ConnectionLost(stage=Stage.MAIL), False),
        (ProtocolError(stage=Stage.RCPT), False),
        (ConnectionLost(stage=Stage.INPUT), True),  # nothing of it was written
        (SENT, True),
    ],
)
def test_the_first_break_under_bdat_rules_bdat_out(error: SmtpError | SendResult, works: bool) -> None:
    """FAULTS 53, 112."""
    state = server()
    state.learn(error, by_bdat=False, trouble=False)
    assert state.chunking_works
    state.learn(error, by_bdat=True, trouble=False)
    assert state.chunking_works is works


@pytest.mark.parametrize("outcome", [SENT, ConnectionLost(stage=Stage.MAIL)])
def test_the_first_trouble_behind_an_end_of_data_rules_the_overlap_out(outcome: Any) -> None:
    """FAULTS 46: also where the message went after all, alone."""
    state = server()
    state.learn(outcome, by_bdat=False, trouble=False)
    assert state.overlap_works
    state.learn(outcome, by_bdat=False, trouble=True)
    assert not state.overlap_works

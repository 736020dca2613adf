"""The journal of messages: who is owed, who is in doubt, and that no two processes have the same message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pysmtpx.errors import ConnectionLost, DeliveryUnknown, SmtpError
from pysmtpx.journal import messages
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import JournalError
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import RejectedRecipient, SendResult

TAKEN = Reply(250, (b"2.0.0 queued as 1234",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def payload(*recipients: str) -> dict[str, Any]:
    return {"sender": "s@x.example", "recipients": list(recipients), "content": "Subject: x\r\n\r\n"}


def states(journal: Journal, number: int) -> dict[str, str]:
    return {fate.address: fate.state for fate in journal.fates(number)}


def accepted(*paths: str, rejected: tuple[RejectedRecipient, ...] = ()) -> SendResult:
    return SendResult(paths, rejected, TAKEN, (TAKEN,) * len(paths))


def test_a_message_is_taken_once_and_never_again_when_it_was_accepted(path: Path) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example", "b@x.example"))
        (owed,) = journal.take(10)
        assert owed.id == number
        assert owed.recipients == ("a@x.example", "b@x.example")
        assert owed.payload == payload("a@x.example", "b@x.example")
        assert journal.take(10) == []
        journal.doubt([(owed.id, owed.recipients)])
        journal.settle(owed.id, accepted(*owed.recipients))
        assert states(journal, owed.id) == {"a@x.example": "accepted", "b@x.example": "accepted"}
        assert "1234" in journal.fates(owed.id)[0].reply
        assert journal.take(10) == []


def test_the_same_key_is_queued_once(path: Path) -> None:
    with Journal(path) as journal:
        assert journal.add(payload("a@x.example"), key="order 17") is not None
        assert journal.add(payload("a@x.example"), key="order 17") is None
        assert len(journal.take(10)) == 1


def test_who_was_in_doubt_is_named_and_not_sent_to_until_somebody_says_so(path: Path) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example", "b@x.example"), take=True)
        journal.doubt([(number, ["a@x.example"])])
    with Journal(path) as journal:
        assert journal.doubtful() == [(number, "a@x.example")]
        (owed,) = journal.take(10)
        assert owed.recipients == ("b@x.example",)
        journal.settle(number, accepted("b@x.example"))
        assert journal.retry(number) == 0
        assert journal.take(10) == []
        assert journal.retry(number, doubtful=True) == 1
        (owed,) = journal.take(10)
        assert owed.recipients == ("a@x.example",)


OUTCOMES = {
    "refused": RejectedRecipient("a@x.example", Reply(550, (b"no",)), Stage.RCPT),
    "queued": RejectedRecipient("a@x.example", Reply(450, (b"later",)), Stage.RCPT),
}


@pytest.mark.parametrize("state", OUTCOMES)
def test_who_was_refused_for_now_is_queued_again_where_a_retry_is_to_come(path: Path, state: str) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example", "b@x.example"), take=True)
        outcome = accepted("b@x.example", rejected=(OUTCOMES[state],))
        journal.settle(number, outcome, retry_at=0.0)
        assert states(journal, number) == {"a@x.example": state, "b@x.example": "accepted"}
        assert [owed.recipients for owed in journal.take(10)] == [("a@x.example",)] * (state == "queued")


def test_what_is_not_due_waits(path: Path) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example"), due=4e9)
        assert journal.take(10) == []
        journal.retry(number)
        assert len(journal.take(10)) == 1


def error_for(kind: type[SmtpError], which: str) -> SmtpError:
    error = kind("the line broke", stage=Stage.FINAL)
    setattr(error, which, ("a@x.example",))
    return error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (error_for(DeliveryUnknown, "unknown_recipients"), "doubt"),
        (error_for(ConnectionLost, "unsent_recipients"), "queued"),
        (error_for(ConnectionLost, "accepted_recipients"), "accepted"),
    ],
)
def test_an_error_says_of_each_what_it_is(path: Path, error: SmtpError, state: str) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example"), take=True)
        journal.doubt([(number, ["a@x.example"])])
        journal.settle(number, error, retry_at=0.0)
        assert states(journal, number) == {"a@x.example": state}


# -- several processes -------------------------------------------------------------------


def test_who_has_lost_the_lease_brings_nobody_into_doubt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(path) as slow, Journal(path) as quick:
        monkeypatch.setattr(messages, "LEASE", -1.0)
        number = slow.add(payload("a@x.example"), take=True)
        assert number is not None
        monkeypatch.undo()
        (owed,) = quick.take(10)
        assert owed.id == number
        with pytest.raises(JournalError, match="another process"):
            slow.doubt([(number, owed.recipients)])
        quick.doubt([(number, owed.recipients)])
        # That it was unsent is true of the slow one's try alone.
        slow.settle(number, error_for(ConnectionLost, "unsent_recipients"), retry_at=0.0)
        assert states(quick, number) == {"a@x.example": "doubt"}
        assert slow.take(10) == []
        quick.settle(number, accepted("a@x.example"))
        assert states(slow, number) == {"a@x.example": "accepted"}


def test_who_lost_the_lease_behind_the_doubt_says_what_came_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(path) as slow, Journal(path) as quick:
        number = slow.add(payload("a@x.example", "b@x.example"), take=True)
        assert number is not None
        slow.doubt([(number, ["a@x.example"])])
        slow.release()  # as when its time was over
        (owed,) = quick.take(10)
        assert owed.recipients == ("b@x.example",)
        quick.doubt([(number, owed.recipients)])
        slow.settle(number, accepted("a@x.example"))
        assert states(quick, number) == {"a@x.example": "accepted", "b@x.example": "doubt"}


def test_one_that_is_not_ours_keeps_all_of_a_flight_back(path: Path) -> None:
    with Journal(path) as one, Journal(path) as other:
        mine, theirs = (
            one.add(payload("a@x.example"), take=True),
            other.add(payload("b@x.example"), take=True),
        )
        assert mine is not None
        assert theirs is not None
        with pytest.raises(JournalError):
            one.doubt([(mine, ["a@x.example"]), (theirs, ["b@x.example"])])
        assert one.counts() == {"queued": 2}


KILLED = """
import os, signal, sys
from pysmtpx.journal.messages import Journal
journal = Journal(sys.argv[1])
for n in range(1000):
    number = journal.add({"recipients": [f"r{n}@x.example"]}, take=True)
    if n % 2:
        journal.doubt([(number, [f"r{n}@x.example"])])
    print(n, flush=True)
    if n == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("last", [0, 1, 6, 7])
def test_what_was_told_before_a_kill_is_there(path: Path, last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path, str(last)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(n) for n in range(last + 1)]
    with Journal(path) as journal:
        expected = {"queued": last // 2 + 1, "doubt": (last + 1) // 2}
        assert journal.counts() == {state: count for state, count in expected.items() if count}
        assert journal.take(10) == [], "its lease holds"
        monkeypatch.setattr(messages.time, "time", lambda: 4e9)
        assert len(journal.take(1000)) == last // 2 + 1


# -- by hand -------------------------------------------------------------------------------


def test_cancelled_is_sent_to_nobody(path: Path) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example", "b@x.example"))
        assert number is not None
        assert journal.cancel(number) == 2
        assert journal.take(10) == []
        assert {fate.reply for fate in journal.fates(number)} == {"cancelled"}


def test_only_what_is_certain_is_forgotten(path: Path) -> None:
    with Journal(path) as journal:
        done, queued, doubtful = (journal.add(payload("a@x.example"), take=True) for _ in range(3))
        assert done is not None
        assert queued is not None
        assert doubtful is not None
        journal.doubt([(done, ["a@x.example"]), (doubtful, ["a@x.example"])])
        journal.settle(done, accepted("a@x.example"))
        assert journal.purge(4e9) == 1
        assert journal.fates(done) == []
        assert journal.counts() == {"queued": 1, "doubt": 1}


def test_what_is_no_journal_is_refused(path: Path) -> None:
    path.write_bytes(b"hello " * 1000)
    with pytest.raises(JournalError, match="not a database"):
        Journal(path)

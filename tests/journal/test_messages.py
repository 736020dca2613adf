"""The journal of messages: who is owed, who is in doubt, and that no two processes have the same message."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.daemon import wait_until

from pysmtpx.errors import ConnectionLost, DeliveryUnknown, InputError, SmtpError
from pysmtpx.journal import disk, owner, sql
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.owner import Owner, ended
from pysmtpx.journal.store import LEASE, Fate, JournalError, NotHeld, fates_of
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


def settle(journal: Journal, number: int, outcome: SendResult | SmtpError, *, again: bool = False) -> None:
    """As a pool does; ``again``: whoever may have it later is owed it."""
    owed = [each.recipient for each in outcome.rejected_recipients if each.temporary] if again else []
    if again and isinstance(outcome, SmtpError):
        owed += outcome.unsent_recipients
    journal.settle(number, fates_of(outcome, owed), tries=1)


def accepted(*paths: str, rejected: tuple[RejectedRecipient, ...] = ()) -> SendResult:
    return SendResult(paths, rejected, TAKEN, (TAKEN,) * len(paths))


def test_a_message_is_taken_once_and_never_again_when_it_was_accepted(path: Path) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example", "b@x.example"))
        (owed,) = journal.take(10)
        assert owed.number == number
        assert owed.recipients == ("a@x.example", "b@x.example")
        assert owed.payload == payload("a@x.example", "b@x.example")
        assert journal.take(10) == []
        journal.doubt([(owed.number, owed.recipients)])
        settle(journal, owed.number, accepted(*owed.recipients))
        assert states(journal, owed.number) == {"a@x.example": "accepted", "b@x.example": "accepted"}
        assert "1234" in journal.fates(owed.number)[0].reply
        assert journal.take(10) == []


def test_an_address_that_is_in_doubt_at_one_place_is_not_queued_for_another(path: Path) -> None:
    """FAULTS 56, 123."""
    later = RejectedRecipient("a@x.example", Reply(451, (b"4.3.0 later",)), Stage.RCPT)
    for rejected, unsent in (((later,), ()), ((), ("a@x.example",))):
        with Journal(path) as journal:
            number = journal.add(payload("a@x.example", "b@x.example", "a@x.example"))
            journal.take(1)
            journal.doubt([(number, ("a@x.example", "b@x.example"))])
            lost = DeliveryUnknown("no valid reply came", stage=Stage.FINAL)
            lost.accepted_recipients, lost.accepted_replies = ("b@x.example",), (TAKEN,)
            lost.unknown_recipients = ("a@x.example",)
            lost.rejected_recipients, lost.unsent_recipients = rejected, unsent
            settle(journal, number, lost, again=True)
            assert states(journal, number) == {"a@x.example": "doubt", "b@x.example": "accepted"}
            assert journal.take(1) == []


def test_who_is_in_doubt_is_queued_if_that_is_asked_for(path: Path) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example"))
        journal.take(1)
        journal.doubt([(number, ("a@x.example",))])
        lost = DeliveryUnknown("no valid reply came", stage=Stage.FINAL)
        lost.unknown_recipients = ("a@x.example",)
        journal.settle(number, fates_of(lost, ["a@x.example"]), tries=1)
        assert states(journal, number) == {"a@x.example": "queued"}


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
        settle(journal, number, accepted("b@x.example"))
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
        settle(journal, number, outcome, again=True)
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
        settle(journal, number, error, again=True)
        assert states(journal, number) == {"a@x.example": state}


# -- several processes -------------------------------------------------------------------


def test_who_has_lost_the_lease_brings_nobody_into_doubt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(path) as slow, Journal(path) as quick:
        monkeypatch.setattr(sql, "LEASE", -1.0)
        number = slow.add(payload("a@x.example"), take=True)
        assert number is not None
        monkeypatch.undo()
        (owed,) = quick.take(10)
        assert owed.number == number
        with pytest.raises(NotHeld, match="another process"):
            slow.doubt([(number, owed.recipients)])
        quick.doubt([(number, owed.recipients)])
        # That it was unsent is true of the slow one's try alone.
        settle(slow, number, error_for(ConnectionLost, "unsent_recipients"), again=True)
        assert states(quick, number) == {"a@x.example": "doubt"}
        assert slow.take(10) == []
        settle(quick, number, accepted("a@x.example"))
        assert states(slow, number) == {"a@x.example": "accepted"}


def test_who_lost_the_lease_behind_the_doubt_says_what_came_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(path) as slow, Journal(path) as quick:
        number = slow.add(payload("a@x.example", "b@x.example"), take=True)
        assert number is not None
        slow.doubt([(number, ["a@x.example"])])
        slow.release([number])  # as when its time was over
        (owed,) = quick.take(10)
        assert owed.recipients == ("b@x.example",)
        quick.doubt([(number, owed.recipients)])
        settle(slow, number, accepted("a@x.example"))
        assert states(quick, number) == {"a@x.example": "accepted", "b@x.example": "doubt"}


def test_one_that_is_not_ours_keeps_all_of_a_flight_back(path: Path) -> None:
    with Journal(path) as one, Journal(path) as other:
        mine, theirs = (
            one.add(payload("a@x.example"), take=True),
            other.add(payload("b@x.example"), take=True),
        )
        assert mine is not None
        assert theirs is not None
        with pytest.raises(NotHeld) as caught:
            one.doubt([(mine, ["a@x.example"]), (theirs, ["b@x.example"])])
        assert caught.value.numbers == (theirs,)
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
def test_what_was_told_before_a_kill_is_there(path: Path, last: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path, str(last)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(n) for n in range(last + 1)]
    with Journal(path) as journal:
        expected = {"queued": last // 2 + 1, "doubt": (last + 1) // 2}
        assert journal.counts() == {state: count for state, count in expected.items() if count}
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
        settle(journal, done, accepted("a@x.example"))
        assert journal.purge(4e9) == 1
        assert journal.fates(done) == []
        assert journal.counts() == {"queued": 1, "doubt": 1}


def test_by_its_worst_fate_a_message_is_forgotten(path: Path) -> None:
    with Journal(path) as journal:
        for kinds in ("accepted", "accepted refused", "refused", "refused doubt", "doubt", "accepted queued"):
            to = [f"{kind}@x.example" for kind in kinds.split()]
            number = journal.add(payload(*to), take=True)
            assert number is not None
            journal.doubt([(number, [each for each in to if not each.startswith("queued")])])
            states: list[Any] = [kind for kind in kinds.split() if kind != "queued"]
            journal.settle(number, [Fate(f"{state}@x.example", state) for state in states], tries=1)
        assert journal.purge(0.0) == 0, "none is so old"
        assert journal.purge(4e9, fates=()) == 0
        assert journal.purge(4e9, fates=("accepted",)) == 1
        assert journal.purge(4e9, most=1, fates=("refused",)) == 1
        assert journal.purge(4e9) == 1
        assert journal.purge(4e9, fates=("doubt",)) == 2
        assert journal.counts() == {"accepted": 1, "queued": 1}
        with pytest.raises(InputError, match="forgotten"):
            journal.purge(4e9, fates=("queued",))


def test_what_is_under_way_is_not_forgotten(path: Path) -> None:
    with Journal(path) as journal, Journal(path) as somebody:
        number = journal.add(payload("a@x.example"), take=True)
        assert number is not None
        journal.doubt([(number, ["a@x.example"])])
        assert somebody.purge(4e9, fates=("doubt",)) == 0
        settle(journal, number, accepted("a@x.example"))
        assert somebody.purge(4e9) == 1


def test_each_fate_is_kept_for_its_own_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(path) as journal:
        for state in ("accepted", "refused"):
            number = journal.add(payload(f"{state}@x.example"), take=True)
            assert number is not None
            journal.settle(number, [Fate(f"{state}@x.example", state)], tries=1)  # type: ignore[arg-type]
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with Journal(path, keep={"accepted": 1000.0, "refused": None}) as journal:
        journal.take(1)
        assert journal.counts() == {"refused": 1}
    with Journal(path, keep={"refused": 1000.0}) as journal:
        journal.take(1)
        assert journal.counts() == {}
    with pytest.raises(InputError):
        Journal(path, keep={"queued": 1.0})


def test_a_file_that_no_message_has_is_removed_when_it_is_old(path: Path) -> None:
    folder = path.with_name("outbox.db.content")
    with Journal(path) as journal:
        journal.add(payload("a@x.example") | {"content": "x" * 300_000})
        (folder / "young").write_bytes(b"x")
        for each in (folder / "old", *folder.iterdir()):
            if each.name != "young":
                each.touch()
                os.utime(each, (1e9, 1e9))
        journal.purge(4e9)
        assert sorted(each.name for each in folder.iterdir() if len(each.name) < 10) == ["young"]
        assert [owed.payload is None for owed in journal.take(1)] == [False]


def test_one_that_was_cancelled_under_way_is_not_sent(path: Path) -> None:
    with Journal(path) as pool, Journal(path) as somebody:
        number = pool.add(payload("a@x.example"), take=True)
        assert number is not None
        assert somebody.cancel(number) == 1
        with pytest.raises(NotHeld, match="cancelled"):
            pool.doubt([(number, ["a@x.example"])])


def test_a_lease_that_ran_out_is_good_until_somebody_takes_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example"), take=True)
        assert number is not None
        monkeypatch.setattr(time, "time", lambda: 4e9)
        assert journal.take(10) == [], "it is under way here"
        journal.doubt([(number, ["a@x.example"])])
        assert states(journal, number) == {"a@x.example": "doubt"}


HOLDING = """
import sys, time
from pysmtpx.journal.opening import open_journal
journal = open_journal(sys.argv[1])
journal.add({"sender": "s@x.example", "recipients": ["a@x.example"], "content": "x"}, take=True)
print("holds", flush=True)
time.sleep(60)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a message, until it is killed."""
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holds\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("reaped", [True, False])
def test_what_a_killed_process_held_is_taken_at_once(path: Path, reaped: bool) -> None:
    with Journal(path) as journal, holder(path) as process:
        assert journal.take(10) == []
        process.kill()
        if reaped:
            process.wait()
        else:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with Journal(path) as another:  # who has not looked just now
            assert len(another.take(10)) == 1


def test_what_a_stopped_process_holds_is_its_own(path: Path) -> None:
    with holder(path) as process, Journal(path) as journal:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert journal.take(10) == []


def test_what_others_are_said_to_hold_that_may_run_elsewhere_is_theirs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(path) as journal:
        with holder(path) as process:
            monkeypatch.setattr(owner, "_place", lambda: "another one")
        process.wait()
        assert journal.take(10) == []
        monkeypatch.setattr(owner, "_place", str)
        assert ended([f"{process.pid}.1f..0"]) == []


def test_a_number_that_another_process_has_by_now(path: Path) -> None:
    name = Owner().name
    pid, start, rest = name.split(".", 2)
    assert ended([name, f"{pid}.{int(start, 16) + 1:x}.{rest}"]) == [f"{pid}.{int(start, 16) + 1:x}.{rest}"]
    assert len(f"4194304.fffffffff.{rest}") <= 64


@pytest.mark.parametrize("pid", ["", "x", "-1", "0", "²", "1" * 30, "1"])
def test_a_holder_of_whom_too_little_is_known(pid: str) -> None:
    """Process 1 is there and may be another user's."""
    start, rest = Owner().name.split(".", 2)[1:]
    if pid in ("1", "0"):
        start = owner._state_and_start(int(pid))[1] or start
    assert ended([f"{pid}.{start}.{rest}", pid, f"{pid}..{rest}"]) == []


def test_a_clock_that_was_set_back_holds_nothing_for_longer_than_a_lease(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 126."""
    clock = 2e9
    monkeypatch.setattr(time, "time", lambda: clock)
    with Journal(path) as killed, Journal(path) as journal:
        killed.add(payload("a@x.example"), take=True)
        clock = 1e9
        assert journal.take(10) == []
        clock += LEASE + 1
        assert len(journal.take(10)) == 1


def test_the_doubt_of_one_that_is_being_sent_is_not_for_others_to_end(path: Path) -> None:
    with Journal(path) as pool, Journal(path) as somebody:
        number = pool.add(payload("a@x.example"), take=True)
        assert number is not None
        pool.doubt([(number, ["a@x.example"])])
        assert somebody.retry(number, doubtful=True) == 0
        settle(pool, number, accepted("a@x.example"))
        assert states(pool, number) == {"a@x.example": "accepted"}


def test_large_content_is_in_a_file_beside_it_and_goes_with_its_message(path: Path) -> None:
    large = payload("a@x.example") | {"content": "x" * 300_000}
    folder = path.with_name("outbox.db.content")
    with Journal(path) as journal:
        number = journal.add(large)
        assert number is not None
        assert journal.add(large, key="one") is not None
        assert journal.add(large, key="one") is None
        assert len(list(folder.iterdir())) == 2
        one, _ = journal.take(10)
        assert one.payload == large
        settle(journal, number, accepted("a@x.example"))
        assert journal.purge(4e9) == 1
        assert len(list(folder.iterdir())) == 1
    assert [each.stat().st_mode & 0o077 for each in (path, folder, *folder.iterdir())] == [0, 0, 0]


@pytest.mark.parametrize("size", [10_000, 300_000])
def test_content_that_a_disk_has_changed_is_not_given_out(path: Path, size: int) -> None:
    with Journal(path) as journal:
        journal.add(payload("a@x.example") | {"content": "x" * size})
    damaged = path if size < 100_000 else next(path.with_name("outbox.db.content").iterdir())
    octets = damaged.read_bytes()
    assert octets.count(b"x" * 100) > 0
    damaged.write_bytes(octets.replace(b"x" * 100, b"x" * 99 + b"y", 1))
    with Journal(path) as journal:
        assert [owed.payload for owed in journal.take(10)] == [None]


def test_a_child_has_a_connection_of_its_own_and_not_what_its_parent_holds(path: Path) -> None:
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example"), take=True)
        assert number is not None
        child = os.fork()
        if not child:
            code = 1
            try:
                journal.add(payload("b@x.example"))
                journal.doubt([(number, ["a@x.example"])])
            except NotHeld:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        journal.doubt([(number, ["a@x.example"])])
        assert journal.counts() == {"queued": 1, "doubt": 1}


def test_what_was_settled_is_forgotten_by_age(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(path, keep=1000.0) as journal:
        number = journal.add(payload("a@x.example"), take=True)
        assert number is not None
        journal.doubt([(number, ["a@x.example"])])
        settle(journal, number, accepted("a@x.example"))
        journal.take(1)
        assert journal.summary(number) is not None
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with Journal(path, keep=1000.0) as journal:
        journal.take(1)
        assert journal.summary(number) is None


# -- what a disk does ------------------------------------------------------------------------


def test_a_file_of_another_program_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as store:
        store.execute("CREATE TABLE orders (id)")
    store.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="another program"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_journal_of_another_format_is_refused(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as store:
        store.execute("UPDATE journal SET value = '99' WHERE name = 'format'")
    store.close()
    with pytest.raises(JournalError, match="format 99"):
        Journal(path)


def test_another_process_that_has_the_lock_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_WAIT", 0.05)
    with Journal(path) as journal:
        number = journal.add(payload("a@x.example"), take=True)
        assert number is not None
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for action in (
            lambda: journal.add(payload("b@x.example")),
            lambda: journal.doubt([(number, ["a@x.example"])]),
            lambda: journal.settle(number, [], tries=1),
        ):
            with pytest.raises(JournalError, match="another process has it"):
                action()
        other.execute("ROLLBACK")
        other.close()
        assert journal.counts() == {"queued": 1}


FULL = """
import resource, sys
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import JournalError
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Journal(sys.argv[1]) as journal:
    number = journal.add({"recipients": ["a@x.example"]}, take=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    added = 0
    try:
        for n in range(10_000):
            journal.add({"recipients": ["b@x.example"], "content": "x" * int(sys.argv[2])})
            added += 1
    except JournalError as error:
        print(added, str(error))
"""


@pytest.mark.parametrize("size", [2000, 300_000])
def test_a_disk_that_is_full_is_told_and_what_was_told_is_there(path: Path, size: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, path, str(size)], capture_output=True, text=True, check=False
    )
    added, _, error = done.stdout.partition(" ")
    assert "cannot be written" in error, done.stderr
    with Journal(path) as journal:
        assert journal.counts() == {"queued": 1 + int(added)}
        assert len(journal.take(10_000)) == 1 + int(added)
        assert not [*path.parent.glob("*.content/*")]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path / "no such folder" / "outbox.db")
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path)


def test_what_is_no_journal_is_refused(path: Path) -> None:
    path.write_bytes(b"hello " * 1000)
    with pytest.raises(JournalError, match="not a database"):
        Journal(path)


class _Interrupted:
    """A connection whose transaction ends, and then there is an interrupt, once."""

    def __init__(self, store: Any) -> None:
        self._store, self._is_over = store, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def execute(self, statement: str, *values: Any) -> Any:
        done = self._store.execute(statement, *values)
        if statement == "COMMIT" and not self._is_over:
            self._is_over = True
            raise KeyboardInterrupt
        return done


def test_an_interrupt_behind_the_end_of_a_transaction_writes_nothing_twice(path: Path) -> None:
    """FAULTS 123: two threads shared it, and a message that is there twice would be sent twice."""
    with Journal(path) as journal:
        store: Any = journal._disk
        ended: list[str] = []

        def add(to: str) -> None:
            try:
                journal.add(payload(to))
                ended.append("added")
            except KeyboardInterrupt:
                ended.append("interrupted")

        threads = [threading.Thread(target=add, args=(f"{name}@x.example",)) for name in "ab"]
        with store._lock:
            for thread in threads:
                thread.start()
            wait_until(lambda: len(store._waiting) == 2, 20, "both wait")
            store._store = _Interrupted(store._store)
        for thread in threads:
            thread.join()
        assert sorted(ended) == ["added", "interrupted"]
        assert [list(each.states.values()) for each in journal.summaries()] == [[1], [1]]

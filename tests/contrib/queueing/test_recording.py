"""With a journal a message that a queue hands out twice is sent once, whatever became of the first worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pysmtpx import InputError, MailObject, RetryPolicy
from pysmtpx.contrib.pools import close_pools
from pysmtpx.contrib.queueing.attempt import Attempt, QueueSender
from pysmtpx.contrib.queueing.recording import _NOT_OF_A_POOL
from pysmtpx.contrib.queueing.submitting import submitted
from pysmtpx.contrib.queueing.tries import SendFailed
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import Fate
from pysmtpx.payload import MAX_SIZE
from pysmtpx.pooling.job import Envelope
from pysmtpx.testing import Cut, Event, MailServer

LINE = b"Subject: x\r\n\r\nhello\r\n"
POLICY = RetryPolicy(attempts=3, backoff=30.0, jitter=0.0, temporary=True)
A, B, C = "a@x.example", "b@x.example", "c@x.example"
Make = Callable[..., QueueSender]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """What makes a sender, each with a journal of its own on the same file, as another process has."""
    senders: list[QueueSender] = []

    def make(server: MailServer, **others: Any) -> QueueSender:
        pool = {"journal": tmp_path / "fates.db", **others.pop("pool_options", {})}
        given: dict[str, Any] = {
            "timeout": 20.0,
            "on_outcome": None,
            "max_size": MAX_SIZE,
            "pool_options": pool,
        }
        senders.append(QueueSender(server.url, others.pop("policy", POLICY), **{**given, **others}))
        return senders[-1]

    yield make
    close_pools(0)
    for each in senders:
        each.close()


def payload(*recipients: str) -> Any:
    made = submitted(
        "send",
        MailObject("s@x.example", recipients, LINE),
        Envelope(),
        all_or_nothing=False,
        allow_long_lines=False,
        max_size=MAX_SIZE,
        keys=None,
    )
    return json.loads(json.dumps(made.keywords["payload"]))


def attempt(queue: QueueSender, given: object, account: object = None, **others: Any) -> Attempt:
    return queue.attempt(given, account, **{"task_id": "t1", "timeout": 20.0, **others})


def states(tmp_path: Path, number: int = 1) -> dict[str, str]:
    with Journal(tmp_path / "fates.db") as journal:
        return {each.address: each.state for each in journal.fates(number)}


def test_what_was_sent_is_not_sent_again(make: Make, tmp_path: Path) -> None:
    """The worker died after the reply, before it acknowledged: the queue hands the same out once more."""
    with MailServer(refuse={B: "550 5.1.1 no such user"}) as server:
        one = attempt(make(server), payload(A, B))
        two = attempt(make(server), payload(A, B), doubt="it was handed out before")
        assert [message.delivered for message in server.messages] == [[A]]
    assert one.delay is two.delay is None
    assert two.report == one.report
    assert two.report["accepted"][0]["recipient"] == A
    assert states(tmp_path) == {A: "accepted", B: "refused"}


def test_two_tasks_are_two_messages(make: Make) -> None:
    with MailServer() as server:
        queue = make(server)
        for task_id in ("t1", "t2", None, None):
            assert attempt(queue, payload(A), task_id=task_id).report["status"] == "accepted"
        assert len(server.messages) == 4


def test_the_next_try_is_for_who_is_owed_though_the_first_is_handed_out_again(
    make: Make, tmp_path: Path
) -> None:
    """The next try was handed over, and the worker died before it acknowledged this one: both are there."""
    busy = {B: 1}

    def later(event: Event) -> str | None:
        if event.verb == "RCPT" and busy.get(event.address):
            busy[event.address] -= 1
            return "450 4.2.1 later"
        return None

    with MailServer(verdict=later) as server:
        one = attempt(make(server), payload(A, B))
        assert one.delay == 30.0
        assert states(tmp_path) == {A: "accepted", B: "queued"}
        again = attempt(make(server), payload(A, B))
        following = attempt(make(server), one.payload, json.loads(json.dumps(one.account)))
        assert [message.delivered for message in server.messages] == [[A], [B]]
    assert again.report["attempts"] == 2
    for each in (again, following):
        assert each.delay is None
        assert [told["recipient"] for told in each.report["accepted"]] == [A, B]


def test_who_is_in_doubt_is_told_and_not_sent_to(make: Make, tmp_path: Path) -> None:
    """The worker died between the end of the content and the reply."""
    with Journal(tmp_path / "fates.db") as dead:
        claim = dead.claim("t1", payload(A, B))
        dead.doubt([(claim.number, [A])])
        dead.release([claim.number])
    with MailServer() as server:
        queue = make(server)
        report = attempt(queue, payload(A, B)).report
        assert [message.delivered for message in server.messages] == [[B]]
        assert report["unknown"] == [A]
        with pytest.raises(SendFailed) as caught:
            queue.finish(report)
        assert caught.value.status == "unknown"
        assert attempt(make(server), payload(A, B)).report["unknown"] == [A]
        assert len(server.messages) == 1
    assert states(tmp_path) == {A: "doubt", B: "accepted"}


def test_a_reply_that_never_comes_is_doubt_for_good(make: Make, tmp_path: Path) -> None:
    ends: list[Event] = []

    def cut(event: Event) -> Cut | None:
        if event.verb == "FINAL":
            ends.append(event)
            return Cut()
        return None

    with MailServer(verdict=cut) as server:
        for _ in range(2):
            tried = attempt(make(server), payload(A))
            assert (tried.delay, tried.report["unknown"]) == (None, [A])
        assert len(ends) == 1
    assert states(tmp_path) == {A: "doubt"}


def test_what_another_process_has_waits(make: Make, tmp_path: Path) -> None:
    """And counts for nothing: neither as a try, nor as an outcome."""
    given = payload(A)
    with MailServer() as server, Journal(tmp_path / "fates.db") as other:
        claim = other.claim("t1", given)
        tried = attempt(make(server), given)
        assert (tried.payload, tried.account, tried.reached) == (given, None, False)
        assert tried.delay is not None
        assert 0 < tried.delay <= 61
        assert server.messages == []
        other.settle(claim.number, [Fate(A, "accepted", "250 2.0.0 ok")], tries=1)
        told = attempt(make(server), given).report
    assert (told["status"], told["attempts"]) == ("accepted", 1)
    assert told["accepted"] == [{"recipient": A, "code": 250, "enhanced": "2.0.0", "text": "2.0.0 ok"}]


def test_a_journal_that_cannot_be_written_sends_nothing(make: Make, tmp_path: Path) -> None:
    (tmp_path / "fates.db").write_bytes(b"no database" * 100)
    given = payload(A)
    with MailServer() as server:
        tried = attempt(make(server), given)
        assert (tried.payload, tried.account, tried.reached) == (given, None, False)
        assert tried.delay == 60.0
        assert tried.report["error"]["kind"] == "JournalError"
        assert server.messages == []


def test_a_cancelled_one_is_not_sent(make: Make, tmp_path: Path) -> None:
    """By ``pysmtpx journal cancel``, or in Python."""
    with Journal(tmp_path / "fates.db") as journal:
        claim = journal.claim("t1", payload(A))
        journal.cancel(claim.number)
    with MailServer() as server:
        report = attempt(make(server), payload(A)).report
        assert server.messages == []
    assert (report["status"], report["unsent"]) == ("unsent", [A])
    assert report["error"]["text"] == "cancelled"


def test_a_pool_that_opens_the_file_leaves_it_to_the_queue(make: Make, tmp_path: Path) -> None:
    with Journal(tmp_path / "fates.db") as journal:
        number = attempt_left(journal)
        assert journal.take(10) == []
        journal.retry(number, doubtful=True)
        assert [each.number for each in journal.take(10)] == [number]


def attempt_left(journal: Journal) -> int:
    """A message whose worker died before it sent anything."""
    number = journal.claim("t1", payload(A), due=_NOT_OF_A_POOL).number
    journal.release([number])
    return number


def test_what_cannot_be_right(tmp_path: Path) -> None:
    url, options = "smtp://127.0.0.1:1", {"journal": tmp_path / "fates.db"}
    with pytest.raises(InputError, match="unknown=True"):
        QueueSender(url, RetryPolicy(unknown=True), 20.0, None, MAX_SIZE, options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="path of a file"):
        QueueSender(url, POLICY, 20.0, None, MAX_SIZE, {"journal": object()})  # type: ignore[typeddict-item]
    assert list(tmp_path.iterdir()) == []

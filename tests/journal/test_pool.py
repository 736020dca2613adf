"""A pool with a journal: nothing lost, nothing twice, and the journal says what the future said."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from support.certs import server_context
from support.patience import LONG

from pysmtpx import (
    AllRecipientsFailed,
    ConnectionLost,
    DeliveryUnknown,
    InputError,
    MailFromParams,
    MailObject,
    NotSupportedError,
    RcptToParams,
    RetryPolicy,
    SmtpPool,
    Stage,
)
from pysmtpx import Event as PoolEvent
from pysmtpx.journal import disk
from pysmtpx.journal.messages import Journal
from pysmtpx.journal.store import JournalError
from pysmtpx.payload import make_submission, pack
from pysmtpx.testing import EXTENSIONS, Cut, Event, MailServer

ANN, ME = "a@x.example", "me@x.example"
ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def letter(*to: str, text: str = "hello\r\n") -> MailObject:
    return MailObject("s@x.example", to, b"Subject: x\r\n\r\n" + text.encode())


def states(path: Path) -> dict[str, str]:
    """Of every recipient in the journal."""
    with Journal(path) as journal:
        return {
            fate.address: fate.state for each in journal.summaries() for fate in journal.fates(each.number)
        }


def queue(path: Path, *mails: MailObject, **options: Any) -> None:
    """As a process leaves them that was killed before it sent them."""
    with Journal(path) as journal:
        for mail in mails:
            journal.add(pack(make_submission(mail, **options)))


def drained(path: Path, server: MailServer, count: int, **options: Any) -> None:
    """A pool that takes up what is owed until the server has so many messages."""
    with SmtpPool(server.url, journal=path, **options):
        server.wait_for(count, LONG)


WAYS: dict[str, Callable[[SmtpPool, MailObject], object]] = {
    "submit": lambda pool, mail: pool.submit(mail).result(LONG),
    "send_message": lambda pool, mail: pool.send_message(mail),
    "send_many": lambda pool, mail: [outcome.status for outcome in pool.send_many([mail])],
    "send": lambda pool, mail: pool.send(mail.sender, mail.recipients, b"Subject: x\r\n\r\nhello\r\n"),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_in_doubt_on_disk_before_its_last_octet_and_accepted_before_it_is_told(
    path: Path, way: str
) -> None:
    seen: list[dict[str, str]] = []

    def verdict(event: Event) -> None:
        if event.verb in ("MAIL", "FINAL"):
            seen.append(states(path))

    with MailServer(verdict=verdict) as server, SmtpPool(server.url, journal=path) as pool:
        told = WAYS[way](pool, letter("a@x.example", "b@x.example"))
        assert states(path) == {"a@x.example": "accepted", "b@x.example": "accepted"}
        assert told
    assert seen[0] == {"a@x.example": "queued", "b@x.example": "queued"}
    assert seen[1] == {"a@x.example": "doubt", "b@x.example": "doubt"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("temporary", [False, True])
def test_each_part_is_on_disk_before_the_next_goes_over_another_connection(
    path: Path, way: str, temporary: bool
) -> None:
    """LIMITS RCPTDOMAINMAX (RFC 9422 4.3): if the process is killed in between only the rest is owed."""
    to, seen = ["a@x.example", "later@y.example", "b@z.example"], []

    def verdict(event: Event) -> str | None:
        if event.verb in ("CONNECT", "FINAL"):
            seen.append([*states(path).values()])
        return "450 later" if event.address == "later@y.example" and not event.transaction else None

    retry = RetryPolicy(backoff=0.0, temporary=temporary)
    extensions = ["PIPELINING", "LIMITS RCPTDOMAINMAX=1"]
    with (
        MailServer(extensions=extensions, verdict=verdict) as server,
        SmtpPool(server.url, journal=path, retry=retry) as pool,
    ):
        WAYS[way](pool, letter(*to))
    refused = "queued" if temporary else "refused"
    assert seen[:5] == [
        ["queued"] * 3,
        ["doubt", "queued", "queued"],
        ["accepted", "queued", "queued"],
        ["accepted", refused, "queued"],
        ["accepted", refused, "doubt"],
    ]
    assert [*states(path).values()] == ["accepted", "accepted" if temporary else "refused", "accepted"]


@pytest.mark.parametrize("way", WAYS)
def test_what_its_caller_was_told_to_be_unsent_is_not_sent_later(path: Path, way: str) -> None:
    """He may hand it in again, and then it must not go twice."""

    def verdict(event: Event) -> str | None:
        return {"a@x.example": "550 no", "b@x.example": "450 later"}.get(event.address)

    with MailServer(verdict=verdict) as server:
        with SmtpPool(server.url, journal=path, retry=ONCE) as pool, contextlib.suppress(AllRecipientsFailed):
            WAYS[way](pool, letter("a@x.example", "b@x.example"))
        assert states(path) == {"a@x.example": "refused", "b@x.example": "refused"}
    with MailServer() as server:
        queue(path, letter("c@x.example"))
        drained(path, server, 1)
        assert server.ledger.count == 1


@pytest.mark.parametrize("way", WAYS)
def test_what_is_in_doubt_is_named_and_not_sent_again(path: Path, way: str) -> None:
    cut = MailServer(verdict=lambda event: Cut() if event.verb == "FINAL" else None)
    with cut as server, SmtpPool(server.url, journal=path) as pool, contextlib.suppress(DeliveryUnknown):
        WAYS[way](pool, letter("a@x.example"))
    assert states(path) == {"a@x.example": "doubt"}
    with MailServer() as server:
        queue(path, letter("c@x.example"))
        drained(path, server, 1)
        assert [message.addresses for message in server.messages] == [["c@x.example"]]


def test_who_was_refused_for_now_is_sent_to_again_and_nobody_else(path: Path) -> None:
    between: list[dict[str, str]] = []

    def verdict(event: Event) -> str | None:
        if event.verb == "RCPT" and event.address == "b@x.example" and not event.transaction:
            return "450 later"
        if event.verb == "MAIL":
            between.append(states(path))
        return None

    again = RetryPolicy(temporary=True, backoff=0.01)
    with MailServer(verdict=verdict) as server, SmtpPool(server.url, journal=path, retry=again) as pool:
        pool.submit(letter("a@x.example", "b@x.example")).result(LONG)
        assert [message.delivered for message in server.messages] == [["a@x.example"], ["b@x.example"]]
    assert between[1] == {"a@x.example": "accepted", "b@x.example": "queued"}
    assert set(states(path).values()) == {"accepted"}


def test_a_closed_pool_leaves_what_is_queued_to_the_next_one(path: Path) -> None:
    with MailServer(delay=0.01) as server:
        pool = SmtpPool(server.url, journal=path, max_connections=1)
        futures = [pool.submit(letter(f"r{n}@x.example")) for n in range(20)]
        futures[0].result(LONG)
        pool.close()
        left = [future.exception(LONG) for future in futures]
        unsent = [error for error in left if error is not None]
        assert unsent
        for error in unsent:
            assert isinstance(error, ConnectionLost)
            assert "stays in the journal" in str(error)
        assert list(states(path).values()).count("queued") == len(unsent)
        drained(path, server, 20)
        delivered = [address for message in server.messages for address in message.delivered]
        assert sorted(delivered) == sorted(f"r{n}@x.example" for n in range(20))
    assert set(states(path).values()) == {"accepted"}


def test_what_cannot_be_recorded_is_not_sent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 124."""
    monkeypatch.setattr(disk, "_WAIT", 0.05)
    locks: list[sqlite3.Connection] = []

    def verdict(event: Event) -> None:
        if event.verb == "DATA":  # in a thread of the server
            lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            lock.execute("BEGIN IMMEDIATE")
            locks.append(lock)

    with MailServer(verdict=verdict, extensions=["8BITMIME"], strict=False) as server:
        with SmtpPool(server.url, journal=path) as pool:
            future = pool.submit(letter("a@x.example"))
            error = future.exception(LONG)
            assert isinstance(error, JournalError)
            assert "another process has it" in str(error)
            assert "stays in the journal" in str(error)
            assert error.unsent_recipients == ("a@x.example",)
            assert server.ledger.count == 0
        for lock in locks:
            lock.execute("ROLLBACK")
            lock.close()
    assert states(path) == {"a@x.example": "queued"}


@pytest.mark.parametrize("in_flight", [1, 8])
def test_one_that_was_cancelled_by_hand_keeps_back_nobody_else(path: Path, in_flight: int) -> None:
    """FAULTS 125."""
    entered, go = threading.Event(), threading.Event()

    def verdict(event: Event) -> None:
        if event.verb == "EHLO":
            entered.set()
            assert go.wait(LONG)

    with MailServer(verdict=verdict) as server:
        with SmtpPool(server.url, journal=path, max_connections=1, in_flight=in_flight, overlap=True) as pool:
            futures = [pool.submit(letter(f"r{n}@x.example")) for n in range(10)]
            assert entered.wait(LONG)
            with Journal(path) as journal:
                (number,) = [each.number for each in journal.summaries()][4:5]
                assert journal.cancel(number) == 1
            go.set()
            errors = [future.exception(LONG) for future in futures]
        delivered = {address for message in server.messages for address in message.delivered}
    assert [n for n, error in enumerate(errors) if error is not None] == [4]
    assert "cancelled" in str(errors[4])
    assert delivered == {f"r{n}@x.example" for n in range(10) if n != 4}
    assert server.ledger.count == 9
    assert states(path)["r4@x.example"] == "refused"


def test_a_future_that_was_cancelled_is_so_in_the_journal(path: Path) -> None:
    entered, go = threading.Event(), threading.Event()

    def verdict(event: Event) -> None:
        if event.verb == "EHLO":
            entered.set()
            assert go.wait(LONG)

    with MailServer(verdict=verdict) as server:
        with SmtpPool(server.url, journal=path, max_connections=1) as pool:
            first, second = pool.submit(letter("a@x.example")), pool.submit(letter("b@x.example"))
            assert entered.wait(LONG)
            assert second.cancel()
            assert states(path)["b@x.example"] == "refused"
            go.set()
            first.result(LONG)
            with pytest.raises(CancelledError):
                second.result(LONG)
        assert server.ledger.count == 1


def test_all_that_was_said_of_a_message_holds_when_another_process_sends_it(path: Path) -> None:
    mail = MailObject(
        "s@x.example",
        ["a@x.example", "b@x.example"],
        b"Subject: \xff\r\n\r\n" + b"x" * 1500 + b"\r\n.dot\r\n",
        mail_params=MailFromParams(envid="one", body="8BITMIME"),
        rcpt_params=[RcptToParams(notify=("FAILURE",)), None],
    )
    queue(path, mail, allow_long_lines=True, all_or_nothing=True)
    seen: list[bytes] = []

    def hook(octets: bytes, mail: MailObject) -> bytes:
        seen.append(octets)
        return b"X-Signed: yes\r\n" + octets

    with MailServer(extensions=["8BITMIME", "DSN"], strict=False) as server:
        drained(path, server, 1, before_send=hook)
        (got,) = server.messages
    assert got.content == b"X-Signed: yes\r\n" + seen[0]
    assert seen[0] == b"Subject: \xff\r\n\r\n" + b"x" * 1500 + b"\r\n.dot\r\n"
    assert got.params["ENVID"] == "one"
    assert got.recipients[0].params["NOTIFY"] == "FAILURE"
    assert got.addresses == ["a@x.example", "b@x.example"]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"redirect_to": "me@x.example"}, ["me@x.example"]),
        ({"allow_recipients": ["a@x.example"]}, ["a@x.example"]),
        (
            {"redirect_to": "me@x.example", "allow_recipients": ["a@x.example"]},
            ["a@x.example", "me@x.example"],
        ),
    ],
)
def test_who_a_pool_keeps_mail_from_has_none_of_the_journal_either(
    path: Path, options: dict[str, Any], kept: list[str]
) -> None:
    queue(path, letter("a@x.example", "b@x.example"))
    with MailServer() as server:
        drained(path, server, 1, **options)
        assert server.messages[0].addresses == kept
    said = {"a@x.example": "accepted" if "a@x.example" in kept else "refused", "b@x.example": "refused"}
    assert states(path) == said


def test_redirected_mail_that_is_in_doubt_is_not_sent_again(path: Path) -> None:
    queue(path, letter("a@x.example"))
    with MailServer(verdict=lambda event: Cut() if event.verb == "FINAL" else None) as server:
        over = threading.Event()
        with SmtpPool(server.url, journal=path, redirect_to=ME, on_event=lambda _: over.set()):
            assert over.wait(LONG)
        assert states(path) == {"a@x.example": "doubt"}


def test_what_nobody_waits_for_is_tried_again_for_days(path: Path) -> None:
    queue(path, letter("a@x.example", "b@x.example"))
    refusals = {"a@x.example": "550 no", "b@x.example": "450 later"}
    with MailServer(verdict=lambda event: refusals.get(event.address)) as server:
        events: list[str] = []
        over = threading.Event()

        def on_event(event: Any) -> None:
            events.append(event.kind)
            if event.kind == "refused":
                over.set()

        with SmtpPool(server.url, journal=path, retry=ONCE, on_event=on_event):
            assert over.wait(LONG)
    assert states(path) == {"a@x.example": "refused", "b@x.example": "queued"}
    with Journal(path) as journal:
        assert journal.take(10) == [], "not before its time"
        (one,) = journal.summaries()
        assert one.tries == 1
        assert one.due > one.queued + 20


@pytest.mark.parametrize("what", ["roots", "certificate", "extra", "no AUTH", "dial"])
def test_no_message_is_given_up_for_what_is_wrong_with_the_way_to_the_server(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A process that cannot read its roots must not call all that is queued refused: nobody looked at it."""
    monkeypatch.setitem(sys.modules, "gssapi", None)
    nowhere = "/no/such/folder/nowhere.pem"
    options: dict[str, Any] = {
        "roots": {"tls": "starttls", "roots": nowhere},
        "certificate": {"tls": "starttls", "client_certificate": nowhere},
        "extra": {"auth": "GSSAPI"},
        "no AUTH": {"username": "ann", "password": "secret"},
        "dial": {"dial": lambda *_: None, "tls": "none"},
    }[what]
    queue(path, letter(ANN))
    failed = threading.Event()
    refused: list[PoolEvent] = []

    def told(event: PoolEvent) -> None:
        if event.kind == "refused" and event.mail is not None:
            refused.append(event)
            failed.set()

    with MailServer(ssl_context=server_context("localhost")) as server:
        options = {"on_event": told, "retry": ONCE, **options}
        with SmtpPool("localhost", port=server.port, journal=path, **options):
            assert failed.wait(LONG)
        assert server.messages == []
    assert isinstance(refused[0].outcome, InputError | NotSupportedError)
    assert refused[0].outcome.stage is Stage.CONNECT
    assert states(path) == {ANN: "queued"}


def test_what_is_damaged_or_late_is_refused_and_the_rest_is_sent(path: Path) -> None:
    """FAULTS 127."""
    with Journal(path) as journal:
        good = pack(make_submission(letter("a@x.example")))
        journal.add({"recipients": ["b@x.example"], "version": 99})
        journal.add(good | {"recipients": ["c@x.example"]}, expires=1.0)
        journal.add(good)
    with MailServer() as server:
        drained(path, server, 1)
    assert states(path) == {"a@x.example": "accepted", "b@x.example": "refused", "c@x.example": "refused"}


def test_several_pools_send_each_message_once(path: Path) -> None:
    queue(path, *(letter(f"r{n}@x.example") for n in range(200)))
    with MailServer() as server:
        pools = [SmtpPool(server.url, journal=path) for _ in range(3)]
        server.wait_for(200, LONG)
        for pool in pools:
            with pool:
                pass
        delivered = [address for message in server.messages for address in message.delivered]
    assert sorted(delivered) == sorted(f"r{n}@x.example" for n in range(200))
    assert set(states(path).values()) == {"accepted"}


def test_a_store_of_the_caller_is_used_and_not_closed(path: Path) -> None:
    with Journal(path) as journal, MailServer() as server:
        with SmtpPool(server.url, journal=journal) as pool:
            pool.submit(letter("a@x.example")).result(LONG)
        assert journal.counts() == {"accepted": 1}


def test_what_is_no_journal_is_refused() -> None:
    with pytest.raises(
        InputError, match="journal is the path of a file, the URL of a database, or a journal"
    ):
        SmtpPool("smtp://127.0.0.1", journal=17)  # type: ignore[arg-type]


def test_what_is_no_message_is_its_future_and_not_in_the_journal(path: Path) -> None:
    message = EmailMessage()
    message["From"] = "s@x.example"
    with MailServer() as server, SmtpPool(server.url, journal=path) as pool:
        future: Future[Any] = pool.submit(message)
        assert isinstance(future.exception(LONG), InputError)
    assert states(path) == {}


def test_the_disk_is_waited_for_where_nobody_else_has_the_message(path: Path) -> None:
    """Who waits for an outcome of ``send`` or ``send_many`` has it still; ``doubt`` waits for the disk."""
    durable: list[bool] = []

    class Noted(Journal):
        def add(self, *args: Any, **options: Any) -> int | None:
            durable.append(options["durable"])
            return super().add(*args, **options)

    with (
        MailServer() as server,
        Noted(path) as journal,
        SmtpPool(server.url, journal=journal) as pool,
    ):
        pool.submit(letter(ANN)).result(LONG)
        assert durable == [True]
        pool.send("s@x.example", ANN, b"Subject: x\r\n\r\nhello\r\n")
        assert [each.status for each in pool.send_many([letter(ANN), letter(ANN)])] == ["accepted"] * 2
        assert durable == [True, False, False, False]
        assert journal.counts()["accepted"] == 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("way", ["submit", "send"])
@pytest.mark.parametrize("question", [1, 2])
@pytest.mark.parametrize("limits", [(), ("LIMITS RCPTDOMAINMAX=1",)])
def test_a_policy_that_ends_its_thread_leaves_whoever_accepted_accepted(
    path: Path, way: str, question: int, limits: tuple[str, ...]
) -> None:
    """FAULTS 92. Of a call that is interrupted others are left to the next process, or in doubt."""
    asked = itertools.count(1)
    to = ("a@x.example", "n@x.example", "b@y.example")

    def leave(_: object) -> bool:
        if next(asked) >= question:
            raise SystemExit
        return True

    policy = RetryPolicy(temporary=True, backoff=0.0, retryable=leave)
    refuse = {"n@x.example": "450 4.2.0 later"}
    with MailServer(extensions=[*EXTENSIONS, *limits], refuse=refuse) as server:
        with SmtpPool(server.url, journal=path, max_connections=1, retry=policy) as pool:
            if way == "submit":
                pool.submit(letter(*to)).exception(LONG)
            else:
                with pytest.raises(SystemExit):
                    pool.send_message(letter(*to))
        delivered = {recipient for message in server.messages for recipient in message.delivered}
        left = states(path)
        assert {address for address, state in left.items() if state == "accepted"} == delivered
        others = set(left.values()) - {"accepted"}
        assert others <= ({"refused"} if way == "submit" else {"queued", "doubt"})
        assert others

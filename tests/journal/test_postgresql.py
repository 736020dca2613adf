"""The journal in PostgreSQL: the tests of the file over a real server, and what only a server can do."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from inspect import signature
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli.conftest import Ran
from support.patience import LONG
from support.postgres import Postgres

from pysmtpx import InputError, MailObject, RetryPolicy, SmtpPool
from pysmtpx.contrib.queueing.attempt import QueueSender
from pysmtpx.journal import postgresql
from pysmtpx.journal.opening import open_journal
from pysmtpx.journal.postgresql import PostgresJournal
from pysmtpx.journal.store import Fate, JournalError
from pysmtpx.journal.transactions import NotKept
from pysmtpx.payload import MAX_SIZE, make_submission, pack
from pysmtpx.testing import Event, MailServer

from . import kills, test_messages, test_pool

pytestmark = pytest.mark.real
_names = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres("fsync=off")  # it is never lost itself, and a test has a schema of its own
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def database(server: Postgres) -> str:
    return server.create("mail")


@pytest.fixture
def url(database: str) -> str:
    """Of a journal that is not there yet."""
    return f"{database}?journal=j{next(_names)}"


def payload(*recipients: str) -> dict[str, Any]:
    return {"sender": "s@x.example", "recipients": list(recipients), "content": "Subject: x\r\n\r\n"}


def letter(*to: str) -> MailObject:
    return MailObject("s@x.example", to, b"Subject: x\r\n\r\nhello\r\n")


def _of(module: Any, *but: str) -> list[Any]:
    """The tests of the file, but for those that look into it: one for each set of parameters."""
    found = []
    for name, test in vars(module).items():
        if not name.startswith("test_") or any(each in name for each in but):
            continue
        marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        sets: list[dict[str, Any]] = [{}]
        for mark in marks:
            names = [mark.args[0]] if isinstance(mark.args[0], str) else mark.args[0]
            values = [each if len(names) > 1 else (each,) for each in mark.args[1]]
            sets = [{**one, **dict(zip(names, each, strict=True))} for one in sets for each in values]
        found += [pytest.param(test, each, id=f"{name}-{n}") for n, each in enumerate(sets)]
    return found


OF_THE_FILE = (
    *("large_content", "disk_has_changed", "file", "another_program", "another_format", "has_the_lock"),
    *("disk_that_is_full", "no_journal", "interrupt_behind", "before_a_kill", "cannot_be_recorded"),
    *("no_message_has", "disk_is_waited_for"),
)
"""Parts of the names of tests that look into the file."""


@pytest.mark.parametrize(
    ("test", "values"), [*_of(test_messages, *OF_THE_FILE), *_of(test_pool, *OF_THE_FILE)]
)
def test_as_the_journal_in_a_file(
    test: Any, values: dict[str, Any], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (test_messages, test_pool):
        monkeypatch.setattr(module, "Journal", open_journal)
    with pytest.MonkeyPatch.context() as patched:
        fixtures = {"path": url, "monkeypatch": patched}
        test(**{name: {**fixtures, **values}[name] for name in signature(test).parameters})


@pytest.mark.once
@pytest.mark.timeout(300)
def test_killed_at_random_instants(url: str, tmp_path: Path) -> None:
    """FAULTS 123."""
    account = kills.at_random(tmp_path, 20, seed=5, journal=url, longest=0.4)
    assert account.lost == []
    assert account.twice == []
    assert account.submitted
    assert account.kills == 20


@pytest.mark.once
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["one by one", "in flight"])
def test_killed_at_every_eighth_effect_of_a_dialogue(url: str, tmp_path: Path, way: str) -> None:
    """FAULTS 123."""
    account = kills.at_each_effect(tmp_path, kills.WAYS[way], step=8, journal=url)
    assert account.lost == []
    assert account.twice == []
    assert account.kills > 2


def test_many_take_each_message_once(url: str) -> None:
    with open_journal(url) as journal:
        for n in range(40):
            journal.add(payload(f"r{n}@x.example"), durable=False)
        taken: list[Any] = []

        def take() -> None:
            with open_journal(url) as found:
                while some := found.take(3):
                    found.doubt([(owed.number, owed.recipients) for owed in some])
                    for owed in some:
                        taken.append(owed.number)
                        found.settle(owed.number, [Fate(owed.recipients[0], "accepted")], tries=1)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(taken) == len(set(taken)) == 40
        assert journal.counts() == {"accepted": 40}


def end_sessions(database: str) -> None:
    """As when the server is started again."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE application_name = 'pysmtpx'"
        )


def test_a_session_that_was_lost_at_rest_is_made_again(url: str, database: str) -> None:
    with open_journal(url) as journal:
        number = journal.add(payload("a@x.example"), take=True)
        assert number is not None
        end_sessions(database)
        journal.doubt([(number, ["a@x.example"])])
        end_sessions(database)
        assert journal.counts() == {"doubt": 1}


@pytest.mark.parametrize("is_carried_out", [True, False])
def test_a_server_that_is_lost_as_a_transaction_ends_is_asked_how(
    url: str, database: str, is_carried_out: bool
) -> None:
    """FAULTS 128."""
    with PostgresJournal(url) as journal:
        journal.add(payload("a@x.example"))
        session = journal._database._store
        assert session is not None
        plain = session.connection

        class Lost:
            """The connection, whose server is lost with the answer to COMMIT, or before it has it."""

            def __getattr__(self, name: str) -> Any:
                return getattr(plain, name)

            def execute(self, statement: str, *values: Any, **options: Any) -> Any:
                if statement != "COMMIT":
                    return plain.execute(statement, *values, **options)
                if is_carried_out:
                    plain.execute(statement)
                end_sessions(database)
                return plain.execute("SELECT 1")

        session.connection = Lost()
        added: list[Any] = []
        with suppress(JournalError):
            added.append(journal.add(payload("b@x.example")))
        assert len(added) == is_carried_out
        assert journal.counts() == {"queued": 1 + is_carried_out}


def test_what_nobody_can_say_is_told_as_that(
    url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 128."""
    monkeypatch.setattr(postgresql, "_DECIDED", 0.0)
    with PostgresJournal(url) as journal:
        inside = journal._database
        session = inside._store
        assert session is not None

        def commit(store: Any) -> None:
            inside._has_ended("1")

        monkeypatch.setattr(inside, "_commit", commit)
        monkeypatch.setattr(inside, "_conninfo", inside._conninfo.replace("127.0.0.1", "127.0.0.9"))
        with pytest.raises(NotKept, match="which it may have or not"):
            journal.add(payload("a@x.example"))
        monkeypatch.undo()
        assert journal.counts() == {}


def test_what_the_server_refuses_is_not_sent(url: str, database: str) -> None:
    """FAULTS 124."""

    def verdict(event: Event) -> None:
        if event.verb == "DATA":
            schema = url.rpartition("=")[2]
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute(f"ALTER TABLE {schema}.fates RENAME TO gone")

    with (
        MailServer(verdict=verdict, extensions=["8BITMIME"]) as server,
        SmtpPool(server.url, journal=url) as pool,
    ):
        error = pool.submit(letter("a@x.example")).exception(LONG)
        assert isinstance(error, JournalError)
        assert "cannot be written" in str(error)
        assert server.ledger.count == 0


def test_another_session_that_has_a_row_is_named(
    url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 124."""
    monkeypatch.setattr(postgresql, "_WAIT", 50)
    with open_journal(url) as journal, psycopg.connect(database) as other:
        number = journal.add(payload("a@x.example"), take=True)
        assert number is not None
        other.execute(f"SELECT 1 FROM {url.rpartition('=')[2]}.messages FOR UPDATE")
        with pytest.raises(JournalError, match="another session has it"):
            journal.doubt([(number, ["a@x.example"])])
        other.rollback()
        journal.doubt([(number, ["a@x.example"])])


SECRET = "s3cr3t%40word"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (f"postgresql://outbox:{SECRET}@127.0.0.1:9/mail", JournalError),
        (f"postgresql://outbox:{SECRET}%zz@127.0.0.1:9/mail", InputError),
        (f"postgresql://outbox:{SECRET}@127.0.0.1:9/mail?nonsense=1", InputError),
        (f"postgresql://outbox:{SECRET}@127.0.0.1:9/mail?journal=A%20B", InputError),
        (f"postgres://127.0.0.1:9/mail?user=outbox&password={SECRET}", JournalError),
    ],
)
def test_no_error_shows_the_password(url: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        SmtpPool("smtp://127.0.0.1", journal=url)
    seen: list[BaseException | None] = [caught.value]
    while seen:
        each = seen.pop()
        if each is None:
            continue
        assert "s3cr3t" not in f"{each} {each!r}"
        seen += [each.__cause__, each.__context__]
        frame = each.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_filename != __file__:
                assert "s3cr3t" not in repr(frame.tb_frame.f_locals)
            frame = frame.tb_next


def test_it_is_named_without_user_and_password(url: str) -> None:
    with PostgresJournal(url) as journal:
        assert repr(journal).startswith("<PostgresJournal postgresql://127.0.0.1:")
        assert "secret" not in repr(journal)
        with SmtpPool("smtp://127.0.0.1", journal=journal) as pool:
            assert "secret" not in repr(pool)
        assert os.environ.get("PGPASSWORD") is None


def test_the_command_line_takes_the_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    from pysmtpx.cli.main import main

    def run(*arguments: Any) -> Ran:
        code = main([str(each) for each in arguments])
        return Ran(int(code), *capsys.readouterr())

    ran = run("journal", "stats", url)
    assert ran.code == 2
    assert "there is no journal postgresql://127.0.0.1" in ran.err
    assert "secret" not in ran.err
    with open_journal(url) as journal:
        number = journal.add(payload("a@x.example"))
    assert "1 queued" in run("journal", "list", url).out
    assert "a@x.example" in run("journal", "show", url, number).out
    assert "1 recipients are not sent it" in run("journal", "cancel", url, number).out
    assert '{"purged": 1}' in run("journal", "purge", "--days", 0, url, "--json").out


def test_without_psycopg_it_says_what_to_install(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pysmtpx\[postgresql\]"):
        open_journal(url)


def test_a_queue_looks_its_messages_up_in_it(url: str) -> None:
    """``journal=`` of a task: for workers on several machines, each of which has it by its URL."""
    given = pack(make_submission(letter("a@x.example", "b@x.example")), MAX_SIZE)
    policy, options = RetryPolicy(attempts=1), {"journal": url}
    with MailServer() as server, open_journal(url) as dead:
        sender = QueueSender(server.url, policy, 20.0, None, MAX_SIZE, options)  # type: ignore[arg-type]
        claim = dead.claim("t1", given)
        dead.doubt([(claim.number, ["a@x.example"])])
        waiting = sender.attempt(given, None, task_id="t1", timeout=20.0)
        assert waiting.delay is not None
        assert server.messages == []
        dead.release([claim.number])
        for _ in range(2):
            report = sender.attempt(given, None, task_id="t1", timeout=20.0).report
            assert (report["status"], report["unknown"]) == ("unknown", ["a@x.example"])
        assert [message.delivered for message in server.messages] == [["b@x.example"]]
        sender.close()

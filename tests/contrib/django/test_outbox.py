"""The outbox: written with the transaction, sent once, each recipient accounted for."""

from __future__ import annotations

import math
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections, transaction
from django.test import RequestFactory, override_settings
from journal import test_messages as journal_tests
from support import outbox
from support.daemon import wait_until

from pysmtpx.contrib.django import message_failed, message_sent, recipient_refused
from pysmtpx.contrib.django.checks import check_mail
from pysmtpx.contrib.django.outbox import admin as outbox_admin
from pysmtpx.contrib.django.outbox import rows, sending
from pysmtpx.contrib.django.outbox import store as outbox_store
from pysmtpx.contrib.django.outbox.admin import MessageAdmin
from pysmtpx.contrib.django.outbox.models import Message, Priority, Recipient
from pysmtpx.contrib.django.outbox.sending import outboxes
from pysmtpx.contrib.django.outbox.store import OutboxStore
from pysmtpx.contrib.django.outbox_backend import OutboxEmailBackend
from pysmtpx.errors import DeliveryUnknown, InputError, RecipientsRejected
from pysmtpx.journal.store import LEASE, Fate, JournalError, NotHeld
from pysmtpx.payload import make_submission, pack
from pysmtpx.testing import MailServer
from pysmtpx.wire.envelope import MailObject

ALIAS = "outbox"
BACKEND = "pysmtpx.contrib.django.OutboxEmailBackend"
SENDER = "pysmtpx.contrib.django.EmailBackend"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield the settings of a database that Django knows as ``ALIAS``."""
    server = None
    if request.param == "sqlite":
        settings = outbox.sqlite(tmp_path_factory.mktemp("outbox"))
    else:
        server = outbox.Postgres()
        settings = server.database("outbox")
    try:
        outbox.add_database(ALIAS, settings)
        yield settings
        outbox.forget_database(ALIAS)
    finally:
        if server is not None:
            server.stop()


@pytest.fixture
def database(databases: Any) -> Iterator[Any]:
    yield databases
    Recipient.objects.using(ALIAS).all().delete()
    Message.objects.using(ALIAS).all().delete()


@pytest.fixture
def project(database: Any, site: Any) -> Iterator[Callable[..., None]]:
    """Yield what configures mail by way of the outbox to a server."""
    with override_settings():

        def use(server: MailServer, sending: dict[str, Any] | None = None, **options: Any) -> None:
            options = {"using": ALIAS, **options}
            if not site.by_mailers:
                site.use(server, **(sending or {}))
                site.use(backend=BACKEND, **options)
                return
            place = {"host": server.host, "port": server.port, **(sending or {})}
            mailers = {
                "default": {"BACKEND": BACKEND, "OPTIONS": {"mailer": "smtp", **options}},
                "smtp": {"BACKEND": SENDER, "OPTIONS": place},
            }
            site._stack.enter_context(override_settings(MAILERS=mailers))

        use.connection = site.connection  # type: ignore[attr-defined]
        yield use


def message(*to: str, **options: Any) -> EmailMessage:
    return EmailMessage("Hello", "body\n", "me@x.example", list(to), **options)


def put(project: Any, *to: str, **attributes: Any) -> Any:
    """Send by the backend; the number."""
    mail = message(*to)
    for name, value in attributes.items():
        setattr(mail, name, value)
    assert project.connection().send_messages([mail]) == 1
    return mail.outbox_id  # type: ignore[attr-defined]


def fates(number: Any) -> dict[str, str]:
    found = rows.recipients(ALIAS, [number])
    return {each.address: each.state for each in found}


def payload(*to: str) -> dict[str, Any]:
    return pack(make_submission(MailObject("s@x.example", list(to), b"Subject: x\r\n\r\nx\r\n")))


# -- in the transaction ------------------------------------------------------------------------


def test_it_goes_if_and_only_if_the_transaction_commits(project: Any) -> None:
    with MailServer() as server:
        project(server)
        with transaction.atomic(ALIAS):
            put(project, "a@x.example")
            transaction.set_rollback(True, ALIAS)
        with transaction.atomic(ALIAS):
            number = put(project, "b@x.example", "c@x.example")
        call_command("send_outbox")
        assert [each.addresses for each in server.messages] == [["b@x.example", "c@x.example"]]
        assert fates(number) == {"b@x.example": "accepted", "c@x.example": "accepted"}
        call_command("send_outbox")
        assert len(server.messages) == 1
        assert Message.objects.using(ALIAS).count() == 1


def test_the_hook_is_called_when_it_is_there_for_all(project: Any) -> None:
    called: list[int] = []
    with MailServer() as server:
        project(server, on_commit=lambda: called.append(Message.objects.using(ALIAS).count()))
        with transaction.atomic(ALIAS):
            put(project, "b@x.example")
            assert called == []
        assert called == [1]


def test_one_key_is_there_once(project: Any) -> None:
    with MailServer() as server:
        project(server)
        assert put(project, "a@x.example", unique_key="order 17") is not None
        assert put(project, "a@x.example", unique_key="order 17") is None
        call_command("send_outbox")
        assert len(server.messages) == 1


def test_what_is_wrong_with_a_message_is_told_at_once(project: Any) -> None:
    with MailServer() as server:
        project(server)
        for attributes in (
            {"priority": "urgent"},
            {"send_at": "tomorrow"},
            {"expires_at": math.nan},
            {"unique_key": "x" * 256},
        ):
            with pytest.raises(InputError):
                put(project, "a@x.example", **attributes)
        with pytest.raises(InputError):
            put(project, "two words@@x.example")
        assert Message.objects.using(ALIAS).count() == 0


# -- when --------------------------------------------------------------------------------------


def test_what_is_more_urgent_goes_first_and_what_is_due_later_waits(project: Any) -> None:
    with MailServer() as server:
        project(server, {"max_connections": 1, "in_flight": 1})
        later = datetime.now(UTC) + timedelta(hours=1)
        waits = put(project, "later@x.example", send_at=later)
        put(project, "low@x.example", priority="low")
        put(project, "normal@x.example")
        put(project, "high@x.example", priority=Priority.HIGH)
        put(project, "too-late@x.example", expires_at=time.time() - 1)
        call_command("send_outbox")
        found = [each.addresses[0].partition("@")[0] for each in server.messages]
        assert found == ["high", "normal", "low"]
        assert fates(waits) == {"later@x.example": "queued"}
        rows.retry(waits, using=ALIAS)
        call_command("send_outbox")
        assert len(server.messages) == 4


def test_one_that_expired_is_refused_and_told(project: Any) -> None:
    with MailServer() as server, heard() as told:
        project(server, expires_after=timedelta(seconds=1))
        number = put(project, "a@x.example", expires_at=1.0)
        call_command("send_outbox")
        assert fates(number) == {"a@x.example": "refused"}
        assert not server.messages
    ((kind, values),) = told
    assert kind == "failed"
    assert values["message"].pk == number
    assert values["error"].unsent_recipients == ("a@x.example",)


# -- signals -----------------------------------------------------------------------------------


class heard:
    """What the receivers of signals were told meanwhile."""

    def __init__(self, react: Callable[[], object] | None = None) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._react = react
        self._signals = {"sent": message_sent, "refused": recipient_refused, "failed": message_failed}
        self._receivers = {name: self._receiver(name) for name in self._signals}

    def _receiver(self, name: str) -> Callable[..., None]:
        def receive(**values: Any) -> None:
            self.told.append((name, values))
            if self._react is not None:
                self._react()

        return receive

    def __enter__(self) -> list[tuple[str, dict[str, Any]]]:
        for name, each in self._signals.items():
            each.connect(self._receivers[name])
        return self.told

    def __exit__(self, *_: object) -> None:
        for name, each in self._signals.items():
            each.disconnect(self._receivers[name])


def test_the_signals_are_those_of_the_other_backends(project: Any) -> None:
    with MailServer(refuse={"no@x.example": "550 5.1.1 unknown"}) as server, heard() as told:
        project(server)
        number = put(project, "yes@x.example", "no@x.example")
        call_command("send_outbox")
    assert [kind for kind, _ in told] == ["refused", "sent"]
    refused, sent = (values for _, values in told)
    assert refused["recipient"] == "no@x.example"
    assert refused["reply"].code == 550
    assert refused["temporary"] is False
    assert sent["message"].pk == number
    assert sent["sender"] is OutboxEmailBackend
    assert sent["result"].accepted_recipients == ("yes@x.example",)
    assert sent["result"].reply.code == 250


def test_of_mail_that_a_receiver_sends_nobody_is_told(project: Any) -> None:
    with MailServer() as server:
        project(server)
        with heard(lambda: put(project, "more@x.example")) as told:
            put(project, "a@x.example")
            call_command("send_outbox")
            call_command("send_outbox")
        assert [kind for kind, _ in told] == ["sent"]
        assert len(server.messages) == 2


def test_who_is_in_doubt_is_told_so(database: Any) -> None:
    from pysmtpx.contrib.django.outbox.telling import tell

    number = rows.put(payload("a@x.example", "b@x.example"), using=ALIAS)
    with heard() as told, OutboxStore(using=ALIAS, told=lambda each: tell(object, ALIAS, each)) as found:
        (owed,) = found.take(10)
        found.doubt([(number, owed.recipients)])
        lost = Fate("a@x.example", "doubt", "the line broke", "final")
        refused = Fate("b@x.example", "refused", "550 5.1.1 no such user", "rcpt")
        found.settle(number, [lost, refused], tries=1)
    assert [kind for kind, _ in told] == ["refused", "failed"]
    error = told[1][1]["error"]
    assert isinstance(error, DeliveryUnknown)
    assert error.unknown_recipients == ("a@x.example",)
    assert [str(each.reply) for each in error.rejected_recipients] == ["550 5.1.1 no such user"]


def test_who_was_refused_alone_is_an_error_of_its_kind(project: Any) -> None:
    with MailServer(refuse={"no@x.example": "550 5.1.1 unknown"}) as server, heard() as told:
        project(server)
        number = put(project, "no@x.example")
        call_command("send_outbox")
        assert fates(number) == {"no@x.example": "refused"}
    assert isinstance(told[-1][1]["error"], RecipientsRejected)


# -- the store: as the file's -------------------------------------------------------------------


class AsFile:
    """The store under the names that the tests of the file use."""

    def __new__(cls, path: Path) -> Any:
        return _Store(using=ALIAS)


class _Store(OutboxStore):
    def retry(self, number: Any, *, doubtful: bool = False) -> int:
        return rows.retry(number, using=ALIAS, doubtful=doubtful)

    def cancel(self, number: Any) -> int:
        return rows.cancel(number, using=ALIAS)

    def purge(self, before: float) -> int:
        return rows.purge(before, using=ALIAS)

    def fates(self, number: Any) -> list[Fate]:
        return [Fate(each.address, each.state, each.reply) for each in rows.recipients(ALIAS, [number])]

    def doubtful(self) -> list[tuple[Any, str]]:
        found = Recipient.objects.using(ALIAS).filter(state="doubt").order_by("message_id", "place")
        return list(found.values_list("message_id", "address"))

    def counts(self) -> dict[str, int]:
        return dict(Counter(Recipient.objects.using(ALIAS).values_list("state", flat=True)))


_SHARED = [
    "test_a_message_is_taken_once_and_never_again_when_it_was_accepted",
    "test_the_same_key_is_queued_once",
    "test_who_was_in_doubt_is_named_and_not_sent_to_until_somebody_says_so",
    "test_what_is_not_due_waits",
    "test_who_lost_the_lease_behind_the_doubt_says_what_came_of_it",
    "test_one_that_is_not_ours_keeps_all_of_a_flight_back",
    "test_cancelled_is_sent_to_nobody",
    "test_only_what_is_certain_is_forgotten",
    "test_one_that_was_cancelled_under_way_is_not_sent",
    "test_the_doubt_of_one_that_is_being_sent_is_not_for_others_to_end",
]


@pytest.mark.parametrize("name", _SHARED)
def test_as_the_journal_in_a_file(
    database: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_tests, "Journal", AsFile)
    test = getattr(journal_tests, name)
    test(tmp_path, *([monkeypatch] if "monkeypatch" in signature(test).parameters else []))


def test_who_has_lost_the_lease_brings_nobody_into_doubt(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OutboxStore(using=ALIAS) as slow, OutboxStore(using=ALIAS) as quick:
        with monkeypatch.context() as patched:
            patched.setattr(rows, "LEASE", -1.0)
            number = slow.add(payload("a@x.example"), take=True)
        assert slow.take(10) == [], "it is under way here"
        (owed,) = quick.take(10)
        with pytest.raises(NotHeld):
            slow.doubt([(number, owed.recipients)])
        slow.renew([number])
        slow.release([number])
        quick.doubt([(number, owed.recipients)])
        assert fates(number) == {"a@x.example": "doubt"}


def test_a_clock_that_was_set_back_holds_nothing_for_longer_than_a_lease(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 2e9
    monkeypatch.setattr(time, "time", lambda: clock)
    with OutboxStore(using=ALIAS) as killed, OutboxStore(using=ALIAS) as other:
        killed.add(payload("a@x.example"), take=True)
        clock = 1e9
        Message.objects.using(ALIAS).update(due=datetime.fromtimestamp(clock, UTC))
        assert other.take(10) == []
        clock += LEASE + 1
        assert len(other.take(10)) == 1


def test_many_take_each_message_once(database: Any) -> None:
    for n in range(24):
        rows.put(payload(f"r{n}@x.example"), using=ALIAS)
    taken: list[Any] = []

    def take() -> None:
        with OutboxStore(using=ALIAS) as found:
            while some := found.take(4):
                for owed in some:
                    found.doubt([(owed.number, owed.recipients)])
                    taken.append(owed.number)
                    fate = Fate(owed.recipients[0], "accepted", "250 ok")
                    found.settle(owed.number, [fate], tries=1)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(taken) == len(set(taken)) == 24


def test_a_database_that_fails_is_told(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    number = rows.put(payload("a@x.example"), using=ALIAS)
    with OutboxStore(using=ALIAS) as found:
        monkeypatch.setattr(Message._meta, "db_table", "no_such_table")
        for action in (
            lambda: found.take(1),
            lambda: found.doubt([(number, ["a@x.example"])]),
            lambda: found.settle(number, [], tries=1),
        ):
            with pytest.raises(JournalError, match="cannot be read or written"):
                action()
        with pytest.raises(JournalError):
            found.wait(0.1)
        monkeypatch.undo()
        assert len(found.take(1)) == 1
    with pytest.raises(JournalError, match="closed"):
        found.take(1)


# -- killed --------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.timeout(300)
def test_killed_at_random_nothing_is_lost_and_nothing_sent_twice(database: Any) -> None:
    """Of two workers one is killed again and again; who is in doubt is named and has it once at most."""
    count, chance, kills = 60, random.Random(12), 2
    with MailServer() as server:
        for n in range(count):
            rows.put(payload(f"r{n}@x.example"), using=ALIAS)

        def started() -> Any:
            found = outbox.worker(server, database, "--forever", max_connections=2)
            assert found.stdout is not None
            assert found.stdout.readline() == "ready\n"
            return found

        def is_over() -> bool:
            return not Message.objects.using(ALIAS).filter(is_owed=True).exists()

        workers = [started() for _ in range(2)]
        try:
            for _ in range(kills):
                at = len(server.messages) + chance.randrange(1, 20)
                wait_until(lambda at=at: len(server.messages) >= at or is_over(), 60, "some were sent")
                victim = workers.pop(0)
                victim.kill()
                victim.communicate()
                # Its leases end: nobody has to wait for that.
                held = Message.objects.using(ALIAS).filter(owner__startswith=f"{victim.pid}-")
                held.update(until=0.0)
                workers.append(started())
            wait_until(is_over, 60, "nobody is queued")
        finally:
            for each in workers:
                each.send_signal(signal.SIGTERM)
            ends = [(each.communicate(timeout=60), each.returncode) for each in workers]
        # One that has not yet said how it wants to end has nothing either.
        assert {code for _, code in ends} <= {0, -signal.SIGTERM}, ends
        got = Counter(each.addresses[0] for each in server.messages)
    assert max(got.values()) == 1, "twice"
    states = dict(Recipient.objects.using(ALIAS).values_list("address", "state"))
    assert set(states.values()) <= {"accepted", "doubt"}
    lost = [each for each, state in states.items() if state == "accepted" and not got[each]]
    assert lost == []
    doubt = [each for each, state in states.items() if state == "doubt"]
    assert len(doubt) <= kills * 2 * 16, "no more than what was under way"
    assert {each for each in states if not got[each]} <= set(doubt)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well(database: Any, number: signal.Signals) -> None:
    with MailServer() as server:
        rows.put(payload("a@x.example"), using=ALIAS)
        found = outbox.worker(server, database, "--forever")
        wait_until(lambda: len(server.messages) == 1, 60, "it was sent")
        found.send_signal(number)
        _, told = found.communicate(timeout=60)
        assert found.returncode == 0, told
    assert not Message.objects.using(ALIAS).exclude(owner="").exists()


# -- by hand ---------------------------------------------------------------------------------------


class Somebody(AnonymousUser):
    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return perm == "pysmtpx_outbox.change_message"


def test_the_admin_resends_cancels_and_changes_nothing_else(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(MessageAdmin, "message_user", lambda self, request, text: told.append(text))
    page = MessageAdmin(Message, admin.site)
    request = RequestFactory().get("/")
    request.user = Somebody()
    assert set(page.get_actions(request)) == {"resend", "resend_doubtful", "cancel"}
    assert not page.has_add_permission(request)
    assert not page.has_change_permission(request)
    assert not page.has_delete_permission(request)
    number = rows.put(payload("a@x.example", "b@x.example", "c@x.example"), using=ALIAS)
    with OutboxStore(using=ALIAS) as found:
        found.take(1)
        found.doubt([(number, ["a@x.example"])])
        refused = Fate("b@x.example", "refused", "550 no", "rcpt")
        found.settle(number, [refused], tries=1)
    chosen = Message.objects.using(ALIAS).all()
    page.cancel(request, chosen)
    assert fates(number) == {"a@x.example": "doubt", "b@x.example": "refused", "c@x.example": "refused"}
    page.resend(request, chosen)
    assert fates(number) == {"a@x.example": "doubt", "b@x.example": "queued", "c@x.example": "queued"}
    page.resend_doubtful(request, chosen)
    assert set(fates(number).values()) == {"queued"}
    assert told == ["1 recipients cancelled", "2 recipients queued again", "1 recipients queued again"]
    request.user = AnonymousUser()
    assert page.get_actions(request) == {}


def test_the_search_finds_a_recipient_once(database: Any) -> None:
    page = MessageAdmin(Message, admin.site)
    request = RequestFactory().get("/")
    rows.put(payload("ann@x.example", "anna@x.example"), using=ALIAS, subject="Order 17")
    rows.put(payload("bob@x.example"), using=ALIAS)
    everything = Message.objects.using(ALIAS).all()
    for words in ("ann", "17"):
        found, is_many = page.get_search_results(request, everything, words)
        assert (found.distinct() if is_many else found).count() == 1


def test_purged_is_what_is_over(database: Any) -> None:
    done, _ = (rows.put(payload("a@x.example"), using=ALIAS) for _ in range(2))
    rows.cancel(done, using=ALIAS)
    call_command("purge_outbox", days=1, database=ALIAS, verbosity=0)
    assert Message.objects.using(ALIAS).count() == 2
    call_command("purge_outbox", days=-1, database=ALIAS, verbosity=0)
    assert list(Message.objects.using(ALIAS).values_list("pk", flat=True)) != [done]
    assert Message.objects.using(ALIAS).count() == 1


# -- settings ----------------------------------------------------------------------------------------


def test_without_an_outbox_in_the_settings_the_command_says_so(site: Any) -> None:
    with MailServer() as server:
        site.use(server)
        with pytest.raises(CommandError, match="OutboxEmailBackend"):
            call_command("send_outbox")


@pytest.mark.parametrize(
    "options",
    [{"keep": 0}, {"expires_after": "soon"}, {"on_commit": "no.such"}, {"retry": 3}, {"priority": "urgent"}],
)
def test_options_that_cannot_be_right_are_told(project: Any, options: dict[str, Any]) -> None:
    with MailServer() as server:
        project(server, **options)
        with pytest.raises(ImproperlyConfigured):
            outboxes()


def test_numbers_as_texts_of_the_environment(project: Any) -> None:
    with MailServer() as server:
        project(server, keep="3600", expires_after="60.5", max_size="1000")
        (outbox,) = outboxes()
        assert (outbox.keep, outbox._expires_after, outbox._max_size) == (3600.0, 60.5, 1000)
    for wrong in ({"keep": "nan"}, {"expires_after": "inf"}, {"max_size": "ten"}):
        with MailServer() as server:
            project(server, **wrong)
            with pytest.raises(ImproperlyConfigured, match=next(iter(wrong))):
                outboxes()


def test_a_mailer_that_is_no_outbox_is_named(project: Any) -> None:
    with MailServer() as server:
        project(server)
        with pytest.raises(CommandError, match=r"MAILERS\['smtp'\] is no OutboxEmailBackend"):
            call_command("send_outbox", mailer="smtp")


def test_a_database_that_is_away_when_it_tidies_keeps_nobody_from_sending(
    project: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(outbox_store, "purge", fail)
    with MailServer() as server:
        project(server)
        put(project, "a@x.example")
        sending.send_outbox(forever=True, is_stopped=lambda: len(server.messages) == 1)
    assert "could not be forgotten" in caplog.text


def test_whoever_sends_forgets_what_is_old(project: Any) -> None:
    with MailServer() as server:
        project(server, keep=60)
        old = put(project, "a@x.example")
        rows.cancel(old, using=ALIAS)
        Message.objects.using(ALIAS).update(queued=datetime.now(UTC) - timedelta(seconds=90))
        put(project, "b@x.example")
        call_command("send_outbox")
        assert [each.subject for each in Message.objects.using(ALIAS).exclude(pk=old)] == ["Hello"]
        assert not Message.objects.using(ALIAS).filter(pk=old).exists()


def test_a_journal_beside_the_outbox_is_refused(project: Any, site: Any, tmp_path: Path) -> None:
    with MailServer() as server:
        project(server, {"journal": str(tmp_path / "mail.db")})
        with pytest.raises(CommandError, match="has a journal, and the outbox is one"):
            call_command("send_outbox")
        (told,) = [each for each in check_mail(None) if each.id == "pysmtpx.E001"]
        assert "smtp" in told.msg if site.by_mailers else "PYSMTPX" in told.msg


def test_the_tables_are_what_the_models_say() -> None:
    call_command("makemigrations", "pysmtpx_outbox", check=True, dry_run=True, verbosity=0)


class Plans:
    """The plans of all statements on this thread's connection, meanwhile; SQLite's."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("SELECT", "UPDATE", "DELETE")):
            with connections[ALIAS].cursor() as cursor:
                plain = cursor.cursor
                plain.execute(f"EXPLAIN QUERY PLAN {sql}", params)
                self.found += [(sql, row[3]) for row in plain.fetchall()]
        return execute(sql, params, many, context)

    def scans(self) -> list[tuple[str, str]]:
        """Those that look at a whole table, or sort what they found."""
        whole = ("SCAN pysmtpx_outbox", "USE TEMP B-TREE FOR ORDER BY")
        return [(sql, plan) for sql, plan in self.found if plan.startswith(whole)]


def test_no_statement_looks_at_more_than_it_needs(database: Any) -> None:
    """However many wait, or are over, or are due later: what a worker does costs the same."""
    if connections[ALIAS].vendor != "sqlite":
        return
    number, other = (rows.put(payload("a@x.example"), using=ALIAS, key=f"{n}") for n in range(2))
    fate = Fate("a@x.example", "accepted", "250 ok")
    store = OutboxStore(using=ALIAS)
    plans = Plans()
    with connections[ALIAS].execute_wrapper(plans):
        rows.put(payload("a@x.example"), using=ALIAS, key="0")
        for action in (
            lambda: store._take(10),
            lambda: rows.locked(ALIAS, [number], owner=store._owner).update(until=time.time() + LEASE),
            lambda: store._doubt([(number, ["a@x.example"])]),
            lambda: store._settle(number, [fate], tries=1, due=None, keep=False),
            store._release_all,
        ):
            store._transact(action)
        rows.cancel(other, using=ALIAS)
        rows.retry(other, using=ALIAS, doubtful=True)
        assert rows.purge(time.time() + 1, using=ALIAS) == 1
    assert len(plans.found) > 30
    assert plans.scans() == []
    assert any("pysmtpx_outbox_ready" in plan for _, plan in plans.found)


def test_a_list_of_the_admin_ends(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither counts all messages, nor reads what they contain."""
    monkeypatch.setattr(outbox_admin, "_MOST", 3)
    numbers = [rows.put(payload(f"{n}@x.example"), using=ALIAS) for n in range(5)]
    rows.cancel(numbers[0], using=ALIAS)
    page = MessageAdmin(Message, admin.site)
    request = RequestFactory().get("/", {"state": "queued"})
    request.user = Somebody()
    monkeypatch.setattr(page, "get_queryset", lambda request: queryset.using(ALIAS))
    queryset = MessageAdmin.get_queryset(page, request)
    found = page.get_changelist_instance(request)
    assert [each.pk for each in found.result_list] == numbers[:1:-1]
    assert "payload" in found.result_list[0].get_deferred_fields()
    request.GET = {}
    assert page.get_paginator(request, Message.objects.using(ALIAS), 100).count == 3
    monkeypatch.setattr(page, "message_user", lambda request, text: None)
    page.cancel(request, Message.objects.using(ALIAS).all())
    assert set(Message.objects.using(ALIAS).filter(is_owed=True).values_list("pk", flat=True)) == {numbers[1]}

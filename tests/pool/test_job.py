"""One message in a pool: frozen, tried again for those still owed, resolved exactly once."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.messages import big_nested, legacy, octets, read, simple

from pysmtpx.errors import (
    ConnectionLost,
    DeliveryUnknown,
    InputError,
    NotSupportedError,
    SmtpError,
    Timeout,
    UsageError,
)
from pysmtpx.flow.plan import Options, Plan
from pysmtpx.net.deadline import Deadline
from pysmtpx.pooling.backoff import Backoff
from pysmtpx.pooling.blame import Blame
from pysmtpx.pooling.connection import PooledConnection, PooledServer
from pysmtpx.pooling.job import Envelope, Job
from pysmtpx.retry import RetryPolicy
from pysmtpx.server import Server
from pysmtpx.wire.capabilities import Capabilities
from pysmtpx.wire.envelope import MailObject
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.params import MailFromParams, RcptToParams
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import RejectedRecipient, SendResult

A, B, C = (f"{name}@x.example" for name in "abc")
BODY = b"Subject: x\r\n\r\nhello\r\n"
EVERYTHING = Capabilities.from_reply(
    Reply(250, (b"mail.example", b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"DSN", b"CHUNKING"))
)
NOTHING = Capabilities.none()
OK, LATER, NEVER = Reply(250), Reply(451), Reply(550)
QUICK = RetryPolicy(backoff=1, jitter=0)


def mail(*recipients: str, content: Any = BODY, **params: Any) -> MailObject:
    return MailObject("s@x.example", recipients or (A, B, C), content, **params)


class Line:
    """A channel without a socket."""

    is_tls = False
    allowance = None


def on(capabilities: Capabilities = EVERYTHING) -> PooledConnection:
    """A connection to a server that offers so much."""
    connection = PooledConnection(PooledServer(Server("a.example"), Backoff(1)), 0.0)
    connection.channel, connection.capabilities = Line(), capabilities  # type: ignore[assignment]
    return connection


def plan_of(job: Job, capabilities: Capabilities = EVERYTHING, **options: Any) -> Plan:
    return job.plan(on(capabilities), **options)


def refusal_of(job: Job, capabilities: Capabilities = EVERYTHING) -> SmtpError:
    with pytest.raises(SmtpError) as caught:
        job.plan(on(capabilities))
    return caught.value


def sent(job: Job, capabilities: Capabilities = EVERYTHING) -> MailObject:
    return plan_of(job, capabilities).mail


def lost(*unsent: str, stage: Stage = Stage.MAIL) -> ConnectionLost:
    error = ConnectionLost("", stage=stage)
    error.unsent_recipients = unsent
    return error


def result(*accepted: str, refused: tuple[str, ...] = (), reply: Reply = LATER) -> SendResult:
    rejected = tuple(RejectedRecipient(path, reply, Stage.RCPT) for path in refused)
    return SendResult(accepted, rejected, OK, (OK,) * len(accepted))


# -- what is sent -----------------------------------------------------------------------------


def test_the_plan_has_the_options_of_the_message() -> None:
    plan = plan_of(Job(mail(), options=Options(all_or_nothing=True)))
    assert plan.mail.recipients == (A, B, C)
    assert plan.options == Options(all_or_nothing=True)


def test_by_bdat_where_that_is_asked_for_the_connection() -> None:
    assert [plan_of(Job(mail()), bdat=bdat).options.bdat for bdat in (False, True)] == [False, True]


def test_what_a_server_does_not_offer_is_told_in_place_of_a_plan() -> None:
    error = refusal_of(Job(mail(content="Subject: x\r\n\r\nhällo\r\n".encode())), NOTHING)
    assert isinstance(error, NotSupportedError)
    assert error.unsent_recipients == (A, B, C)


def test_a_retry_goes_to_those_still_owed_with_their_own_parameters() -> None:
    params = [RcptToParams(orcpt=f"rfc822;{n}@y.example") for n in range(3)]
    job = Job(mail(A, A, B, rcpt_params=params, mail_params=MailFromParams(envid="e1")))
    assert sent(job).rcpt_params == tuple(params)
    job.note(result(A, refused=(A, B)), RetryPolicy(temporary=True), 0)
    again = sent(job)
    assert again.recipients == (A, B)
    assert again.rcpt_params == tuple(params[1:])
    assert again.mail_params == MailFromParams(envid="e1")
    assert job.recipients_count == 2
    assert job.recipients == (A, A, B)


def test_a_message_keeps_its_date_and_message_id_in_every_try() -> None:
    job = Job(simple(Subject="x"))
    first = read(sent(job))
    assert first["Message-ID"]
    assert first["Date"]
    job.note(lost("b@x.org"), QUICK, 0)
    assert octets(sent(job)) == octets(sent(job, NOTHING))
    assert read(sent(job)).items() == first.items()


@pytest.mark.parametrize("make", [big_nested, lambda: legacy(body="Grüße")])
def test_a_message_is_written_again_for_a_server_without_8bitmime(make: Callable[[], Any]) -> None:
    message = make()
    if not isinstance(message, EmailMessage):
        message.set_payload("Grüße\n".encode(), "utf-8")
        message.replace_header("Content-Transfer-Encoding", "8bit")
        message.set_payload("Grüße\n".encode().decode("ascii", "surrogateescape"))
    job = Job(message)
    wide, narrow, wide_again = sent(job), sent(job, NOTHING), sent(job)
    assert not octets(wide).isascii()
    assert octets(narrow).isascii()
    assert octets(wide_again) == octets(wide)
    assert octets(sent(job, NOTHING)) == octets(narrow)
    for name in ("Date", "Message-ID", "From", "To", "Subject"):
        assert read(narrow).get_all(name) == read(wide).get_all(name)
    assert b"\nDate: " in octets(narrow)
    assert b"\nMessage-ID: " in octets(narrow)
    assert "Bcc:" not in read(narrow)
    assert narrow.recipients == wide.recipients
    assert [p.get_payload(decode=True) for p in read(narrow).walk() if not p.is_multipart()] == [
        p.get_payload(decode=True) for p in read(wide).walk() if not p.is_multipart()
    ]
    assert "Message-ID" not in message


def test_a_message_that_needs_smtputf8_goes_where_it_is_offered_only() -> None:
    job = Job(simple(To="jürgen@x.org"))
    error = refusal_of(job, NOTHING)
    assert isinstance(error, NotSupportedError)
    assert error.unsent_recipients == ("jürgen@x.org",)
    assert sent(job).mail_params == MailFromParams(smtputf8=True)


def test_the_envelope_given_outranks_the_headers() -> None:
    envelope = Envelope("", [A, B], None, [RcptToParams(), RcptToParams()])
    job = Job(simple(), envelope=envelope)
    assert (sent(job).sender, sent(job).recipients, job.recipients_count) == ("", (A, B), 2)


def test_octets_and_files_are_messages_too() -> None:
    text = b"From: a@x.org\r\nTo: b@x.org\r\n\r\nhi\r\n"
    for message in (text, bytearray(text), io.BytesIO(text)):
        job = Job(message)
        first = octets(sent(job))
        assert first.endswith(text)
        assert re.search(rb"(?m)^Message-ID: ", first)
        job.note(lost("b@x.org"), QUICK, 0)
        assert octets(sent(job)) == first  # a file from where it stood


@pytest.mark.parametrize("message", [EmailMessage(), b"no header\r\n\r\n", 7])
def test_a_message_without_an_envelope_is_an_error_and_no_more(message: Any) -> None:
    job = Job(message)
    job.freeze()
    assert job.recipients_count == 1
    error = refusal_of(job)
    assert isinstance(error, InputError)
    assert job.note(error, RetryPolicy(), 0) is None
    assert job.outcome is error
    assert (job.status, job.recipients) == ("unsent", ())


def test_a_flaw_that_the_caller_mends_after_the_freeze_stays() -> None:
    """FAULTS 98."""
    message = EmailMessage()
    job = Job(message)
    job.freeze()
    message["From"], message["To"] = A, B
    assert isinstance(refusal_of(job), InputError)


def test_a_mail_object_has_its_envelope() -> None:
    with pytest.raises(UsageError, match="envelope of its own"):
        Job(mail(), envelope=Envelope(recipients=[A]))


# -- frozen -----------------------------------------------------------------------------------


def test_what_changes_after_the_freeze_changes_nothing() -> None:
    """FAULTS 98: a message that is mutated after it was submitted."""
    message = simple(Subject="Grüße")
    message.set_content("Grüße\n", cte="8bit")
    job = Job(message)
    job.freeze()
    before = octets(sent(job))
    message.replace_header("Subject", "changed")
    message["Bcc"] = "else@x.org"
    message.set_content("changed\n")
    assert octets(sent(job)) == before
    assert b"changed" not in octets(sent(job, NOTHING))
    assert sent(job, NOTHING).recipients == ("b@x.org",)
    assert job.mail is message


@pytest.mark.parametrize("wrap", [bytes, bytearray, lambda data: memoryview(bytearray(data))])
def test_a_buffer_is_copied_by_the_freeze(wrap: Callable[[bytes], Any]) -> None:
    """FAULTS 98."""
    data = wrap(BODY)
    given = mail(content=data, rcpt_params=[None, RcptToParams(notify="NEVER"), None])
    job = Job(given)
    job.freeze()
    if not isinstance(data, bytes):
        data[-4:-2] = b"!!"
    assert octets(sent(job)) == BODY
    assert sent(job).rcpt_params == given.rcpt_params
    assert job.mail is given


def test_a_call_in_its_own_thread_copies_nothing() -> None:
    given = mail(content=bytearray(BODY))
    assert sent(Job(given)) is given


# -- tries --------------------------------------------------------------------------------------


def test_tries_until_the_attempts_are_used_up() -> None:
    job = Job(mail(A), began=0.0)
    policy = RetryPolicy(attempts=3, backoff=1, jitter=0)
    errors = [lost(A) for _ in range(3)]
    delays = []
    for error, moment in zip(errors, (10, 20, 30), strict=True):
        assert job.begin(moment)
        delays.append(job.note(error, policy, moment))
    assert delays == [1, 2, None]
    assert (job.attempts, job.began, job.outcome) == (3, 10, errors[-1])


def test_one_attempt_is_never_again() -> None:
    assert Job(mail()).note(lost(A, B, C), RetryPolicy(attempts=1), 0) is None


def test_no_try_begins_behind_the_deadline() -> None:
    assert Job(mail(), deadline=Deadline.after(0.5)).note(lost(A, B, C), QUICK, 0) is None
    assert Job(mail(), deadline=Deadline.after(60)).note(lost(A, B, C), QUICK, 0) == 1
    assert Job(mail(), deadline=Deadline(float("-inf"))).note(Timeout(""), RetryPolicy(), 0) is None


def test_no_try_begins_after_the_total() -> None:
    policy = RetryPolicy(total=10, backoff=1, jitter=0)
    for moment, delay in ((108.9, 1), (109.1, None)):
        job = Job(mail(), began=0.0)
        job.begin(100.0)
        assert job.note(lost(A, B, C), policy, moment) == delay


@pytest.mark.parametrize(
    "outcome",
    [DeliveryUnknown(""), InputError(""), NotSupportedError(""), UsageError(""), result(A, B, C)],
    ids=lambda each: type(each).__name__,
)
def test_what_is_never_tried_again(outcome: SendResult | SmtpError) -> None:
    assert Job(mail()).note(outcome, RetryPolicy(temporary=True), 0) is None


def test_a_refusal_for_now_is_tried_again_where_it_is_asked_for() -> None:
    outcome = result(A, refused=(B, C))
    assert Job(mail()).note(outcome, QUICK, 0) is None
    job = Job(mail())
    assert job.note(outcome, RetryPolicy(temporary=True, backoff=1, jitter=0), 0) == 1
    assert job.note(result(B, C), RetryPolicy(temporary=True), 0) is None
    assert job.outcome == result(A, B, C)
    assert job.status == "accepted"


def test_content_that_was_read_and_can_be_read_only_once_is_not_tried_again() -> None:
    for is_read, delay in ((False, 1), (True, None)):
        job = Job(mail(content=iter([BODY])))
        plan = plan_of(job)
        if is_read:
            assert b"".join(map(bytes, plan.content.for_data())) == BODY
        error = lost(A, B, C)
        assert job.note(error, QUICK, 0) == delay
        assert job.outcome is error


def test_an_error_that_names_nobody_is_made_to_account_for_all() -> None:
    job, error = Job(mail()), ConnectionLost("no connection", stage=Stage.CONNECT)
    job.note(error, RetryPolicy(attempts=1), 0)
    assert error.unsent_recipients == (A, B, C)


def test_connections_that_died_unseen_cost_no_try_but_not_for_ever() -> None:
    """FAULTS 87: a silent retry, and an end to that where a whole pool is dead."""
    job, found = Job(mail()), []
    for _ in range(5):
        found.append(job.may_spare)
        job.spare(Blame(spares=True, retires=True))
    assert found == [True, True, True, False, False]
    assert job.attempts == 0


def test_behind_a_message_that_broke_the_connection_it_costs_none_for_ever() -> None:
    job = Job(mail())
    for _ in range(9):
        job.spare(Blame(spares=True, is_sure=True))
        assert job.may_spare


# -- the end ------------------------------------------------------------------------------------


def test_a_future_gets_the_result() -> None:
    future: Future[SendResult] = Future()
    job = Job(mail(A), future=future)
    assert job.begin()
    assert future.running()
    outcome = result(A)
    assert job.note(outcome, RetryPolicy(), 0) is None
    assert [job.finish() for _ in range(3)] == [True, False, False]
    assert future.result(timeout=0) is outcome
    assert not job.begin()


def test_a_future_gets_the_error() -> None:
    future: Future[SendResult] = Future()
    job = Job(mail(A), future=future)
    error = lost(A)
    job.note(error, RetryPolicy(attempts=1), 0)
    assert job.finish()
    assert future.exception(timeout=0) is error


def test_a_callback_is_told_once_and_after_the_future() -> None:
    told: list[Job] = []
    future: Future[SendResult] = Future()

    def done(job: Job) -> None:
        assert future.done()
        assert not job.finish()  # it may do anything: no lock is held
        told.append(job)

    job = Job(mail(A), future=future, done=done)
    job.note(result(A), RetryPolicy(), 0)
    job.finish()
    job.end(lost(A))
    assert told == [job]


def test_a_future_that_was_cancelled_before_it_began_stays_so() -> None:
    """FAULTS 98: cancel()."""
    future: Future[SendResult] = Future()
    told: list[Job] = []
    job = Job(mail(), future=future, done=told.append)
    assert future.cancel()
    assert not job.begin()
    assert wait([future], timeout=0).not_done == set()  # whoever waits for it was told
    assert not job.finish()
    assert not job.end(lost(A))
    with pytest.raises(CancelledError):
        future.result(timeout=0)
    assert told == []


def test_what_has_begun_cannot_be_cancelled_between_its_tries() -> None:
    future: Future[SendResult] = Future()
    job = Job(mail(A), future=future)
    assert job.begin()
    job.note(lost(A), QUICK, 0)
    assert not future.cancel()
    assert job.begin()


def test_what_was_never_tried_ends_with_the_error_given() -> None:
    """FAULTS 93: queued work ends unsent, and names whom it was not sent to."""
    future: Future[SendResult] = Future()
    job, error = Job(simple(), future=future), ConnectionLost("the pool was closed", stage=Stage.INPUT)
    assert job.end(error)
    assert not job.end(error)
    assert future.exception(timeout=0) is error
    assert error.unsent_recipients == ("b@x.org",)
    assert (job.attempts, job.status) == (0, "unsent")


def test_between_its_tries_it_ends_with_what_is_known() -> None:
    job = Job(mail())
    job.note(result(A, refused=(B, C)), RetryPolicy(temporary=True), 0)
    assert job.end(ConnectionLost("the pool was closed"))
    assert job.outcome == result(A, refused=(B, C))


def test_finished_without_a_word_it_is_unsent() -> None:
    job = Job(mail())
    assert job.finish()
    assert isinstance(job.outcome, ConnectionLost)
    assert job.outcome.unsent_recipients == (A, B, C)


def test_of_many_threads_one_resolves_it() -> None:
    """FAULTS 93: each future resolves once, whoever comes first; no reliance on the GIL."""
    crowd, rounds = 8, 50
    barrier = threading.Barrier(crowd)
    futures = [Future[SendResult]() for _ in range(rounds)]
    calls: list[list[int]] = [[] for _ in range(rounds)]
    jobs = [
        Job(mail(A), future=future, done=lambda job, told=told: told.append(1))
        for future, told in zip(futures, calls, strict=True)
    ]
    wins: list[list[bool]] = [[] for _ in range(crowd)]

    def race(number: int) -> None:
        for job, future in zip(jobs, futures, strict=True):
            barrier.wait()
            if number == 0:
                wins[number].append(future.cancel())
            elif number % 2:
                wins[number].append(job.finish())
            else:
                wins[number].append(job.end(lost(A)))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(crowd)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(future.done() for future in futures)
    for future, told, *won in zip(futures, calls, *wins, strict=True):
        assert won.count(True) == 1
        assert len(told) == (0 if future.cancelled() else 1)


def test_what_it_shows_of_itself_is_no_address_and_no_content() -> None:
    job = Job(mail(content=b"Subject: secret\r\n\r\n"))
    job.note(lost(A, B, C), QUICK, 0)
    assert repr(job) == "<Job unsent, 1 tries, 3 recipients>"


# -- whatever comes -----------------------------------------------------------------------------


@given(
    count=st.integers(1, 5),
    fates=st.lists(
        st.lists(st.sampled_from(["ok", "later", "never", "lost"]), min_size=5, max_size=5), max_size=6
    ),
    attempts=st.integers(1, 4),
)
def test_each_recipient_is_sent_to_until_it_is_settled(
    count: int, fates: list[list[str]], attempts: int
) -> None:
    """Every recipient once in the end; whoever accepted is in no later plan; parameters go with the place."""
    paths = [f"r{i}@x.example" for i in range(count)]
    params = [RcptToParams(orcpt=f"rfc822;o{i}@x.example") for i in range(count)]
    job = Job(mail(*paths, rcpt_params=params))
    policy = RetryPolicy(attempts=attempts, temporary=True)
    accepted: set[str] = set()
    for fate in fates:
        plan = plan_of(job)
        batch = plan.mail.recipients
        assert not accepted & set(batch)
        assert plan.mail.rcpt_params == tuple(params[paths.index(path)] for path in batch)
        assert len(plan.envelope) == 1 + len(batch)
        good = tuple(path for path in batch if fate[paths.index(path)] == "ok")
        silent = tuple(path for path in batch if fate[paths.index(path)] == "lost")
        codes = {"later": LATER, "never": NEVER}
        bad = tuple(
            RejectedRecipient(path, codes[fate[paths.index(path)]], Stage.RCPT)
            for path in batch
            if fate[paths.index(path)] in codes
        )
        outcome: SendResult | SmtpError = SendResult(good, bad, OK, (OK,) * len(good))
        if silent or not good:
            outcome = ConnectionLost("", stage=Stage.DATA)
            outcome.accepted_recipients, outcome.rejected_recipients = good, bad
            outcome.unsent_recipients = silent
        accepted |= set(good)
        if job.note(outcome, policy, 0) is None:
            break
    job.finish()
    final = job.outcome
    assert final is not None
    told = [*final.accepted_recipients, *(each.recipient for each in final.rejected_recipients)]
    told += [*final.unsent_recipients, *final.unknown_recipients] if isinstance(final, SmtpError) else []
    assert sorted(told) == sorted(paths)
    assert set(final.accepted_recipients) == accepted
    assert job.attempts <= attempts

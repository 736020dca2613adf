"""The one hook for whoever watches: steps, replies and events; and what an observer can do to the sending."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from smtplib import SMTPRecipientsRefused
from typing import Any

import pytest
from support.certs import client_context, server_context
from support.patience import LONG

import pysmtpx.smtplib
from pysmtpx import (
    AllRecipientsFailed,
    Event,
    InputError,
    MailObject,
    Outcome,
    RetryPolicy,
    SendResult,
    SmtpError,
    SmtpPool,
    connect,
    observing,
)
from pysmtpx.observing import Observer, Peer, Step
from pysmtpx.testing import MailServer

SENDER, RECIPIENT, CONTENT = "s@x.example", "a@x.example", b"Subject: x\r\n\r\nhello\r\n"


class Notes(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.ended: list[Step] = []
        self.replies: list[tuple[str, int]] = []
        self.events: list[Event] = []
        self.inside: list[str] = []

    def begin(self, step: Step) -> None:
        assert step.seconds is None
        self.steps.append(("begin", step.name))

    def end(self, step: Step) -> None:
        assert step.seconds is not None
        assert step.seconds >= 0
        self.steps.append(("end", step.name))
        self.ended.append(step)

    def enter(self, step: Step) -> str:
        self.inside.append(step.name)
        return step.name

    def leave(self, entered: Any) -> None:
        assert self.inside.pop() == entered

    def replied(self, peer: Peer, stage: Any, reply: Any, seconds: float) -> None:
        assert seconds >= 0
        self.replies.append((stage.value, reply.code))

    def tell(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def notes() -> Iterator[Notes]:
    made = Notes()
    observing.add(made)
    observing.add(made)
    yield made
    observing.remove(made)
    observing.remove(made)
    assert observing.observers == ()
    assert made.inside == []
    begun = [name for kind, name in made.steps if kind == "begin"]
    assert sorted(begun) == sorted(name for kind, name in made.steps if kind == "end")


def test_a_message_on_a_connection_step_by_step(notes: Notes) -> None:
    with MailServer(ssl_context=server_context(), tls="starttls", users={"ann": "pw"}) as server:
        options: dict[str, Any] = {"username": "ann", "password": "pw", "ssl_context": client_context()}
        with connect(
            server.host, server.port, tls="starttls", server_hostname="localhost", **options
        ) as smtp:
            smtp.send(SENDER, RECIPIENT, CONTENT)
        name = f"{server.host}:{server.port}"
    assert [name for kind, name in notes.steps if kind == "end"] == ["dial", "tls", "auth", "connect", "send"]
    dial, tls, auth, connected, sent = notes.ended
    assert {step.server for step in notes.ended} == {name}
    assert dial.parent is tls.parent is auth.parent is connected
    assert sent.link is connected
    assert isinstance(sent.outcome, SendResult)
    assert dial.details == {"address": "127.0.0.1"}
    assert tls.details["tls_version"].startswith("TLSv1")
    stages = [stage for stage, _ in notes.replies]
    for stage in ("greeting", "hello", "starttls", "auth", "mail", "rcpt", "data", "final"):
        assert stage in stages
    assert [event.kind for event in notes.events] == ["connected", "sent", "closed"]


def test_a_pools_message_has_a_try_and_its_events(notes: Notes) -> None:
    with MailServer() as server, SmtpPool(server.url) as pool:
        pool.send(SENDER, RECIPIENT, CONTENT)
        pool.submit(MailObject(SENDER, [RECIPIENT], CONTENT)).result(60)
    tries = [step for step in notes.ended if step.name == "try"]
    sends = [step for step in notes.ended if step.name == "send"]
    assert [step.parent for step in tries] == sends
    assert [event.kind for event in notes.events] == ["connected", "sent", "sent", "closed"]


def test_a_message_by_the_smtplib_face(notes: Notes) -> None:
    with MailServer(ssl_context=server_context(), tls="starttls", users={"ann": "pw"}) as server:
        with pysmtpx.smtplib.SMTP("localhost", server.port) as smtp:
            smtp.starttls(context=client_context())
            smtp.login("ann", "pw")
            smtp.sendmail(SENDER, RECIPIENT, CONTENT)
        name = f"localhost:{server.port}"
    assert [step.name for step in notes.ended] == ["dial", "connect", "tls", "auth", "send"]
    assert {step.server for step in notes.ended} == {name}
    assert isinstance(notes.ended[-1].outcome, SendResult)
    assert {"auth", "mail", "rcpt", "data", "final"} <= {stage for stage, _ in notes.replies}
    assert [event.kind for event in notes.events] == ["sent"]


def test_a_refusal_by_the_smtplib_face(notes: Notes) -> None:
    with (
        MailServer(refuse={RECIPIENT: "550 5.1.1 no"}) as server,
        pysmtpx.smtplib.SMTP(server.host, server.port) as smtp,
        pytest.raises(SMTPRecipientsRefused),
    ):
        smtp.sendmail(SENDER, RECIPIENT, CONTENT)
    assert isinstance(notes.ended[-1].outcome, AllRecipientsFailed)
    assert [event.kind for event in notes.events] == ["refused"]


@pytest.mark.parametrize("what", [Notes, object(), print])
def test_what_is_no_observer_is_refused_at_once(what: Any) -> None:
    with pytest.raises(InputError, match="an observer is an object"):
        observing.add(what)


def test_nothing_is_begun_without_an_observer() -> None:
    assert observing.begin("send") is None
    with observing.scope("connect") as step:
        assert step is None


def test_what_an_observer_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS 92."""

    class Broken(Observer):
        def begin(self, step: Step) -> None:
            raise KeyError("begin")

        end = replied = tell = enter = leave = begin  # type: ignore[assignment]

    broken = Broken()
    observing.add(broken)
    try:
        with MailServer() as server:
            with SmtpPool(server.url) as pool:
                assert pool.send(SENDER, RECIPIENT, CONTENT).accepted_recipients == (RECIPIENT,)
                assert pool.submit(MailObject(SENDER, [RECIPIENT], CONTENT)).result(60)
            with connect(server.url) as smtp:
                assert smtp.send(SENDER, RECIPIENT, CONTENT)
            assert len(server.messages) == 3
    finally:
        observing.remove(broken)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert errors
    assert all(vars(record)["smtp_event"] == "failed" for record in errors)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("method", ["begin", "end", "enter", "leave", "replied", "tell"])
@pytest.mark.parametrize("name", ["send", "try"])
def test_an_observer_that_ends_its_thread_takes_no_outcome_with_it(method: str, name: str) -> None:
    """FAULTS 92: SystemExit goes through everything; whoever has the message is told to have it."""
    armed = list[bool]()

    def leave(observer: Observer, *args: Any) -> None:
        if armed and (not isinstance(args[0], Step) or args[0].name == name):
            armed.clear()
            raise SystemExit

    observer = type("Leaving", (Observer,), {method: leave})()
    mails = [MailObject(SENDER, [RECIPIENT], CONTENT) for _ in range(3)]
    with MailServer() as server, SmtpPool(server.url, max_connections=1) as pool:
        pool.submit(mails[0]).result(LONG)  # what is dialled for it is no matter here
        observing.add(observer)
        try:
            outcomes = []
            for mail in mails:
                if method != "begin" or name == "try":  # that would be in this thread
                    armed.append(True)
                future = pool.submit(mail)
                outcomes.append(Outcome.of(mail, future.exception(LONG) or future.result()))
        finally:
            observing.remove(observer)
        delivered = len(server.messages) - 1
    told = [each.status for each in outcomes]
    assert len(told) == 3
    assert told.count("accepted") <= delivered <= told.count("accepted") + told.count("unknown")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_policy_that_ends_its_thread_takes_no_outcome_with_it() -> None:
    """FAULTS 92."""

    def leave(error: SmtpError) -> bool:
        raise SystemExit

    policy = RetryPolicy(temporary=True, retryable=leave)
    with (
        MailServer(refuse={RECIPIENT: "451 4.3.0 later"}) as server,
        SmtpPool(server.url, retry=policy) as pool,
    ):
        error = pool.submit(MailObject(SENDER, [RECIPIENT], CONTENT)).exception(LONG)
    assert isinstance(error, AllRecipientsFailed)


def test_of_mail_that_an_observer_sends_it_is_told_nothing() -> None:
    with MailServer() as server, MailServer() as reports:

        class Mails(Observer):
            def end(self, step: Step) -> None:
                with connect(reports.url) as smtp:
                    smtp.send(SENDER, RECIPIENT, CONTENT)

        mails = Mails()
        observing.add(mails)
        try:
            with connect(server.url) as smtp:
                smtp.send(SENDER, RECIPIENT, CONTENT)
        finally:
            observing.remove(mails)
        assert len(server.messages) == 1
        assert len(reports.messages) == 3  # of the dial, the connection and the message


def test_an_interrupt_ends_the_step(notes: Notes) -> None:
    def content() -> Iterator[bytes]:
        yield b"Subject: x\r\n\r\n"
        raise KeyboardInterrupt

    with (
        MailServer(strict=False) as server,
        connect(server.url) as smtp,
        pytest.raises(KeyboardInterrupt),
    ):
        smtp.send(SENDER, RECIPIENT, content())
    (sent,) = [step for step in notes.ended if step.name == "send"]
    assert isinstance(sent.outcome, KeyboardInterrupt)


def test_a_dial_that_fails_ends_with_its_error(notes: Notes) -> None:
    with MailServer() as server:
        url = server.url
    with pytest.raises(SmtpError) as caught:
        connect(url)
    dial, connected = notes.ended
    assert dial.outcome is caught.value
    assert connected.outcome is caught.value


def test_an_observer_that_comes_later_sees_what_begins_from_then_on() -> None:
    made = Notes()
    with MailServer() as server, SmtpPool(server.url) as pool:
        pool.send(SENDER, RECIPIENT, CONTENT)
        observing.add(made)
        pool.send(SENDER, RECIPIENT, CONTENT)
        observing.remove(made)
        pool.send(SENDER, RECIPIENT, CONTENT)
    assert [step.name for step in made.ended] == ["try", "send"]

"""``before_send``: what leaves is what the function made of the finished octets."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
from support import corpus

import pysmtpx
from pysmtpx import (
    InputError,
    MailFromParams,
    MailObject,
    MessageTooLarge,
    NotSupportedError,
    RetryPolicy,
    SmtpPool,
)
from pysmtpx.testing import Event, MailServer

SENDER, TO = "app@example.org", "ann@example.com"
NARROW = ("PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES")
FACES = [pysmtpx.connect, SmtpPool]


def email() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, TO, "x"
    message.set_content("Grüße\n", cte="8bit")
    return message


class Stamp:
    """Writes a field in front, and down what it got."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.made: list[bytes] = []

    def __call__(self, octets: bytes, mail: MailObject) -> bytes:
        assert type(octets) is bytes
        assert b"".join(mail.content.for_bdat(binary=True)) == octets
        self.got.append(octets)
        self.made.append(b"X-Stamp: %d\r\n" % len(self.got) + octets)
        return self.made[-1]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("extensions", [(), NARROW, (*NARROW, "8BITMIME")])
@pytest.mark.parametrize("source", [bytes, bytearray, io.BytesIO, lambda content: iter([content])])
@pytest.mark.parametrize("name", corpus.SEVEN_BIT)
def test_the_octets_are_those_that_leave(
    face: Callable[..., Any], extensions: tuple[str, ...], source: Callable[[bytes], Any], name: str
) -> None:
    if name == "5 MB" and (extensions or source is not bytes):
        return
    content = corpus.SEVEN_BIT[name]
    stamp = Stamp()
    with MailServer(extensions=extensions) as server:
        with face(server.url, before_send=stamp) as client:
            client.send(SENDER, TO, source(content))
        (got,) = server.messages
    assert stamp.got == [corpus.arrives_as(content)]
    assert [got.content] == stamp.made


@pytest.mark.parametrize("extensions", [NARROW, (*NARROW, "8BITMIME")])
def test_an_email_in_the_form_for_this_server(extensions: tuple[str, ...]) -> None:
    for face in FACES:
        stamp = Stamp()
        with MailServer(extensions=extensions) as server:
            with face(server.url, before_send=stamp) as client:
                client.send_message(email())
                assert [each.status for each in client.send_many([email(), email()])] == ["accepted"] * 2
            assert sorted(got.content for got in server.messages) == sorted(stamp.made)
        assert [octets.isascii() for octets in stamp.got] == [extensions is NARROW] * 3


def test_by_bdat_and_in_flight() -> None:
    for face in FACES:
        stamp = Stamp()
        with MailServer() as server:
            if face is SmtpPool:
                with face(server.url, before_send=stamp, in_flight=3) as client:
                    assert all(each.result for each in client.send_many([email()] * 9))
            else:
                with face(server.url, before_send=stamp) as client:
                    assert all(each.result for each in client.send_many([email()] * 8, in_flight=3))
                    client.send_bdat(SENDER, TO, b".x\n")
            assert sorted(got.content for got in server.messages) == sorted(stamp.made)
            assert len(stamp.made) == 9


def test_binarymime_stays_as_it_is() -> None:
    stamp = Stamp()
    content = b"Content-Transfer-Encoding: binary\r\n\r\na\nb\rc\0"
    with MailServer() as server, pysmtpx.connect(server.url, before_send=stamp) as smtp:
        smtp.send_bdat(SENDER, TO, content, MailFromParams(body="BINARYMIME"))
    assert stamp.got == [content]
    assert server.messages[0].content == stamp.made[0]


def test_tries_of_one_form_do_not_call_again() -> None:
    tries: list[Event] = []

    def verdict(event: Event) -> str | None:
        if event.verb != "MAIL":
            return None
        tries.append(event)
        return "451 4.3.0 later" if len(tries) % 3 else None

    stamp = Stamp()
    retry = RetryPolicy(attempts=5, backoff=0.01, temporary=True)
    with MailServer(verdict=verdict) as server, SmtpPool(server.url, before_send=stamp, retry=retry) as pool:
        pool.send_message(email())
        pool.submit(email()).result(20)
        pool.send(SENDER, TO, iter([b"read once\r\n"]))  # and yet tried again: what was read is in memory
        assert [got.content for got in server.messages] == stamp.made
    assert (len(tries), len(stamp.made)) == (9, 3)


def test_each_form_is_called_for_once() -> None:
    """The first server knows 8BITMIME and never has time; the second one does not."""
    stamp = Stamp()
    retry = RetryPolicy(attempts=4, backoff=0.01, temporary=True)
    with (
        MailServer(replies={"MAIL": "421 4.3.2 shutting down"}) as wide,
        MailServer(extensions=NARROW) as narrow,
        SmtpPool([wide.url, narrow.url], before_send=stamp, retry=retry) as pool,
    ):
        pool.send_message(email())
        (got,) = narrow.messages
    assert [octets.isascii() for octets in stamp.got] == [False, True]
    assert got.content == stamp.made[1]
    ids = [
        next(line.lower() for line in made.split(b"\r\n") if line.lower().startswith(b"message-id"))
        for made in stamp.made
    ]
    assert ids[0] == ids[1]


def test_refused_recipients_and_further_transactions_have_the_same_octets() -> None:
    people = [f"p{n}@example.com" for n in range(5)]
    for face in FACES:
        stamp = Stamp()
        with MailServer(extensions=(*NARROW, "LIMITS RCPTMAX=2")) as server:
            with face(server.url, before_send=stamp) as client:
                client.send(SENDER, people, b"Subject: x\r\n\r\n")
            assert [got.content for got in server.messages] == stamp.made * 3
        assert len(stamp.made) == 1


@pytest.mark.parametrize("face", FACES)
def test_what_it_raises_leaves_the_message_unsent(face: Callable[..., Any]) -> None:
    flaw = pysmtpx.ConnectionLost("s3cr3t")

    def fail(octets: bytes, mail: MailObject) -> bytes:
        raise flaw

    with MailServer() as server, face(server.url, before_send=fail) as client:
        for mail in (MailObject(SENDER, TO, b"x\r\n"), email()):
            with pytest.raises(InputError, match="before_send raised ConnectionLost") as caught:
                client.send(SENDER, TO, b"x\r\n")
            assert caught.value.__cause__ is flaw
            assert caught.value.unsent_recipients == (TO,)
            assert not caught.value.safe_to_retry
            assert "s3cr3t" not in str(caught.value)
            (outcome,) = client.send_many([mail])
            assert (outcome.status, outcome.unsent_recipients) == ("unsent", (TO,))
            assert outcome.error is not None
            assert outcome.error.__cause__ is flaw
        assert server.messages == []
    assert not any(connection.transactions for connection in server.ledger.connections)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ("text", InputError, "octets or None, not str"),
        (7, InputError, "octets or None, not int"),
        (["x"], InputError, "octets or None, not list"),
        (b"x" * 999 + b"\r\n", NotSupportedError, "998"),
        (b"a\0b\r\n", NotSupportedError, "NUL"),
        ("ü\r\n".encode(), NotSupportedError, "8BITMIME"),
        ("S: ü\r\n\r\n".encode(), NotSupportedError, "8BITMIME|SMTPUTF8"),
        (b"x\r\n" * 1000, MessageTooLarge, "3000"),
    ],
)
def test_what_it_returns_is_checked(
    face: Callable[..., Any], given: Any, error: type[Exception], match: str
) -> None:
    extensions = (*NARROW, "SIZE 2500")
    with (
        MailServer(extensions=extensions) as server,
        face(server.url, before_send=lambda octets, mail: given) as client,
    ):
        with pytest.raises(error, match=match) as caught:
            client.send(SENDER, TO, b"x\r\n")
        assert caught.value.unsent_recipients == (TO,)
    assert server.messages == []


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("given", [b"a\nb\r.\nc", bytearray(b"a\nb\r.\nc"), memoryview(b"a\nb\r.\nc")])
def test_bare_line_ends_become_whole_ones(face: Callable[..., Any], given: Any) -> None:
    """No end of data can be smuggled; and the next function sees what would leave."""
    seen: list[bytes] = []
    hooks = [lambda octets, mail: given, lambda octets, mail: seen.append(octets)]
    with MailServer() as server, face(server.url, before_send=hooks) as client:
        client.send(SENDER, TO, b"x\r\n")
        (got,) = server.messages
    assert [got.content] == seen == [b"a\r\nb\r\n.\r\nc\r\n"]


def test_it_may_make_it_smaller_than_the_limit() -> None:
    """SIZE counts what leaves."""
    for face in FACES:
        with MailServer(extensions=("SIZE 100",)) as server:
            with face(server.url, before_send=lambda octets, mail: octets[:50]) as client:
                client.send(SENDER, TO, b"x" * 500 + b"\r\n")
                client.send(SENDER, TO, b"x" * 500 + b"\r\n", mail_params=MailFromParams(size=502))
            assert [got.params["SIZE"] for got in server.messages] == ["52", "52"]


def test_nothing_may_be_left_of_it() -> None:
    with MailServer() as server, pysmtpx.connect(server.url, before_send=lambda octets, mail: b"") as smtp:
        smtp.send(SENDER, TO, b"x\r\n")
    assert server.messages[0].content in (b"", b"\r\n")


def test_several_threads_call_it_at_once() -> None:
    both = threading.Barrier(2)

    def meet(octets: bytes, mail: MailObject) -> None:
        both.wait(20)

    with MailServer() as server, SmtpPool(server.url, before_send=meet, max_connections=2) as pool:
        assert all(each.result for each in pool.send_many([email(), email()]))


def test_a_file_that_fails_is_not_the_functions_fault() -> None:
    def chunks() -> Any:
        yield b"x"
        raise OSError("gone")

    for face in FACES:
        with MailServer() as server, face(server.url, before_send=Stamp()) as client:
            with pytest.raises(InputError, match="could not be read") as caught:
                client.send(SENDER, TO, chunks())
            assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("value", ["a.b", [7], 7, b"x", {}])
def test_what_is_no_function_is_refused(value: Any) -> None:
    for make in (pysmtpx.Server, SmtpPool):
        with pytest.raises(InputError, match="before_send"):
            make("localhost", before_send=value)
    assert pysmtpx.Server("localhost", before_send=[]).before_send is None


@pytest.mark.parametrize("option", ["before_send", "allow_recipients"])
def test_a_handler_of_signals_may_end_the_process_meanwhile(option: str) -> None:
    """FAULTS 96: SystemExit is raised again in the main thread."""

    def leave(*_: object) -> bytes:
        raise SystemExit(3)  # as what SIGTERM is told to do often does

    functions: Any = {option: leave}
    mail = pysmtpx.MailObject("a@x.example", "b@x.example", b"Subject: x\r\n\r\n")
    with MailServer() as server:
        with pysmtpx.SmtpPool(server.url, **functions) as pool, pytest.raises(SystemExit):
            pool.send(mail.sender, mail.recipients, b"Subject: x\r\n\r\n")
        with pytest.raises(SystemExit), pysmtpx.connect(server.url, **functions) as smtp:
            smtp.send(mail.sender, mail.recipients, b"Subject: x\r\n\r\n")
        assert server.messages == []


def test_a_function_that_ends_its_thread_leaves_nobody_in_doubt() -> None:
    def leave(octets: bytes, mail: pysmtpx.MailObject) -> bytes:
        raise SystemExit(3)

    mail = pysmtpx.MailObject("a@x.example", "b@x.example", b"Subject: x\r\n\r\n")
    with pysmtpx.SmtpPool("memory://left", before_send=leave) as pool:
        error = pool.submit(mail).exception()
    assert isinstance(error, pysmtpx.InputError)
    assert error.unsent_recipients == ("b@x.example",)

"""The driver of flows: what a flow asks for is done, and whatever leaves it half-read closes the line."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import certs
from support.lines import stream_over

from pysmtpx.channel import Channel
from pysmtpx.driver import Driver
from pysmtpx.errors import (
    AuthenticationError,
    CommandRejected,
    ConnectionLost,
    InputError,
    ProtocolError,
    ServiceUnavailable,
    Timeout,
    TlsError,
    UsageError,
)
from pysmtpx.flow.effects import CLOSE, START_TLS, Flow, Receive, Send
from pysmtpx.flow.plan import Options, Plan, make_plan
from pysmtpx.net.deadline import Deadline
from pysmtpx.net.tls import Tls
from pysmtpx.wire.capabilities import Capabilities, Protocol
from pysmtpx.wire.envelope import MailObject
from pysmtpx.wire.limits import REPLY_LIMITS, Stage
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import SendResult


class Ends:
    """A channel, and the socket of the other side."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(5)
        self.thread: threading.Thread | None = None
        self.channel = Channel(Driver(stream_over(ours), lambda: Tls(certs.client_context(), "mail.test")))

    def run(self, flow: Callable[[], Flow[Any]], seconds: float = 5.0, **options: Any) -> Any:
        return self.channel.run(flow, Deadline.after(seconds), **options)

    def answers(self, reply: bytes) -> None:
        """Say this once something was asked: before that it would be unasked."""

        def speak() -> None:
            self.peer.recv(1, socket.MSG_PEEK)
            self.peer.sendall(reply)

        self.thread = threading.Thread(target=speak)
        self.thread.start()

    def closed(self) -> bool:
        """Whether the other side sees the end, and not an octet before it."""
        return self.peer.recv(1) == b""


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.channel.close()
    if ends.thread is not None:
        ends.thread.join()
    ends.peer.close()


def ask(line: bytes = b"NOOP\r\n", *, stage: Stage = Stage.COMMAND) -> Flow[Reply]:
    yield Send(line)
    reply: Reply = yield Receive(stage)
    return reply


def test_a_flow_gets_what_it_asks_for(ends: Ends) -> None:
    def flow() -> Flow[list[Any]]:
        seen = [(yield Send(b"one\r\n"))]
        ends.peer.sendall(b"250 a\r\n250 b\r\n")
        seen.append((yield Receive(Stage.MAIL, last=False)).text)
        seen.append((yield Send(b"two\r\n")))  # b has been read already
        seen.append((yield Receive(Stage.RCPT)).text)
        return seen

    assert ends.run(flow) == [False, "a", True, "b"]
    assert ends.peer.recv(100) == b"one\r\ntwo\r\n"
    assert not ends.channel.closed


def test_make_is_called_with_the_line_in_hand_and_may_refuse(ends: Ends) -> None:
    """An argument that is wrong costs nothing: not an octet, not the connection."""

    def make() -> Flow[None]:
        raise InputError("wrong")

    with pytest.raises(InputError):
        ends.run(make)
    assert not ends.channel.closed
    ends.peer.sendall(b"")
    ends.channel.close()
    assert ends.closed()


def test_a_fresh_line_may_speak_first(ends: Ends) -> None:
    def flow() -> Flow[int]:
        return (yield Receive(Stage.GREETING)).code

    ends.peer.sendall(b"220 hi\r\n")
    assert ends.run(flow, fresh=True) == 220


CLEAN = [
    CommandRejected("no", reply=Reply(500)),
    AuthenticationError("no", reply=Reply(535)),
]
UNCLEAN = [
    ProtocolError("out of step"),
    Timeout("late"),
    ConnectionLost("gone"),
    InputError("content was wrong"),
    RuntimeError("a fault of ours"),
    KeyboardInterrupt(),
    GeneratorExit(),
]


@pytest.mark.parametrize("error", CLEAN, ids=lambda error: type(error).__name__)
def test_a_clean_refusal_keeps_the_line(error: Exception, ends: Ends) -> None:
    """Law 1."""

    def flow() -> Flow[None]:
        yield Send(b"x\r\n")
        raise error

    with pytest.raises(type(error)):
        ends.run(flow)
    assert not ends.channel.closed
    ends.peer.sendall(b"")
    ends.peer.recv(10)
    ends.answers(b"250 ok\r\n")
    assert ends.run(ask).code == 250


@pytest.mark.parametrize("error", UNCLEAN, ids=lambda error: type(error).__name__)
def test_anything_else_that_leaves_a_flow_closes(error: BaseException, ends: Ends) -> None:
    """Law 1; FAULTS 96."""

    def flow() -> Flow[None]:
        yield Send(b"x\r\n")
        raise error

    with pytest.raises(type(error)):
        ends.run(flow)
    assert ends.channel.closed
    assert ends.peer.recv(10) == b"x\r\n"
    assert ends.closed()
    why = getattr(error, "text", str(error)) or type(error).__name__
    with pytest.raises(ConnectionLost, match=why) as caught:
        ends.run(ask)
    assert caught.value.stage == "input"
    assert caught.value.safe_to_retry


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n", b"250 ok\r\n250 too many\r\n"])
def test_a_failure_is_thrown_into_the_flow_after_the_line_is_closed(answer: bytes, ends: Ends) -> None:
    """The flow says what it amounts to; whatever it returns, the line is gone."""
    seen: list[Any] = []

    def flow() -> Flow[str]:
        try:
            yield from ask()
        except (Timeout, ProtocolError) as error:
            seen.append((type(error), error.stage, ends.channel.closed))
            try:
                yield Send(b"RSET\r\n")
                yield Receive(Stage.RSET)
            except ConnectionLost:
                seen.append("lost")
        return "settled"

    if answer:
        ends.answers(answer)
    assert ends.run(flow, 5.0 if answer else 0.2) == "settled"
    assert seen == [(ProtocolError if answer else Timeout, Stage.COMMAND, True), "lost"]
    assert ends.channel.closed
    assert ends.peer.recv(100) == b"NOOP\r\n"
    assert ends.closed()


def test_close_is_done_at_once_and_nothing_is_written_after_it(ends: Ends) -> None:
    def flow() -> Flow[str]:
        yield CLOSE
        assert ends.closed()
        yield Send(b"more\r\n")
        with pytest.raises(ConnectionLost):
            yield Receive(Stage.COMMAND)
        return "end"

    assert ends.run(flow) == "end"
    assert ends.channel.closed


def test_421_closes_whatever_the_flow_makes_of_it(ends: Ends) -> None:
    """FAULTS 24."""
    ends.answers(b"421 bye\r\n")
    assert ends.run(ask).code == 421
    assert ends.channel.closed
    with pytest.raises(ConnectionLost, match="421"):
        ends.run(ask)


@pytest.mark.parametrize(
    ("octets", "kind"),
    [(b"421 bye\r\n", ServiceUnavailable), (b"250 stray\r\n", ProtocolError), (b"2", ProtocolError)],
)
def test_an_idle_line_that_spoke_is_not_used(octets: bytes, kind: type, ends: Ends) -> None:
    """FAULTS 9: law 2."""
    ends.peer.sendall(octets)
    with pytest.raises(kind) as caught:
        ends.run(ask)
    assert caught.value.stage == "input"
    assert ends.channel.closed
    assert ends.closed()


def test_the_limit_is_that_of_the_stage(ends: Ends, monkeypatch: Any) -> None:
    """FAULTS 62."""
    monkeypatch.setitem(REPLY_LIMITS, Stage.RSET, 0.05)
    with pytest.raises(Timeout) as caught:
        ends.run(lambda: ask(stage=Stage.RSET), 60)
    assert caught.value.stage == "rset"
    assert ends.channel.closed


# -- TLS ---------------------------------------------------------------------------------------


def _starttls() -> Flow[tuple[bytes | None, int]]:
    binding = yield START_TLS
    yield Send(b"EHLO x\r\n")
    return binding, (yield Receive(Stage.HELLO)).code


def test_start_tls(ends: Ends) -> None:
    """FAULTS 75: the binding of the new line, and a new line."""
    context = certs.server_context()

    def serve() -> None:
        with context.wrap_socket(ends.peer, server_side=True) as sock:
            assert sock.recv(100) == b"EHLO x\r\n"
            sock.sendall(b"250 ok\r\n")
            sock.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    assert ends.channel.binding() is None
    binding, code = ends.run(_starttls)
    assert (code, ends.channel.is_tls) == (250, True)
    assert binding is not None
    assert binding == ends.channel.binding()
    ends.channel.close()
    thread.join()


def test_start_tls_that_fails_is_told_with_its_stage(ends: Ends) -> None:
    ends.peer.sendall(b"not TLS at all\r\n")
    with pytest.raises((TlsError, ProtocolError)) as caught:
        ends.run(_starttls, fresh=True)
    assert caught.value.stage == "starttls"
    assert ends.channel.closed


# -- turns ---------------------------------------------------------------------------------------


def test_a_flow_that_calls_back_is_refused(ends: Ends) -> None:
    """FAULTS 97."""

    def flow() -> Flow[str]:
        with pytest.raises(UsageError):
            ends.run(ask)
        return "on"
        yield

    assert ends.run(flow) == "on"
    assert not ends.channel.closed


def test_a_fork_may_not_use_it(ends: Ends, monkeypatch: Any) -> None:
    """FAULTS 95."""
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with pytest.raises(UsageError, match="fork"):
        ends.run(ask)
    ends.channel.close()
    assert ends.channel.closed
    monkeypatch.undo()


def test_the_turn_is_given_back_whatever_happens(ends: Ends) -> None:
    def refuse() -> Flow[None]:
        raise InputError("wrong")

    for _ in range(3):
        with pytest.raises(InputError):
            ends.run(refuse)
    ends.answers(b"250 ok\r\n")
    assert ends.run(ask).code == 250


def test_close_within_a_flow(ends: Ends) -> None:
    def flow() -> Flow[None]:
        ends.channel.close()
        yield Send(b"x\r\n")
        yield Receive(Stage.COMMAND)

    with pytest.raises(ConnectionLost):
        ends.run(flow)
    assert ends.closed()


def test_close_wakes_whoever_waits(ends: Ends) -> None:
    """FAULTS 93."""
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            ends.run(ask)
        except ConnectionLost as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    ends.peer.recv(10)
    ends.channel.close()
    thread.join(10)
    assert not thread.is_alive()
    assert failures
    assert ends.channel.closed


# -- a stream of messages -----------------------------------------------------------------------


def plan_of(content: Any = b"Subject: x\r\n\r\n", *, bdat: bool = False) -> Plan:
    mail = MailObject("s@x.example", "r@x.example", content)
    capabilities = Capabilities.from_reply(Reply(250, (b"mail.test", b"PIPELINING", b"CHUNKING")))
    options = Options(bdat=bdat)
    return make_plan(mail, capabilities, protocol=Protocol.SMTP, is_tls=False, options=options)


GOES_AHEAD = b"250 ok\r\n250 ok\r\n354 go\r\n"


def answering(ends: Ends, *answers: bytes) -> threading.Thread:
    """The server, in a thread: it says one of these after each write."""

    def talk() -> None:
        for answer in answers:
            ends.peer.recv(1000)
            ends.peer.sendall(answer)

    thread = threading.Thread(target=talk)
    thread.start()
    return thread


def test_a_stream_has_the_line_until_it_is_closed(ends: Ends) -> None:
    """FAULTS 97."""
    server = answering(ends, GOES_AHEAD, b"250 ok\r\n", b"250 done\r\n")
    with ends.channel.stream(seconds=5) as stream:
        (done,) = stream.push("token", plan_of())
        assert done.token == "token"
        assert isinstance(done.outcome, SendResult)
        with pytest.raises(UsageError):
            ends.run(ask)
        assert stream.finish() == []
        assert stream.is_open
    with pytest.raises(UsageError):
        stream.push("late", plan_of())
    stream.close()
    assert ends.run(ask).text == "done"
    server.join()


def test_a_stream_that_is_left_in_mid_message_closes_the_line(ends: Ends) -> None:
    server = answering(ends, GOES_AHEAD)
    with ends.channel.stream(seconds=5, overlap=True) as stream:
        assert stream.push(0, plan_of()) == []
        assert stream.is_busy
    server.join()
    assert ends.channel.closed
    assert ends.closed(), "not an octet of the content was written"


def test_the_content_of_a_message_cannot_push_another(ends: Ends) -> None:
    """FAULTS 97."""
    raised = []

    def content() -> Iterator[bytes]:
        try:
            stream.push(1, plan_of())
        except UsageError as error:
            raised.append(error)
        yield b"Subject: x\r\n\r\n"

    server = answering(ends, GOES_AHEAD, b"250 ok\r\n")
    with ends.channel.stream(seconds=5) as stream:
        (done,) = stream.push(0, plan_of(content()))
    server.join()
    assert isinstance(done.outcome, SendResult)
    assert len(raised) == 1


def test_what_was_known_before_an_interrupt_can_be_had(ends: Ends) -> None:
    """FAULTS 96: the content of the second one is interrupted; the first has its answer."""

    def content() -> Iterator[bytes]:
        yield b"Subject: x\r\n\r\n"
        raise KeyboardInterrupt

    in_flight, envelope = b"250 ok\r\n" * 4, b"250 ok\r\n" * 2
    server = answering(ends, in_flight, envelope)
    with ends.channel.stream(seconds=5, in_flight=2) as stream:
        assert stream.push(0, plan_of(bdat=True)) == []
        with pytest.raises(KeyboardInterrupt):
            stream.push(1, plan_of(content(), bdat=True))
        (done,) = stream.known()
        assert done.token == 0
        assert isinstance(done.outcome, SendResult)
        assert stream.known() == []
        assert not stream.is_open
    server.join()
    assert ends.channel.closed

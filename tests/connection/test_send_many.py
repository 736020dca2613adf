"""A stream of messages over real sockets."""

from __future__ import annotations

import logging
import threading
from email.message import EmailMessage
from typing import Any

import pytest
from support.fates import assert_closed, assert_kept
from support.patience import ENOUGH
from support.scripted import Peer, ScriptedServer
from support.transports import SEQUENTIAL, TRANSPORTS, dialled, serving

import pysmtpx
from pysmtpx import (
    ConnectionLost,
    InputError,
    MailObject,
    Outcome,
    Timeout,
    UsageError,
)
from pysmtpx.testing import Cut, MailServer, Stall
from pysmtpx.testing.config import EXTENSIONS


def mail(number: int, *recipients: str, body: bytes = b"") -> MailObject:
    paths = recipients or (f"r{number}@x.example",)
    return MailObject(f"s{number}@x.example", paths, b"Subject: %d\r\n\r\n.dot\r\n" % number + body)


def mails(count: int) -> list[MailObject]:
    return [mail(number) for number in range(count)]


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def subjects(server: MailServer) -> list[bytes]:
    return [message.content.partition(b"\r\n")[0] for message in server.messages]


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_everything_arrives_in_order(transport: str, in_flight: int) -> None:
    with serving(transport) as server, dialled(server) as conn:
        sent = mails(20)
        outcomes = list(conn.send_many(sent, in_flight=in_flight))
        assert [outcome.mail for outcome in outcomes] == sent
        assert statuses(outcomes) == ["accepted"] * 20
        assert outcomes[3].result is not None
        assert outcomes[3].accepted_recipients == ("r3@x.example",)
        assert subjects(server) == [b"Subject: %d" % number for number in range(20)]
        assert_kept(conn, server)


@pytest.mark.parametrize("make", [list, iter])
def test_a_message_costs_two_round_trips(make: Any) -> None:
    """FAULTS 46: nothing goes behind an end of data unless the caller says that the server takes it."""
    with serving() as server, dialled(server) as conn:
        before = conn.round_trips
        assert statuses(list(conn.send_many(make(mails(50))))) == ["accepted"] * 50
        assert conn.round_trips - before == 100


@pytest.mark.parametrize("by", ["argument", "server", "url"])
def test_an_overlapped_list_costs_a_round_trip_a_message(by: str) -> None:
    with serving() as server:
        url = f"{server.url}?overlap=true" if by == "url" else server.url
        with pysmtpx.connect(url, **({"overlap": True} if by == "server" else {})) as conn:
            before = conn.round_trips
            options = {"overlap": True} if by == "argument" else {}
            assert statuses(list(conn.send_many(mails(50), **options))) == ["accepted"] * 50
            assert conn.round_trips - before == 51
            before = conn.round_trips
            assert statuses(list(conn.send_many(mails(50), overlap=False))) == ["accepted"] * 50
            assert conn.round_trips - before == 100


def test_messages_in_flight_cost_less_than_a_round_trip() -> None:
    with serving(delay=0.001) as server, dialled(server) as conn:
        before = conn.round_trips
        assert statuses(list(conn.send_many(mails(64), in_flight=32))) == ["accepted"] * 64
        assert conn.round_trips - before <= 16


def test_a_server_without_pipelining_is_sent_to_one_command_at_a_time() -> None:
    with serving(extensions=SEQUENTIAL) as server, dialled(server) as conn:
        assert statuses(list(conn.send_many(mails(5), in_flight=4))) == ["accepted"] * 5


def test_in_flight_without_chunking_is_one_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    extensions = [line for line in EXTENSIONS if line not in ("CHUNKING", "BINARYMIME")]
    with serving(extensions=extensions) as server, dialled(server) as conn:
        with caplog.at_level(logging.WARNING, "pysmtpx"):
            assert statuses(list(conn.send_many(mails(5), in_flight=4))) == ["accepted"] * 5
        assert "CHUNKING" in caplog.text
        assert {message.via for message in server.messages} == {"DATA"}


def test_an_email_message_goes_with_its_own_envelope() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = "a@x.example", "b@x.example", "c@x.example"
    message.set_content("hello")
    with serving() as server, dialled(server) as conn:
        (outcome,) = conn.send_many([message])
        assert outcome.mail is message
        assert outcome.accepted_recipients == ("b@x.example", "c@x.example")


@pytest.mark.parametrize("refusal", ["MAIL", "RCPT", "DATA", "FINAL"])
def test_a_refused_message_does_not_stop_the_stream(refusal: str) -> None:
    def verdict(event: Any) -> str | None:
        return "451 4.3.0 later" if event.verb == refusal and event.transaction == 2 else None

    with serving(verdict=verdict) as server, dialled(server) as conn:
        outcomes = list(conn.send_many(mails(6)))
        assert statuses(outcomes) == ["accepted", "accepted", "rejected", "accepted", "accepted", "accepted"]
        assert outcomes[2].error is not None
        assert outcomes[2].error.temporary
        assert outcomes[2].rejected_recipients[0].reply.code == 451
        assert_kept(conn, server)


def test_a_message_that_cannot_be_sent_is_unsent_and_in_its_place() -> None:
    too_large = MailObject("s@x.example", "big@x.example", b"xxx\r\n" * 400)
    with serving(extensions=["PIPELINING", "SIZE 1000"]) as server, dialled(server) as conn:
        outcomes = list(conn.send_many([mail(0), too_large, mail(2)]))
        assert statuses(outcomes) == ["accepted", "unsent", "accepted"]
        assert outcomes[1].unsent_recipients == ("big@x.example",)
        assert isinstance(outcomes[1].error, InputError)
        assert_kept(conn, server)


def test_a_loss_ends_the_stream_and_takes_nothing_more() -> None:
    """FAULTS 42: one in doubt, one whose envelope was out is unsent, the rest is not taken."""
    taken = []

    class Counted(list[MailObject]):
        def __iter__(self) -> Any:
            for each in super().__iter__():
                taken.append(each)
                yield each

    with serving(replies={("FINAL", 0): Cut()}) as server, dialled(server) as conn:
        outcomes = list(conn.send_many(Counted(mails(9)), overlap=True))
        assert statuses(outcomes)[0] == "unknown"
        assert set(statuses(outcomes)[1:]) == {"unsent"}
        assert [outcome.mail for outcome in outcomes] == taken
        assert len(taken) == 2
        assert all(outcome.error and outcome.error.safe_to_retry for outcome in outcomes[1:])
        assert_closed(conn)


def test_a_shutdown_in_mid_stream() -> None:
    """FAULTS 24: 421 to the third MAIL."""

    def verdict(event: Any) -> str | None:
        return "421 4.3.2 shutting down" if event.verb == "MAIL" and event.transaction == 2 else None

    with serving(verdict=verdict) as server, dialled(server) as conn:
        outcomes = list(conn.send_many(mails(9)))
        assert statuses(outcomes)[:3] == ["accepted", "accepted", "unsent"]
        assert outcomes[2].error is not None
        assert outcomes[2].error.reply is not None
        assert outcomes[2].error.reply.code == 421
        assert outcomes[2].error.transcript[-1] == "S: 421 4.3.2 shutting down"
        assert_closed(conn)


def test_the_time_of_a_message_runs_out() -> None:
    with serving(replies={("FINAL", 0): Stall()}) as server, dialled(server) as conn:
        outcomes = list(conn.send_many(iter(mails(3)), timeout=ENOUGH))
        assert statuses(outcomes) == ["unknown"]
        assert outcomes[0].error is not None
        assert isinstance(outcomes[0].error.__cause__, Timeout)
        assert_closed(conn)


def test_overlapped_the_time_of_a_message_begins_behind_the_answer_to_the_one_before() -> None:
    pause = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.envelope()
        peer.content()
        pause.wait(0.6)
        peer.say(b"250 ok\r\n")
        for verb in ("MAIL", "RCPT", "DATA"):
            peer.expect(verb)
        pause.wait(0.6)
        peer.say(b"250 ok\r\n" * 2, b"354 go\r\n")
        peer.content()
        peer.say(b"250 ok\r\n")
        peer.rest()

    with ScriptedServer(script) as server, server.connect() as conn:
        outcomes = list(conn.send_many(mails(2), timeout=1.0, overlap=True))
        assert statuses(outcomes) == ["accepted"] * 2


def test_in_flight_the_time_of_a_message_begins_when_it_is_the_oldest() -> None:
    pause = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", "CHUNKING")
        for _ in range(4):
            for verb in ("RSET", "MAIL", "RCPT"):
                peer.expect(verb)
            peer.take(int(peer.expect("BDAT").split()[1]))
            pause.wait(0.4)
            peer.say(b"250 ok\r\n" * 4)
        peer.rest()

    with ScriptedServer(script) as server, server.connect() as conn:
        outcomes = list(conn.send_many(mails(4), timeout=1.0, in_flight=4))
        assert statuses(outcomes) == ["accepted"] * 4


def test_a_message_is_ended_before_the_next_one_is_waited_for() -> None:
    with serving() as server, dialled(server) as conn:

        def source() -> Any:
            yield mail(0)
            assert server.wait_for(1)  # would time out, were the message held back for this one
            yield mail(1)

        assert statuses(list(conn.send_many(source()))) == ["accepted", "accepted"]


def test_an_outcome_comes_before_the_next_message_is_asked_for() -> None:
    with serving() as server, dialled(server) as conn:
        outcomes: list[Outcome] = []

        def source() -> Any:
            for number in range(3):
                assert len(outcomes) == number
                yield mail(number)

        for outcome in conn.send_many(source()):
            outcomes.append(outcome)
        assert statuses(outcomes) == ["accepted"] * 3


@pytest.mark.parametrize("in_flight", [1, 3])
def test_what_the_source_raises_comes_after_every_outcome(in_flight: int) -> None:
    def source() -> Any:
        yield mail(0)
        yield mail(1)
        raise LookupError("no more rows")

    with serving() as server, dialled(server) as conn:
        stream = conn.send_many(source(), in_flight=in_flight)
        assert statuses([next(stream), next(stream)]) == ["accepted", "accepted"]
        with pytest.raises(LookupError, match="no more rows"):
            next(stream)
        assert_kept(conn, server)


def test_content_that_fails_is_unsent_and_only_that() -> None:
    """FAULTS 35 in a stream."""

    def broken() -> Any:
        yield b"Subject: x\r\n\r\n" + b"x" * 60 + b"\r\n"
        raise OSError("the disk is gone")

    with serving() as server, dialled(server) as conn:
        outcomes = list(conn.send_many([mail(0), MailObject("s@x.example", "r@x.example", broken())]))
        assert statuses(outcomes) == ["accepted", "unsent"]
        assert outcomes[1].error is not None
        assert isinstance(outcomes[1].error.__cause__, OSError)
        assert len(server.messages) == 1
        assert_closed(conn)


def test_closed_early_with_nothing_under_way_the_connection_is_usable() -> None:
    with serving() as server, dialled(server) as conn:
        outcomes = conn.send_many(iter(mails(5)))
        assert next(outcomes).status == "accepted"
        outcomes.close()  # type: ignore[attr-defined]
        assert_kept(conn, server)


def test_closed_early_in_mid_message_nothing_more_is_delivered() -> None:
    with serving() as server, dialled(server) as conn:
        outcomes = conn.send_many(mails(5), overlap=True)
        assert next(outcomes).status == "accepted"
        outcomes.close()  # type: ignore[attr-defined]
        assert_closed(conn)
    assert len(server.messages) == 1


def test_the_line_is_the_streams_own() -> None:
    """FAULTS 97: another call in the same thread raises, one in another thread waits."""
    with serving() as server, dialled(server) as conn:
        outcomes = conn.send_many(iter(mails(3)))
        next(outcomes)
        with pytest.raises(UsageError):
            conn.noop()
        with pytest.raises(UsageError):
            next(conn.send_many(mails(1)))
        done = threading.Event()

        def other() -> None:
            conn.noop()
            done.set()

        thread = threading.Thread(target=other)
        thread.start()
        assert not done.is_set()
        assert statuses(list(outcomes)) == ["accepted"] * 2
        thread.join()
        assert done.is_set()


def test_another_thread_may_take_the_stream_over() -> None:
    with serving() as server, dialled(server) as conn:
        outcomes = conn.send_many(mails(6))
        got = [next(outcomes)]
        thread = threading.Thread(target=lambda: got.extend(outcomes))
        thread.start()
        thread.join()
        assert statuses(got) == ["accepted"] * 6
        assert_kept(conn, server)


def test_a_connection_closed_meanwhile_takes_nothing_more() -> None:
    with serving() as server, dialled(server) as conn:
        outcomes = conn.send_many(iter(mails(5)))
        next(outcomes)
        conn.close()
        assert list(outcomes) == []
        with pytest.raises(ConnectionLost):
            next(conn.send_many(mails(1)))


@pytest.mark.parametrize("in_flight", [1, 8])
def test_neither_side_stands_still_with_small_buffers(in_flight: int) -> None:
    """FAULTS 44: 20,000 recipients, 4 KiB of socket buffers on both sides."""
    recipients = [f"r{number}@x.example" for number in range(20_000)]
    with MailServer(receive_buffer=4096, send_buffer=4096, keep=True) as server:
        with dialled(server) as conn:
            sock = conn._channel._driver.stream._sock
            sock.setsockopt(1, 7, 4096)  # SOL_SOCKET, SO_SNDBUF
            sock.setsockopt(1, 8, 4096)  # SO_RCVBUF
            sent = [mail(0, *recipients[:10_000]), mail(1), mail(2, *recipients[10_000:]), mail(3)]
            outcomes = list(conn.send_many(sent, in_flight=in_flight))
        assert statuses(outcomes) == ["accepted"] * 4
        assert sum(len(message.delivered) for message in server.messages) == 20_002


@pytest.mark.parametrize("wrong", [mail(0), "text", b"octets", 7, EmailMessage()])
def test_what_is_no_iterable_of_messages_is_refused_at_once(wrong: Any) -> None:
    with serving() as server, dialled(server) as conn:
        with pytest.raises(InputError):
            conn.send_many(wrong)
        (outcome,) = conn.send_many([wrong] if isinstance(wrong, int) else [17])  # type: ignore[list-item]
        assert outcome.status == "unsent"


@pytest.mark.parametrize("options", [{"in_flight": 0}, {"in_flight": True}, {"timeout": -1}])
def test_wrong_options_are_refused_at_once(options: Any) -> None:
    with serving() as server, dialled(server) as conn, pytest.raises(InputError):
        conn.send_many([], **options)


def test_a_server_that_takes_content_for_commands_leaves_the_rest_in_doubt() -> None:
    """FAULTS 48 in flight: after a refused chunk, what is no answer to MAIL is not taken for one."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", "CHUNKING")
        for verb in ("RSET", "MAIL", "RCPT", "BDAT"):
            peer.expect(verb)
        peer.say(b"250 ok\r\n" * 3, b"554 no\r\n", b"500 what\r\n" * 3)
        peer.rest()

    with ScriptedServer(script) as server, server.connect() as conn:
        outcomes = list(conn.send_many(mails(2), in_flight=2))
        assert statuses(outcomes) == ["rejected", "unknown"]
        assert_closed(conn)

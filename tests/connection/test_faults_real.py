"""What real servers answer out of the ordinary: refusals told twice or once for many, and limits."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest
from support.fates import fates
from support.patience import ENOUGH
from support.scripted import Peer, ScriptedServer
from support.transports import SEQUENTIAL, dialled, serving

import pysmtpx
from pysmtpx import MailObject, SmtpPool
from pysmtpx.flow import transaction
from pysmtpx.testing import Cut, Event, Stall

BODY = b"Subject: x\r\n\r\nhello\r\n"
A, B, C = "a@x.example", "b@x.example", "c@x.example"


def answering(
    *, mail: bytes = b"", rcpts: tuple[bytes, ...] = (), data: bytes = b"", final: bytes = b""
) -> Any:
    """A server that accepts, but for these, and writes what it answers to one command in one piece."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("MAIL")
        peer.say(mail or b"250 ok\r\n")
        for reply in rcpts or (b"",):
            peer.expect("RCPT")
            peer.say(reply or b"250 ok\r\n")
        peer.expect("DATA")
        peer.say(data or b"354 go\r\n")
        peer.content()
        peer.say(final or b"250 kept\r\n")
        peer.rest()

    return script


@pytest.mark.parametrize("first", [b"554 5.7.1 no\r\n", b"451 4.3.0 later\r\n"])
@pytest.mark.parametrize("second", [b"500 5.5.1 what?\r\n", b"421 bye\r\n", b"451 x\r\n"])
def test_a_refusal_with_another_behind_it(first: bytes, second: bytes) -> None:
    """FAULTS 120: whichever of the two is meant, the content was refused."""
    with ScriptedServer(answering(final=first + second)) as server, server.connect() as conn:
        with pytest.raises(pysmtpx.DataRejected) as caught:
            conn.send(A, [B], BODY)
        assert caught.value.reply is not None
        assert caught.value.reply.code == int(first[:3])
        assert conn.closed


@pytest.mark.parametrize("both", [b"250 ok\r\n554 no\r\n", b"554 no\r\n250 ok\r\n"])
def test_two_answers_of_which_one_accepts_are_a_doubt(both: bytes) -> None:
    """FAULTS 9, 31."""
    with ScriptedServer(answering(final=both)) as server, server.connect() as conn:
        with pytest.raises(pysmtpx.DeliveryUnknown):
            conn.send(A, [B], BODY)
        assert conn.closed


@pytest.mark.parametrize("surplus", [b"550 no\r\n", b"250 too many\r\n", b"451 later\r\n"])
@pytest.mark.parametrize("place", [0, 1])
def test_one_reply_too_many_among_pipelined_ones(place: int, surplus: bytes) -> None:
    """FAULTS 9, 43: nobody is told refused, or accepted, by an answer to another command.

    Behind the last RCPT it stands where the answer to DATA is due, and passes for that.
    """
    extra = [b"250 ok\r\n"] * 3
    extra[place] += surplus
    script = answering(mail=extra[0], rcpts=(extra[1], extra[2]))
    with ScriptedServer(script) as server, server.connect() as conn:
        with pytest.raises(pysmtpx.ProtocolError) as caught:
            conn.send(A, [B, C], BODY)
        assert fates(caught.value) == {B: "unsent", C: "unsent"}
        assert caught.value.safe_to_retry
        assert conn.closed


@pytest.mark.parametrize("way", ["connection", "pool"])
def test_a_reset_that_is_not_answered_takes_no_longer_than_the_call(way: str) -> None:
    """FAULTS 33: the outcome is known, and the clean-up has the time of the call."""

    def verdict(event: Event) -> Any:
        return {"RCPT": "550 5.1.1 unknown", "RSET": Stall()}.get(event.verb)

    with serving(verdict=verdict) as server:
        began = time.monotonic()
        if way == "pool":
            with SmtpPool(server.url) as pool, pytest.raises(pysmtpx.AllRecipientsFailed):
                pool.send(A, [B, C], BODY, timeout=ENOUGH)
        else:
            with dialled(server) as conn, pytest.raises(pysmtpx.AllRecipientsFailed):
                conn.send(A, [B, C], BODY, timeout=ENOUGH)
        assert time.monotonic() - began < 5  # and not the 20 seconds of RSET


@pytest.mark.parametrize(
    "limit", ["451 4.5.3 too many", "431 too many", "452 4.2.2 too many", "452 too many", "552 5.5.3 many"]
)
@pytest.mark.parametrize("extensions", [["PIPELINING", "SIZE"], SEQUENTIAL])
def test_every_way_to_tell_a_limit_of_recipients(limit: str, extensions: Any) -> None:
    """FAULTS 116: those beyond it get transactions of their own."""
    counts: dict[int, int] = {}

    def verdict(event: Event) -> Any:
        if event.verb == "RCPT":
            counts[event.transaction] = counts.get(event.transaction, 0) + 1
            return limit if counts[event.transaction] > 100 else None
        return None

    everybody = [f"r{n}@x.example" for n in range(250)]
    with serving(extensions=extensions, verdict=verdict) as server, dialled(server) as conn:
        result = conn.send(A, everybody, BODY)
        assert list(result.accepted_recipients) == everybody
        assert [len(m.addresses) for m in server.messages] == [100, 100, 50]


@pytest.mark.parametrize("end", [Cut(None), Cut(None, "421 4.3.0 too many errors")], ids=["silent", "421"])
@pytest.mark.parametrize("refusal", ["452 4.5.3 too many", "503 5.5.3 too many"])
def test_a_server_that_hangs_up_past_its_limit_gets_100_next_time(end: Any, refusal: str) -> None:
    """FAULTS 116: chasquid takes 100 in a transaction, refuses ten more, and ends the session."""
    counts = Counter[tuple[int, int]]()

    def verdict(event: Event) -> Any:
        if event.verb != "RCPT":
            return None
        counts[transaction := (event.connection, event.transaction)] += 1
        place = counts[transaction]
        return None if place <= 100 else refusal if place <= 110 else end

    everybody = [f"r{n}@x.example" for n in range(250)]
    with serving(verdict=verdict) as server, SmtpPool(server.url, max_connections=1) as pool:
        result = pool.send(A, everybody, BODY)
        assert list(result.accepted_recipients) == everybody
        assert pool.send(A, everybody, BODY).accepted_recipients == result.accepted_recipients
        assert [len(m.addresses) for m in server.messages] == [100, 100, 50] * 2


def test_a_full_mailbox_among_others_is_no_limit() -> None:
    """FAULTS 116: decided by what follows."""

    def verdict(event: Event) -> Any:
        return "452 4.2.2 full" if event.verb == "RCPT" and event.address == B else None

    with serving(verdict=verdict) as server, dialled(server) as conn:
        result = conn.send(A, [A, B, C], BODY)
        assert result.accepted_recipients == (A, C)
        assert len(server.messages) == 1


@pytest.mark.parametrize(
    ("final", "others"),
    [
        ("552 5.2.3 too large", "rejected"),
        ("552 too much", "rejected"),
        ("552 5.2.2 full", "unknown"),
        ("554 5.6.0 no", "unknown"),
        ("554 no", "unknown"),
    ],
)
@pytest.mark.parametrize("way", ["DATA", "BDAT"])
def test_one_final_reply_for_all_recipients(
    monkeypatch: pytest.MonkeyPatch, final: str, others: str, way: str
) -> None:
    """FAULTS 119: of the size it is about all; else what it means for the others is not known, soon."""
    monkeypatch.setattr(transaction, "FURTHER_FINALS_LIMIT", 0.2)

    def script(peer: Peer) -> None:
        peer.greet("CHUNKING", verb="LHLO")
        peer.envelope(3, data=way == "DATA")
        if way == "DATA":
            peer.content()
        else:
            peer.take(int(peer.expect("BDAT").split()[1]))
        peer.say(f"{final}\r\n".encode())
        peer.rest()

    with ScriptedServer(script) as server, server.connect(protocol="lmtp") as conn:
        send = conn.send_lmtp if way == "DATA" else conn.send_lmtp_bdat
        with pytest.raises(pysmtpx.SmtpError) as caught:
            send(A, [A, B, C], BODY)  # 600 seconds are its time
        told = fates(caught.value)
        assert [told[path].split()[0] for path in (A, B, C)] == ["rejected", others, others]
        assert conn.closed


@pytest.mark.parametrize("first", ["250 2.0.0 kept", "450 4.2.1 busy"])
def test_finals_that_take_their_time_are_waited_for(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """FAULTS 119 is about refusals for good: a server may deliver to one after the other."""
    monkeypatch.setattr(transaction, "FURTHER_FINALS_LIMIT", 0.05)
    answered = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet(verb="LHLO")
        peer.envelope(2)
        peer.content()
        peer.say(f"{first}\r\n".encode())
        answered.wait(0.5)  # nobody sets it
        peer.say(b"250 2.0.0 kept\r\n")
        peer.quit()

    with ScriptedServer(script) as server, server.connect(protocol="lmtp") as conn:
        result = conn.send_lmtp(A, [A, B], BODY)
        assert result.accepted_recipients[-1] == B


def test_the_next_message_of_a_stream_is_not_refused_by_a_reply_too_many() -> None:
    """FAULTS 9, 46: the answer behind an end of data is nobody's."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.envelope()
        peer.content()
        peer.say(b"250 kept\r\n550 no\r\n")
        peer.envelope()
        peer.rest()

    mails = [MailObject(A, path, BODY) for path in (B, C)]
    with ScriptedServer(script) as server, server.connect() as conn:
        first, *others = conn.send_many(mails, overlap=True)
    assert first.status in ("accepted", "unknown")
    assert [other.status for other in others] in ([], ["unsent"])


def refused_twice(peer: Peer) -> None:
    """Refuses the content twice over in one segment, and is gone."""
    peer.greet("PIPELINING")
    peer.envelope()
    peer.content()
    peer.say(b"554 5.7.1 no\r\n500 5.5.1 what?\r\n")


def refused_for_all(peer: Peer) -> None:
    """LMTP: refuses the content as too large, once for two recipients, and says nothing more."""
    peer.greet("PIPELINING", verb="LHLO")
    peer.envelope(2)
    peer.content()
    peer.say(b"552 5.2.3 too large\r\n")
    peer.rest()


@pytest.mark.parametrize("script", [refused_twice, refused_for_all])
def test_what_was_said_of_one_message_is_not_said_of_the_next(monkeypatch: Any, script: Any) -> None:
    """FAULTS 119, 120: the next one was not begun, and may be sent at once on another connection."""
    monkeypatch.setattr(transaction, "FURTHER_FINALS_LIMIT", 0.2)
    is_lmtp = script is refused_for_all
    mails = [MailObject(A, paths, BODY) for paths in ([B, C] if is_lmtp else [B], [C])]
    with ScriptedServer(script) as server, server.connect(protocol="lmtp" if is_lmtp else "smtp") as conn:
        outcomes = list(conn.send_many(mails, overlap=True))
    assert [outcome.status for outcome in outcomes] == ["rejected", "unsent"]
    error = outcomes[1].error
    assert error is not None
    assert error.safe_to_retry
    assert error.temporary
    assert error.reply is None


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("surplus", "answer"),
    [
        (b"552 5.2.3 no\r\n", b"250 kept\r\n"),
        (b"250 ok\r\n", b"552 5.2.2 full\r\n"),
        (b"451 x\r\n", b"250 kept\r\n"),
    ],
)
def test_one_reply_too_many_among_final_ones(place: int, surplus: bytes, answer: bytes) -> None:
    """FAULTS 9, 54: nobody is told that they have the message, or not, by the answer about another."""
    answers = [answer, b"250 kept\r\n"]
    answers[place] = surplus + answers[place]

    def script(peer: Peer) -> None:
        peer.greet(verb="LHLO")
        peer.envelope(2)
        peer.content()
        peer.say(*answers)
        peer.rest()

    with ScriptedServer(script) as server, server.connect(protocol="lmtp") as conn:
        with pytest.raises(pysmtpx.DeliveryUnknown) as caught:
            conn.send_lmtp(A, [B, C], BODY)
        assert fates(caught.value) == {B: "unknown", C: "unknown"}
        assert conn.closed

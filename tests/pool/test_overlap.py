"""Messages that share a write: only where the caller says so, and no longer than the server takes it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from support.overlapping import HOW, Broken
from support.scripted import Peer, ScriptedServer

import pysmtpx
from pysmtpx import MailObject, RetryPolicy, SmtpPool
from pysmtpx.flow import transaction

COUNT = 12


def body(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n.dot\r\n" % number


def mails() -> list[MailObject]:
    return [MailObject("s@x.example", f"r{number}@x.example", body(number)) for number in range(COUNT)]


def arrived(broken: Broken) -> Counter[bytes]:
    """Contents as they were meant, each as often as it was delivered."""
    return Counter(content.replace(b"\r\n..", b"\r\n.") for content in broken.delivered)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "OVERLAP_LIMIT", 0.3)


def sent_by(way: str, port: int, broken: Broken, **options: Any) -> list[pysmtpx.Outcome]:
    target = f"smtp://127.0.0.1:{port}"
    if way == "connection":
        with pysmtpx.connect(target, **options) as connection:
            return list(connection.send_many(mails()))
    with SmtpPool(target, max_connections=2 if way == "pool of 2" else 1, **options) as pool:
        if way == "submit":
            futures = [pool.submit(each) for each in mails()]
            results = [future.exception(30) or future.result() for future in futures]
            return [
                pysmtpx.Outcome.of(each, result)  # type: ignore[arg-type]
                for each, result in zip(mails(), results, strict=True)
            ]
        return list(pool.send_many(mails(), ordered=True))


WAYS = ("connection", "pool", "pool of 2", "submit")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", HOW)
def test_by_default_no_server_is_given_what_it_could_misread(how: str, way: str) -> None:
    """FAULTS 46."""
    broken = Broken(how)
    with ScriptedServer(broken) as server:
        outcomes = sent_by(way, server.port, broken)
    assert [outcome.status for outcome in outcomes] == ["accepted"] * COUNT
    assert arrived(broken) == Counter(map(body, range(COUNT)))
    assert broken.overlapped == 0


@pytest.mark.parametrize("way", ["pool", "submit"])
@pytest.mark.parametrize("how", HOW)
def test_trouble_ends_the_overlap_and_costs_no_try(how: str, way: str) -> None:
    """FAULTS 46: once for the life of the pool; what was not begun goes again, alone, by the first try."""
    broken = Broken(how)
    with ScriptedServer(broken) as server:
        outcomes = sent_by(way, server.port, broken, overlap=True, retry=RetryPolicy(attempts=1))
    doubts = 1 if how == "dies" else 0
    found = Counter(outcome.status for outcome in outcomes)
    assert found == Counter({"accepted": COUNT - doubts, "unknown": doubts})
    assert broken.overlapped == 1
    copies = arrived(broken)
    if how == "reads on":  # nobody could know: the first has the envelope of the second in it
        assert len(copies) == COUNT
        assert sum(copies[body(number)] for number in range(COUNT)) == COUNT - 1
    else:
        assert copies == Counter(map(body, range(COUNT)))


@pytest.mark.parametrize("how", HOW)
def test_on_one_connection_what_was_not_begun_goes_alone_or_ends_unsent(how: str) -> None:
    """FAULTS 46: the stream goes on where the server is in step, and else ends, telling the truth."""
    broken = Broken(how)
    with ScriptedServer(broken) as server:
        outcomes = sent_by("connection", server.port, broken, overlap=True)
    assert broken.overlapped == 1
    statuses = [outcome.status for outcome in outcomes]
    if how == "refuses":
        assert statuses == ["accepted"] * COUNT
    else:
        assert statuses[0] == ("unknown" if how == "dies" else "accepted")
        assert set(statuses[1:]) == {"unsent"}
        assert all(outcome.error and outcome.error.safe_to_retry for outcome in outcomes[1:])


def test_a_refused_sender_is_no_trouble() -> None:
    """A refusal that a policy gives leaves the overlap as it is: one round trip a message."""
    from pysmtpx.testing import MailServer

    with (
        MailServer(refuse={"r3@x.example": "550 5.1.1 unknown"}) as server,
        pysmtpx.connect(server.url, overlap=True) as connection,
    ):
        before = connection.round_trips
        outcomes = list(connection.send_many(mails()))
        assert [n for n, outcome in enumerate(outcomes) if outcome.status == "rejected"] == [3]
        assert connection.round_trips - before <= COUNT + 2


def test_content_that_was_read_is_not_asked_for_again() -> None:
    """FAULTS 46: what can be read only once keeps the refusal that it met."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.envelope()
        peer.content()
        peer.say(b"503 5.5.1 not now\r\n" * 4)
        peer.rest()

    once = MailObject("s@x.example", "r0@x.example", iter([body(0)]))
    with (
        ScriptedServer(script, Broken("swallows")) as server,
        SmtpPool(f"smtp://127.0.0.1:{server.port}", max_connections=1, overlap=True) as pool,
    ):
        first, second = pool.send_many([once, mails()[1]], ordered=True)
    assert (first.status, second.status) == ("rejected", "accepted")
    assert first.error is not None
    assert first.error.reply is not None
    assert first.error.reply.code == 503

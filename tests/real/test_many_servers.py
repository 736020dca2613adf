"""The same mail through every real server that can be had, read back and counted: once, and whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from support import corpus
from support.aiosmtpd_server import AiosmtpdServer
from support.chasquid import ChasquidServer
from support.exim import EximServer
from support.mailbox import behind_trace
from support.node_servers import HarakaServer, SmtpServerServer
from support.opensmtpd import OpensmtpdServer
from support.realserver import RealServer, on

import pysmtpx
from pysmtpx import MailObject, SmtpConnection, SmtpPool

pytestmark = pytest.mark.slow

SENDER, ALICE, BOB = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test"
NOBODY, LATER, REFUSED = "nobody@mail.test", "later@mail.test", "refused@elsewhere.test"
WITH_REFUSALS = [EximServer, HarakaServer, SmtpServerServer, AiosmtpdServer]
"""Where 450 and refusals of a sender and of content were configured."""
KINDS = [*WITH_REFUSALS, OpensmtpdServer, ChasquidServer]
FIELDS = b"Date: Sat, 28 Nov 2026 04:32:42 +0000\r\nMessage-ID: <%d@elsewhere.test>\r\n"
"""OpenSMTPD adds those that are missing."""


def url(server: RealServer, options: str = "") -> str:
    return f"smtp://{server.host}:{server.port}?tls=none{options}"


def body(number: int) -> bytes:
    text = b"From: <sender@elsewhere.test>\r\nSubject: %d\r\n\r\n.dots\r\n..\r\n" % number
    return FIELDS % number + text + b"x" * 70 * (number % 3) + b"\r\n"


def mails(count: int, *recipients: str) -> list[MailObject]:
    return [MailObject(SENDER, recipients, body(number)) for number in range(count)]


def delivered(server: RealServer, user: str, count: int) -> list[bytes]:
    """What lies in the mailbox once so many are there, and nothing behind them."""
    return sorted(behind_trace(stored) for stored in server.mailbox(user).take(count))


def is_usable(connection: SmtpConnection, server: RealServer) -> bool:
    connection.send(SENDER, [BOB], body(1000))
    return delivered(server, BOB, 1) == [body(1000)]


@on(*KINDS)
@pytest.mark.parametrize("name", corpus.ALL)
def test_content_arrives_octet_by_octet(server: RealServer, name: str) -> None:
    """FAULTS 108: whatever the line ends and dots."""
    content = FIELDS % 0 + corpus.ALL[name]
    with pysmtpx.connect(url(server)) as line:
        result = line.send(SENDER, [ALICE, BOB], content)
    assert result.accepted_recipients == (ALICE, BOB)
    for user in (ALICE, BOB):
        assert delivered(server, user, 1) == [corpus.arrives_as(content)]


@on(*WITH_REFUSALS)
def test_some_recipients_are_refused(server: RealServer) -> None:
    """FAULTS 21."""
    with pysmtpx.connect(url(server)) as line:
        result = line.send(SENDER, [NOBODY, ALICE, LATER, BOB], body(0))
        assert result.accepted_recipients == (ALICE, BOB)
        assert [(r.recipient, r.temporary) for r in result.rejected_recipients] == [
            (NOBODY, False),
            (LATER, True),
        ]
        assert [delivered(server, user, 1) for user in (ALICE, BOB)] == [[body(0)]] * 2
        assert is_usable(line, server)


@on(*WITH_REFUSALS)
def test_every_recipient_is_refused(server: RealServer) -> None:
    """FAULTS 23 and 37."""
    with pysmtpx.connect(url(server)) as line:
        with pytest.raises(pysmtpx.AllRecipientsFailed) as caught:
            line.send(SENDER, [NOBODY, LATER], body(0))
        assert [r.temporary for r in caught.value.rejected_recipients] == [False, True]
        assert is_usable(line, server)


@on(*WITH_REFUSALS)
def test_the_sender_is_refused(server: RealServer) -> None:
    """FAULTS 19."""
    with pysmtpx.connect(url(server)) as line:
        with pytest.raises(pysmtpx.SenderRejected):
            line.send(REFUSED, [ALICE], body(0))
        assert is_usable(line, server)


@on(*WITH_REFUSALS)
def test_the_content_is_refused(server: RealServer) -> None:
    """FAULTS 30."""
    with pysmtpx.connect(url(server)) as line:
        with pytest.raises(pysmtpx.DataRejected) as caught:
            line.send(SENDER, [ALICE], FIELDS % 1 + b"Subject: refuse this content\r\n\r\nx\r\n")
        assert not caught.value.safe_to_retry
        assert is_usable(line, server)
        assert server.mailbox(ALICE).is_empty()


@on(*KINDS)
@pytest.mark.parametrize("make", [list, iter], ids=["list", "generator"])
def test_a_stream_on_one_connection(server: RealServer, make: Callable[..., object]) -> None:
    """FAULTS 46: without ``overlap``, which is the default, no server is given what it could misread."""
    sent = mails(60, ALICE, BOB)
    with pysmtpx.connect(url(server)) as line:
        outcomes = list(line.send_many(make(sent)))  # type: ignore[arg-type]
    assert Counter(outcome.status for outcome in outcomes) == {"accepted": 60}
    for user in (ALICE, BOB):
        assert delivered(server, user, 60) == sorted(map(body, range(60)))


@on(*KINDS)
@pytest.mark.parametrize("way", ["send_many", "submit", "send"])
def test_a_pool(server: RealServer, way: str) -> None:
    """FAULTS 113: past what a connection may send, as OpenSMTPD's 100 messages."""
    sent = mails(250, ALICE)
    with SmtpPool(url(server), max_connections=2) as pool:
        if way == "send_many":
            found = [outcome.status for outcome in pool.send_many(sent)]
        elif way == "submit":
            futures = [pool.submit(each) for each in sent]
            found = ["accepted" for future in futures if future.result(60).accepted_recipients]
        else:
            found = [
                "accepted" for each in sent if pool.send(SENDER, ALICE, each.content).accepted_recipients
            ]
        assert Counter(found) == {"accepted": 250}
        assert pool.stats().retried == 0
    assert delivered(server, ALICE, 250) == sorted(map(body, range(250)))


@pytest.mark.parametrize("count", [45, 160])
@on(*WITH_REFUSALS)
def test_many_recipients(server: RealServer, count: int) -> None:
    """FAULTS 116: each of those who exist has it once, whatever the server takes at a time."""
    good = [f"alice+{n}@mail.test" for n in range(count)]
    bad = [f"nobody+{n}@mail.test" for n in range(0, count, 10)]
    mixed = [
        path
        for index, path in enumerate(good)
        for path in ([path] + bad[index // 10 : index // 10 + 1] * (index % 10 == 0))
    ]
    with pysmtpx.connect(url(server)) as line:
        result = line.send(SENDER, mixed, body(0))
    assert list(result.accepted_recipients) == good
    assert [r.recipient for r in result.rejected_recipients] == bad
    assert len(delivered(server, ALICE, count)) == count


@on(*KINDS)
def test_overlap_where_the_caller_asks_for_it(server: RealServer) -> None:
    """FAULTS 46: each message arrives once, and so says its outcome, also on a server that breaks on it."""
    sent = mails(60, ALICE)
    with SmtpPool(url(server), max_connections=1, overlap=True) as pool:
        outcomes = list(pool.send_many(sent))
    assert Counter(outcome.status for outcome in outcomes) == {"accepted": 60}
    assert delivered(server, ALICE, 60) == sorted(map(body, range(60)))

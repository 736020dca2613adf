"""What single servers do: limits of a connection, one reply for many recipients, open transactions."""

from __future__ import annotations

import contextlib
import time
from collections import Counter

import pytest
from real.test_many_servers import ALICE, BOB, NOBODY, SENDER, body, delivered, mails, url
from support.aiosmtpd_server import AiosmtpdServer
from support.chasquid import ChasquidServer
from support.cyrus import SIZE_LIMIT, CyrusServer
from support.exim import LIMIT, EximServer
from support.opensmtpd import OpensmtpdServer
from support.realserver import RealServer, on

import pysmtpx
from pysmtpx import MailObject, SmtpPool


@on(EximServer)
@pytest.mark.parametrize("refused", [[3], [0], [3, 4, 9], list(range(0, 20, 2))])
def test_a_transaction_that_exim_keeps_open(server: RealServer, refused: list[int]) -> None:
    """FAULTS 112: in flight, each message goes out by the sender and to the recipients of its own."""
    sent = [
        MailObject(f"sender{n}@elsewhere.test", NOBODY if n in refused else ALICE, body(n)) for n in range(20)
    ]
    with SmtpPool(url(server), max_connections=1, in_flight=8) as pool:
        outcomes = list(pool.send_many(sent, ordered=True))
    assert [n for n, outcome in enumerate(outcomes) if outcome.status == "rejected"] == refused
    assert Counter(outcome.status for outcome in outcomes)["accepted"] == 20 - len(refused)
    assert delivered(server, ALICE, 20 - len(refused)) == sorted(
        body(n) for n in range(20) if n not in refused
    )
    for line in server.log_text().splitlines():
        if " <= " in line:  # sender of message n, whose Message-ID is n's
            number = line.split(" id=")[1].split("@")[0]
            assert f"<= sender{number}@" in line


@on(EximServer)
@pytest.mark.parametrize(
    "options", [{}, {"overlap": True}, {"in_flight": 8}], ids=["plain", "overlap", "in flight"]
)
def test_exim_ends_a_connection_after_so_many(server: RealServer, options: dict[str, int]) -> None:
    """FAULTS 90, 113: 421 after a number of messages charges nobody a try, and the pool keeps its size."""
    assert isinstance(server, EximServer)
    count = LIMIT * 6
    events: Counter[str] = Counter()
    there = f"smtp://{server.host}:{server.limited_port}?tls=none"
    with SmtpPool(
        there, max_connections=3, on_event=lambda event: events.update([event.kind]), **options
    ) as pool:
        outcomes = list(pool.send_many(mails(count, ALICE)))
        assert Counter(outcome.status for outcome in outcomes) == {"accepted": count}
        assert pool.stats().retried == 0
    assert events["retried"] == 0
    assert delivered(server, ALICE, count) == sorted(map(body, range(count)))


@on(ChasquidServer)
def test_a_server_that_hangs_up_past_its_limit_of_recipients(server: RealServer) -> None:
    """FAULTS 116: chasquid takes 100, refuses some ten more by 452 and ends the session by 421."""
    everybody = [f"alice+{n}@mail.test" for n in range(250)]
    with SmtpPool(url(server), max_connections=1) as pool:
        result = pool.send(SENDER, everybody, body(0))
        assert list(result.accepted_recipients) == everybody
        # What was learnt holds for the next message.
        assert pool.send(SENDER, everybody, body(1)).accepted_recipients == result.accepted_recipients
        assert pool.stats().retried <= 1
    assert len(server.mailbox(ALICE).take(500)) == 500


@on(OpensmtpdServer)
@pytest.mark.parametrize("way", ["connection", "pool"])
def test_more_recipients_than_opensmtpd_takes(server: RealServer, way: str) -> None:
    """FAULTS 116: 451 4.5.3 is a limit too."""
    everybody = [f"alice+{n}@mail.test" for n in range(1100)]
    with contextlib.ExitStack() as stack:
        if way == "pool":
            sending = stack.enter_context(SmtpPool(url(server), max_connections=1))
        else:
            sending = stack.enter_context(pysmtpx.connect(url(server)))
        result = sending.send(SENDER, everybody, body(0))
    assert list(result.accepted_recipients) == everybody


def lmtp(server: RealServer) -> str:
    return f"lmtp://{server.host}:{server.lmtp_port if isinstance(server, AiosmtpdServer) else server.port}"


@on(CyrusServer)
def test_lmtp_tells_of_each_recipient(server: RealServer) -> None:
    """FAULTS 54."""
    with pysmtpx.connect(lmtp(server)) as line:
        for number in range(5):
            result = line.send_lmtp(SENDER, [ALICE, NOBODY, BOB], body(number))
            assert result.accepted_recipients == (ALICE, BOB)
            assert [r.recipient for r in result.rejected_recipients] == [NOBODY]
    for user in (ALICE, BOB):
        assert delivered(server, user, 5) == sorted(map(body, range(5)))


@on(CyrusServer)
def test_cyrus_refuses_a_large_message_before_it_is_sent(server: RealServer) -> None:
    """FAULTS 20."""
    with pysmtpx.connect(lmtp(server)) as line:
        with pytest.raises(pysmtpx.MessageTooLarge):
            line.send_lmtp(SENDER, [ALICE, BOB], body(0) + (b"y" * 70 + b"\r\n") * 2000)
        line.noop()


@on(CyrusServer, AiosmtpdServer)
@pytest.mark.parametrize("recipients", [(ALICE,), (ALICE, BOB)])
def test_one_reply_for_all_recipients_of_a_content_that_is_too_large(
    server: RealServer, recipients: tuple[str, ...]
) -> None:
    """FAULTS 119: its size is not known beforehand, since it can be read only once."""
    limit, began = SIZE_LIMIT if isinstance(server, CyrusServer) else 8_000_000, time.monotonic()
    large = iter([body(0), *[b"y" * 76 + b"\r\n"] * (limit // 70)])
    with pysmtpx.connect(lmtp(server)) as line, pytest.raises(pysmtpx.SmtpError) as caught:
        line.send_lmtp(SENDER, recipients, large, timeout=60)
    assert time.monotonic() - began < 40
    error = caught.value
    assert not error.accepted_recipients
    named = (
        *(r.recipient for r in error.rejected_recipients),
        *error.unknown_recipients,
        *error.unsent_recipients,
    )
    assert sorted(named) == sorted(recipients)
    assert error.rejected_recipients
    assert error.rejected_recipients[0].reply.code == 552
    assert all(server.mailbox(user).is_empty() for user in recipients)

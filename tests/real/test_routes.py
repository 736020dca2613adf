"""A Postfix that has had enough of us, and a chasquid that has not: what moves from one to the other."""

from __future__ import annotations

import pytest
from support.chasquid import ChasquidServer
from support.corpus import SEVEN_BIT
from support.mailbox import behind_trace
from support.postfix import DAILY_SENDER, LATER, QUOTA, QUOTA_SENDER, PostfixServer
from support.realserver import RealServer, on

from pysmtpx import MailObject, RetryPolicy, Route, Server, SmtpError, SmtpPool

pytestmark = pytest.mark.slow

SENDER, ALICE, BOB = "sender@elsewhere.test", "alice@mail.test", "bob@mail.test"
BODY = SEVEN_BIT["plain"]


def routes(postfix: PostfixServer, second: RealServer, **options: float) -> list[Route]:
    first = Server(postfix.host, postfix.plain_port, tls="none")
    return [Route(first, **options), Route(f"smtp://{second.host}:{second.port}?tls=none&weight=1")]  # type: ignore[arg-type]


def stored(server: RealServer, user: str, count: int) -> list[bytes]:
    return [behind_trace(each) for each in server.mailbox(user).take(count)]


@on(ChasquidServer)
@pytest.mark.parametrize("sender", [QUOTA_SENDER, DAILY_SENDER])
@pytest.mark.parametrize("balance", ["failover", "even", "weighted"])
@pytest.mark.parametrize("way", ["call", "worker"])
def test_a_quota_of_postfix_moves_on(
    postfix: PostfixServer, server: RealServer, sender: str, balance: str, way: str
) -> None:
    with SmtpPool(routes(postfix, server), balance=balance) as pool:  # type: ignore[arg-type]
        for _ in range(3):
            if way == "call":
                assert pool.send(sender, [BOB], BODY).accepted_recipients == (BOB,)
            else:
                assert pool.submit(MailObject(sender, BOB, BODY)).result(20).accepted_recipients == (BOB,)
        first, second = pool.stats().servers
    assert (first.state, first.messages, second.messages) == ("resting", 1, 3)
    assert stored(server, BOB, 3) == [BODY] * 3
    assert stored(postfix, BOB, 0) == []


@on(ChasquidServer)
def test_only_those_who_were_refused_so_move(postfix: PostfixServer, server: RealServer) -> None:
    """Neither who has it at Postfix, nor who is to come later."""
    with SmtpPool(routes(postfix, server), retry=RetryPolicy(attempts=2)) as pool:
        with pytest.raises(SmtpError) as caught:
            pool.send(SENDER, [LATER, QUOTA], BODY)
        told = {each.recipient: each.reply.code for each in caught.value.rejected_recipients}
        assert told == {LATER: 450, QUOTA: 550}, "chasquid knows no such user"
        result = pool.send(SENDER, [ALICE, BOB], BODY)
        assert result.accepted_recipients == (ALICE, BOB)


@on(ChasquidServer)
def test_shares_of_two_programs(
    postfix: PostfixServer, server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pysmtpx.pooling.selection._STALLED", 600.0)  # the machine may be slow
    with SmtpPool(routes(postfix, server, weight=3), balance="weighted") as pool:
        for _ in range(12):
            pool.send(SENDER, [BOB], BODY)
        assert [each.messages for each in pool.stats().servers] == [9, 3]
    assert len(stored(postfix, BOB, 9)) == 9
    assert len(stored(server, BOB, 3)) == 3

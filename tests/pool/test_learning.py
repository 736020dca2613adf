"""What a pool learns of a server: not to overlap, not to use BDAT; and connections that died unseen."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from support.patience import ENOUGH
from support.pools import AT_ONCE, BODY, ONCE, SENDER, mails, outcome, pool_of

from pysmtpx import DeliveryUnknown, channel
from pysmtpx.testing import Cut, Event, MailServer, Stall


def test_a_server_that_cannot_overlap_is_sent_to_without() -> None:
    """FAULTS 46: it drops what stands behind an end of data; plain pipelining from then on."""

    def verdict(event: Event) -> Any:
        return Cut() if event.verb == "MAIL" and event.transaction and event.connection < 3 else None

    with MailServer(verdict=verdict) as server:
        with pool_of(server, max_connections=1, retry=AT_ONCE, overlap=True) as pool:
            outcomes = list(pool.send_many(mails(30)))
            assert not pool._servers[0].overlap_works
        assert Counter(each.status for each in outcomes) == {"accepted": 30}
        assert len(server.messages) == 30


def test_a_server_that_hangs_on_bdat_gets_data() -> None:
    """FAULTS 53."""

    def verdict(event: Event) -> Any:
        return Stall() if event.verb == "FINAL" and event.connection == 0 else None

    with MailServer(verdict=verdict) as server:
        with pool_of(server, max_connections=1, in_flight=4, retry=ONCE) as pool:
            error = outcome(pool.send, SENDER, ["a@x.example"], BODY, timeout=ENOUGH)
            assert isinstance(error, DeliveryUnknown)
            assert {each.status for each in pool.send_many(mails(5))} == {"accepted"}
        assert {m.via for m in server.messages if m.addresses != ["a@x.example"]} == {"DATA"}


def test_a_half_open_connection_costs_seconds_and_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 88: the first reply on a connection that was idle has 20 seconds, here a fraction of one."""
    monkeypatch.setattr(channel, "REUSE_LIMIT", 0.1)

    def verdict(event: Event) -> Any:
        return Stall() if event.verb == "MAIL" and event.connection == 0 and event.transaction else None

    with MailServer(verdict=verdict) as server, pool_of(server, max_connections=1, retry=ONCE) as pool:
        pool.send(SENDER, "a@x.example", BODY)
        pool.send(SENDER, "b@x.example", BODY)
        assert [message.addresses[0] for message in server.messages] == ["a@x.example", "b@x.example"]
        assert [message.connection for message in server.messages] == [0, 1]

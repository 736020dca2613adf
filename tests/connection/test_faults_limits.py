"""FAULTS 22 as a caller sees it: more recipients than the server takes in one transaction."""

from __future__ import annotations

from typing import Any

import pytest
from support.fates import BODY, RCPTS, SENDER, assert_closed, assert_kept, attempt, fates, send
from support.transports import SEQUENTIAL, dialled, serving
from support.verdicts import first

from pysmtpx import DeliveryUnknown, RecipientsRejected, SendResult
from pysmtpx.testing import EXTENSIONS, Cut, Event

PATHS = pytest.mark.parametrize("extensions", [EXTENSIONS, SEQUENTIAL], ids=["pipelined", "sequential"])


def _at_most(limit: int, reply: str = "452 4.5.3 too many recipients") -> Any:
    """Take so many recipients in a transaction."""
    return lambda event: reply if event.verb == "RCPT" and event.index >= limit else None


@PATHS
@pytest.mark.parametrize(
    "reply", ["452 4.5.3 too many", "452 too many", "552 5.5.3 too many", "552 too many"]
)
@pytest.mark.parametrize("method", ["send", "send_bdat", "send_lmtp", "send_lmtp_bdat"])
def test_the_rest_goes_in_transactions_of_its_own(method: str, reply: str, extensions: Any) -> None:
    """FAULTS 22: on the same connection, and nobody twice."""
    recipients = [f"r{i}@x.example" for i in range(7)]
    protocol = "lmtp" if "lmtp" in method else "smtp"
    with (
        serving(extensions=extensions, verdict=_at_most(3, reply), protocol=protocol) as server,
        dialled(server) as conn,
    ):
        result = attempt(getattr(conn, method), SENDER, recipients, BODY)
        assert fates(result) == dict.fromkeys(recipients, "accepted")
        assert [m.addresses for m in server.messages] == [recipients[:3], recipients[3:6], recipients[6:]]
        assert {message.content for message in server.messages} == {BODY}
        assert len(result.replies) == 7
        assert_kept(conn, server)


@PATHS
def test_a_server_that_takes_one_after_it_had_enough(extensions: Any) -> None:
    """FAULTS 22: reneging; each is matched by its place."""
    with (
        serving(extensions=extensions, verdict=first(RCPT1="452 4.5.3 too many")) as server,
        dialled(server) as conn,
    ):
        assert fates(send(conn)) == dict.fromkeys(RCPTS, "accepted")
        assert [m.addresses for m in server.messages] == [[RCPTS[0], RCPTS[2]], [RCPTS[1]]]


def test_a_limit_that_is_stated_beforehand() -> None:
    """FAULTS 22 (RFC 9422 4.2)."""
    extensions = [*EXTENSIONS, "LIMITS RCPTMAX=2"]
    with (
        serving(extensions=extensions, verdict=_at_most(2, "550 told you")) as server,
        dialled(server) as conn,
    ):
        assert fates(send(conn)) == dict.fromkeys(RCPTS, "accepted")
        assert [m.addresses for m in server.messages] == [list(RCPTS[:2]), [RCPTS[2]]]


@PATHS
@pytest.mark.parametrize("reply", ["452 4.2.2 mailbox full", "552 5.2.2 mailbox full", "451 4.3.0 later"])
def test_another_refusal_is_not_taken_for_it(reply: str, extensions: Any) -> None:
    """FAULTS 22: a full mailbox has the same code."""
    with serving(extensions=extensions, verdict=first(RCPT1=reply)) as server, dialled(server) as conn:
        want = dict(zip(RCPTS, ["accepted", f"rejected {reply[:3]} rcpt", "accepted"], strict=True))
        assert fates(send(conn)) == want
        assert len(server.messages) == 1


def test_content_that_is_read_once_goes_once() -> None:
    """FAULTS 22: the refused are told to be so."""
    with serving(verdict=_at_most(1)) as server, dialled(server) as conn:
        result = send(conn, body=iter([BODY]))
        want = dict(zip(RCPTS, ["accepted", "rejected 452 rcpt", "rejected 452 rcpt"], strict=True))
        assert fates(result) == want
        assert all(rejected.temporary for rejected in result.rejected_recipients)
        assert_kept(conn, server)


def test_all_or_nothing_is_one_transaction() -> None:
    """FAULTS 22, 38."""
    with serving(verdict=_at_most(1)) as server, dialled(server) as conn:
        assert isinstance(send(conn, all_or_nothing=True), RecipientsRejected)
        assert not server.messages
        assert_kept_by_one(conn)


def assert_kept_by_one(conn: Any) -> None:
    assert isinstance(send(conn, RCPTS[0]), SendResult)


@PATHS
@pytest.mark.parametrize("refusal", ["550 no", "452 4.5.3 too many"])
def test_the_rest_is_refused_the_second_time(refusal: str, extensions: Any) -> None:
    """FAULTS 22: no third attempt for those who brought the second nothing."""

    def verdict(event: Event) -> str | None:
        if event.verb != "RCPT":
            return None
        return refusal if event.transaction else "452 4.5.3 too many" if event.index else None

    with serving(extensions=extensions, verdict=verdict) as server, dialled(server) as conn:
        rejected = f"rejected {refusal[:3]} rcpt"
        assert fates(send(conn)) == dict(zip(RCPTS, ["accepted", rejected, rejected], strict=True))
        assert server.messages[0].addresses == [RCPTS[0]]
        assert server.ledger.commands[0].count("MAIL") == 2


@PATHS
@pytest.mark.parametrize("position", ["MAIL", "RCPT", "DATA", "FINAL"])
@pytest.mark.parametrize("fault", [Cut(), "421 4.3.2 bye", "550 no"], ids=["cut", "421", "550"])
def test_the_second_transaction_fails(position: str, fault: Any, extensions: Any) -> None:
    """FAULTS 22: who has it has it, and the call as a whole must not be made again."""

    def verdict(event: Event) -> Any:
        if event.transaction == 0:
            return "452 4.5.3 too many" if event.verb == "RCPT" and event.index else None
        return fault if event.verb == position else None

    with serving(extensions=extensions, verdict=verdict) as server:
        conn = dialled(server)
        outcome = send(conn)
        found = fates(outcome)
        assert found[RCPTS[0]] == "accepted"
        assert set(found) == set(RCPTS)
        if position == "FINAL" and isinstance(fault, Cut):
            assert isinstance(outcome, DeliveryUnknown)
            assert [found[path] for path in RCPTS[1:]] == ["unknown"] * 2
            assert not outcome.safe_to_retry
        else:
            # An attempt that nobody asked for must not make an error of what was a result.
            assert isinstance(outcome, SendResult)
            code = 550 if (fault, position) == ("550 no", "RCPT") else 452
            assert [found[path] for path in RCPTS[1:]] == [f"rejected {code} rcpt"] * 2
        if fault != "550 no":
            assert_closed(conn)
        conn.close()
    assert server.messages[0].addresses == [RCPTS[0]]

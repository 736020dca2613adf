"""Recipients beyond a server's limit: further transactions, one result (FAULTS 22)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from support.judge import Line
from support.opening import open_session

from pysmtpx.errors import (
    AllRecipientsFailed,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    NotSupportedError,
    SessionLimitReached,
    SmtpError,
)
from pysmtpx.flow.allowance import Allowance
from pysmtpx.flow.plan import Options, make_plan
from pysmtpx.flow.session import Opening
from pysmtpx.flow.transaction import delivery
from pysmtpx.testing.config import Config
from pysmtpx.testing.protocol import ServerSession
from pysmtpx.testing.script import Cut, Event
from pysmtpx.wire.capabilities import Protocol
from pysmtpx.wire.envelope import MailObject
from pysmtpx.wire.params import RcptToParams

BODY = b"Subject: x\r\n\r\nhello\r\n"
PATHS = tuple(f"r{i}@x.example" for i in range(5))


def converse(
    verdict: Any = None, *, lmtp: bool = False, limit: str = "", paths: tuple[str, ...] = PATHS, **mail: Any
) -> tuple[Any, Line]:
    """What became of a mail object to a server that answers like this, and the line it went over."""
    extensions = ["PIPELINING", "DSN", *([limit] if limit else [])]
    config = Config(protocol="lmtp" if lmtp else "smtp", extensions=extensions, verdict=verdict)
    line = Line(ServerSession(config), itertools.repeat(1000))
    line._take(line.session.greeting())
    protocol = Protocol.LMTP if lmtp else Protocol.SMTP
    offered = line.run(open_session(Opening(protocol=protocol, name="client.example")))
    options = Options(all_or_nothing=mail.pop("all_or_nothing", False))
    sent = MailObject("s@x.example", paths, mail.pop("content", BODY), **mail)
    try:
        room = Allowance.of(offered)
        plan = make_plan(sent, offered, protocol=protocol, is_tls=False, options=options, allowance=room)
        return line.run(delivery(plan)), line
    except SmtpError as error:
        return error, line


def at_most(count: int, reply: str = "452 4.5.3 too many") -> Any:
    """A server that takes so many recipients in a transaction, and does not say so before."""
    return lambda event: reply if event.verb == "RCPT" and event.index >= count else None


def transactions(line: Line) -> list[list[str]]:
    return [message.addresses for message in line.session.ledger.messages]


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("reply", ["452 4.5.3 too many", "452 too many", "552 5.5.3 too many", "552 no"])
def test_the_rest_follow_on_the_same_connection(count: int, reply: str, lmtp: bool) -> None:
    result, line = converse(at_most(count, reply), lmtp=lmtp)
    assert result.accepted_recipients == PATHS
    assert result.rejected_recipients == ()
    assert len(result.replies) == len(PATHS)
    assert transactions(line) == [list(PATHS[i : i + count]) for i in range(0, 5, count)]
    line.session.ledger.assert_clean()


@pytest.mark.parametrize(("count", "offered"), [(120, [250, 120, 10]), (70, [250, 100, 100, 40])])
def test_what_a_server_took_is_not_passed_again_nor_is_it_taken_for_less_than_100(
    count: int, offered: list[int]
) -> None:
    """RFC 5321 4.5.3.1.8: a server takes 100; whoever is beyond that costs a round trip of refusals."""
    result, line = converse(at_most(count), paths=tuple(f"r{i}@x.example" for i in range(250)))
    assert len(result.accepted_recipients) == 250
    (verbs,) = line.session.ledger.commands
    asked = [each.count("RCPT") for each in " ".join(verbs).split("MAIL")[1:]]
    assert asked == offered


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_a_limit_that_is_stated_is_never_passed(count: int) -> None:
    result, line = converse(limit=f"LIMITS RCPTMAX={count}")
    assert result.accepted_recipients == PATHS
    assert transactions(line) == [list(PATHS[i : i + count]) for i in range(0, 5, count)]
    line.session.ledger.assert_clean()


def test_recipients_beyond_the_domains_of_the_session_are_unsent() -> None:
    """LIMITS RCPTDOMAINMAX (RFC 9422 4.3) is for the session: a further transaction would not help them."""
    paths = ("a@x.example", "b@y.example", "c@X.example", "d@z.example")
    error, line = converse(limit="LIMITS RCPTDOMAINMAX=2", paths=paths)
    assert type(error) is SessionLimitReached
    assert (error.accepted_recipients, error.unsent_recipients) == (paths[:3], paths[3:])
    assert transactions(line) == [list(paths[:3])]
    assert not line.closed
    line.session.ledger.assert_clean()


@pytest.mark.parametrize("lmtp", [False, True])
def test_a_message_that_needs_more_transactions_than_the_session_has_room_for(lmtp: bool) -> None:
    """LIMITS MAILMAX counts MAIL (RFC 9422 4.1), not messages."""
    error, line = converse(limit="LIMITS MAILMAX=2 RCPTMAX=2", lmtp=lmtp)
    assert type(error) is SessionLimitReached
    assert (error.accepted_recipients, error.unsent_recipients) == (PATHS[:4], PATHS[4:])
    line.session.ledger.assert_clean()


def test_whoever_was_put_off_is_unsent_if_the_session_has_no_room_for_another_transaction() -> None:
    """452 was about their number, and MAILMAX ends the session before they can be sent to."""
    error, line = converse(at_most(3), limit="LIMITS MAILMAX=1")
    assert type(error) is SessionLimitReached
    assert (error.accepted_recipients, error.unsent_recipients) == (PATHS[:3], PATHS[3:])
    assert error.rejected_recipients == ()
    line.session.ledger.assert_clean()


def test_a_refusal_that_is_for_all_is_told_and_not_the_limit() -> None:
    refused = lambda event: "554 no" if event.verb == "FINAL" else None  # noqa: E731
    error, _ = converse(refused, limit="LIMITS RCPTDOMAINMAX=1", paths=("a@x.example", "b@y.example"))
    assert type(error) is DataRejected
    assert error.unsent_recipients == ("b@y.example",)


def test_who_is_refused_and_who_has_no_room() -> None:
    refused = lambda event: "550 no" if event.verb == "RCPT" else None  # noqa: E731
    error, line = converse(refused, limit="LIMITS RCPTDOMAINMAX=1", paths=("a@x.example", "b@y.example"))
    assert type(error) is SessionLimitReached
    assert [each.recipient for each in error.rejected_recipients] == ["a@x.example"]
    assert error.unsent_recipients == ("b@y.example",)
    assert error.temporary
    assert not line.closed


@pytest.mark.parametrize("mail", [{"all_or_nothing": True}, {"content": iter([BODY])}])
def test_what_cannot_be_parted_by_domain_is_refused_before_a_byte(mail: dict[str, Any]) -> None:
    error, line = converse(limit="LIMITS RCPTDOMAINMAX=1", paths=("a@x.example", "b@y.example"), **mail)
    assert type(error) is NotSupportedError
    assert "at 1 domains" in str(error)
    assert transactions(line) == []


@pytest.mark.parametrize("reply", ["452 4.2.2 mailbox full", "552 5.2.2 mailbox full", "451 4.5.3 later"])
def test_a_full_mailbox_is_not_too_many(reply: str) -> None:
    result, line = converse(
        lambda event: reply if event.verb == "RCPT" and event.address == PATHS[2] else None
    )
    assert [r.recipient for r in result.rejected_recipients] == [PATHS[2]]
    assert len(transactions(line)) == 1


def test_parameters_stay_with_their_recipient() -> None:
    params = [RcptToParams(orcpt=f"rfc822;{i}@y.example") for i in range(5)]
    _, line = converse(at_most(2), rcpt_params=params)
    for message in line.session.ledger.messages:
        for recipient in message.recipients:
            assert recipient.params["ORCPT"] == f"rfc822;{recipient.address[1]}@y.example"


def test_nobody_in_the_first_transaction_and_somebody_in_the_next() -> None:
    result, _ = converse(
        lambda event: "550 no" if event.verb == "RCPT" and event.address in PATHS[:2] else None,
        limit="LIMITS RCPTMAX=2",
    )
    assert result.accepted_recipients == PATHS[2:]
    assert [r.recipient for r in result.rejected_recipients] == list(PATHS[:2])


def test_nobody_in_any() -> None:
    error, line = converse(lambda event: "550 no" if event.verb == "RCPT" else None, limit="LIMITS RCPTMAX=2")
    assert type(error) is AllRecipientsFailed
    assert [r.recipient for r in error.rejected_recipients] == list(PATHS)
    assert not line.closed


def later(verb: str, answer: Any) -> Any:
    """Two recipients a transaction, and this answer in the second."""

    def verdict(event: Event) -> Any:
        if event.verb == verb and event.transaction == 1:
            return answer
        return at_most(2)(event)

    return verdict


def test_a_loss_in_the_second_transaction_keeps_the_first() -> None:
    error, _ = converse(later("RCPT", Cut()), limit="LIMITS RCPTMAX=2")
    assert type(error) is ConnectionLost
    assert error.accepted_recipients == PATHS[:2]
    assert error.unsent_recipients == PATHS[2:]
    assert not error.safe_to_retry  # the whole would reach the first two again


@pytest.mark.parametrize("answer", [Cut(), "421 bye"])
def test_whoever_was_put_off_is_unsent_if_the_session_ends_first(answer: Any) -> None:
    """452 was about their number, so a pool sends to them as to those who had been accepted."""
    error, _ = converse(lambda event: answer if event.verb == "DATA" else at_most(2)(event))
    assert error.unsent_recipients == PATHS
    assert error.rejected_recipients == ()


def test_452_for_everybody_put_nobody_off() -> None:
    """It was not about their number, since nobody was taken before: they stay refused by it."""
    error, _ = converse(
        lambda event: (Cut() if event.transaction else "452 4.5.3 no") if event.verb == "RCPT" else None,
        limit="LIMITS RCPTMAX=2",
    )
    assert [(r.recipient, r.reply.code) for r in error.rejected_recipients] == [(p, 452) for p in PATHS[:2]]
    assert error.unsent_recipients == PATHS[2:]


@pytest.mark.parametrize("answer", [Cut(), "450 one message a session", "421 bye"])
def test_a_second_transaction_that_nobody_asked_for_spoils_nothing(answer: Any) -> None:
    """Those whom 452 refused stay refused by it, whatever becomes of the attempt to do better."""
    result, line = converse(later("MAIL", answer))
    assert result.accepted_recipients == PATHS[:2]
    assert [(r.recipient, r.reply.code) for r in result.rejected_recipients] == [(p, 452) for p in PATHS[2:]]
    assert line.closed == (answer != "450 one message a session")


@pytest.mark.parametrize("lmtp", [False, True])
def test_an_address_that_stands_twice_is_told_apart_by_its_place(lmtp: bool) -> None:
    """FAULTS 56."""
    answers = iter(["550 no", "452 4.5.3 too many", "250 ok", "250 ok"])
    result, line = converse(
        lambda event: next(answers) if event.verb == "RCPT" else None,
        lmtp=lmtp,
        paths=("a@x.example", "b@x.example", "a@x.example"),
    )
    assert sorted(result.accepted_recipients) == ["a@x.example", "b@x.example"]
    assert [(r.recipient, r.reply.code) for r in result.rejected_recipients] == [("a@x.example", 550)]
    assert transactions(line) == [["a@x.example"], ["b@x.example"]]


def test_content_that_fails_in_the_second_transaction_says_who_has_it() -> None:
    class Failing:
        reads = 0

        def __iter__(self) -> Any:
            self.reads += 1
            yield BODY
            if self.reads == 3:  # one to measure, one a transaction
                raise ValueError("gone")

    with pytest.raises(ValueError, match="gone") as caught:
        converse(at_most(2), content=Failing())
    assert PATHS[0] in caught.value.__notes__[0]
    assert PATHS[2] not in caught.value.__notes__[0]


def test_doubt_in_the_second_transaction_is_about_it_alone() -> None:
    error, _ = converse(later("FINAL", Cut()))
    assert type(error) is DeliveryUnknown
    assert error.accepted_recipients == PATHS[:2]
    assert error.unknown_recipients == PATHS[2:4]
    assert [(r.recipient, r.reply.code) for r in error.rejected_recipients] == [(PATHS[4], 452)]


def test_content_that_is_refused_in_the_second_transaction() -> None:
    error, line = converse(later("FINAL", "554 no"), limit="LIMITS RCPTMAX=2")
    assert type(error) is DataRejected
    assert error.accepted_recipients == PATHS[:2]
    assert [r.recipient for r in error.rejected_recipients] == list(PATHS[2:4])
    assert error.unsent_recipients == PATHS[4:]
    assert not line.closed


@pytest.mark.parametrize("mail", [{"all_or_nothing": True}, {"content": iter([BODY])}])
def test_what_cannot_be_sent_twice_is_refused_where_the_limit_is_known(mail: dict[str, Any]) -> None:
    error, line = converse(limit="LIMITS RCPTMAX=2", **mail)
    assert type(error) is NotSupportedError
    assert error.keyword == "LIMITS"
    assert line.session.ledger.commands == [["EHLO"]]


def test_what_can_be_read_only_once_goes_once() -> None:
    result, line = converse(at_most(2), content=iter([BODY]))
    assert result.accepted_recipients == PATHS[:2]
    assert [r.recipient for r in result.rejected_recipients] == list(PATHS[2:])
    assert len(transactions(line)) == 1

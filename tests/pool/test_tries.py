"""Who is owed another try, and what any sequence of tries comes to: nothing false about anybody."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import (
    AllRecipientsFailed,
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    InputError,
    NotSupportedError,
    RecipientsRejected,
    SenderRejected,
    ServiceUnavailable,
    SessionLimitReached,
    SmtpError,
    Timeout,
)
from pysmtpx.pooling.tries import Tries
from pysmtpx.retry import RetryPolicy
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import RejectedRecipient, SendResult

A, B, C = (f"{name}@x.example" for name in "abc")
OK, LATER, NEVER = Reply(250), Reply(451), Reply(550)
DEFAULT, PATIENT, BOLD = RetryPolicy(), RetryPolicy(temporary=True), RetryPolicy(temporary=True, unknown=True)
CODES = {"ok": 250, "later": 451, "never": 550}


def refused(path: str, reply: Reply = NEVER) -> RejectedRecipient:
    return RejectedRecipient(path, reply, Stage.RCPT)


def error(
    kind: type[SmtpError] = ConnectionLost,
    accepted: tuple[str, ...] = (),
    rejected: tuple[RejectedRecipient, ...] = (),
    unknown: tuple[str, ...] = (),
    unsent: tuple[str, ...] = (),
) -> SmtpError:
    made = kind("", reply=Reply(421) if kind is ServiceUnavailable else None)
    made.accepted_recipients, made.rejected_recipients = accepted, rejected
    made.unknown_recipients, made.unsent_recipients = unknown, unsent
    return made


def all_failed(*rejected: RejectedRecipient) -> AllRecipientsFailed:
    made = AllRecipientsFailed(len(rejected), [each.reply for each in rejected])
    made.rejected_recipients = rejected
    return made


def after(
    *outcomes: SendResult | SmtpError,
    recipients: tuple[str, ...] = (A, B, C),
    policy: RetryPolicy = BOLD,
    whole: bool = False,
) -> Tries:
    tries = Tries(recipients)
    for outcome in outcomes:
        tries.enter(outcome, policy, whole=whole)
    return tries


def names(outcome: SendResult | SmtpError) -> list[tuple[str, str]]:
    told = [("accepted", path) for path in outcome.accepted_recipients]
    told += [("rejected", each.recipient) for each in outcome.rejected_recipients]
    if isinstance(outcome, SmtpError):
        told += [("unknown", path) for path in outcome.unknown_recipients]
        told += [("unsent", path) for path in outcome.unsent_recipients]
    return told


# -- one try --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [InputError, NotSupportedError])
def test_what_this_side_cannot_send_is_not_tried_again(kind: type[SmtpError]) -> None:
    """Not even to whom the server had refused for now by the time when that was found out."""
    tries = after(error(kind, rejected=(refused(A, LATER),), unsent=(B, C)))
    assert tries.owed == []


def test_the_caller_is_not_asked_if_nobody_could_be_sent_to_again() -> None:
    asked: list[SmtpError] = []
    policy = RetryPolicy(retryable=lambda error: not asked.append(error))  # type: ignore[func-returns-value]
    assert after(all_failed(refused(A), refused(B), refused(C)), policy=policy).owed == []
    assert asked == []
    assert after(error(unsent=(A, B, C)), policy=policy).owed == [0, 1, 2]
    assert len(asked) == 1


def test_one_result_is_the_result() -> None:
    result = SendResult((A, C), (refused(B),), OK, (OK, OK))
    tries = after(result)
    assert tries.outcome() is result
    assert tries.owed == []


def test_one_error_is_the_error() -> None:
    failure = error(unsent=(A, B, C))
    assert after(failure).outcome() is failure


@pytest.mark.parametrize(
    ("outcome", "policy", "owed"),
    [
        (error(unsent=(A, B, C)), DEFAULT, [0, 1, 2]),
        (error(accepted=(A,), unsent=(B, C)), DEFAULT, [1, 2]),
        (error(Timeout, rejected=(refused(A),), unsent=(B, C)), DEFAULT, [1, 2]),
        (error(ServiceUnavailable, rejected=(refused(A, LATER),), unsent=(B, C)), DEFAULT, [1, 2]),
        (error(ServiceUnavailable, rejected=(refused(A, LATER),), unsent=(B, C)), PATIENT, [0, 1, 2]),
        (error(rejected=(refused(A, Reply(421)),), unsent=(B, C)), DEFAULT, [0, 1, 2]),
        (SendResult((A,), (refused(B, LATER), refused(C)), OK), DEFAULT, []),
        (SendResult((A,), (refused(B, LATER), refused(C)), OK), PATIENT, [1]),
        (all_failed(refused(A, LATER), refused(B), refused(C, LATER)), DEFAULT, []),
        (all_failed(refused(A, LATER), refused(B), refused(C, LATER)), PATIENT, [0, 2]),
        (error(DeliveryUnknown, unknown=(A, B, C)), PATIENT, []),
        (error(DeliveryUnknown, unknown=(A, B, C)), BOLD, [0, 1, 2]),
        (error(DeliveryUnknown, accepted=(A,), unknown=(B,), unsent=(C,)), DEFAULT, [2]),
        (error(DeliveryUnknown, accepted=(A,), unknown=(B,), unsent=(C,)), BOLD, [1, 2]),
        (DeliveryUnknown("names nobody"), DEFAULT, []),
        (error(InputError, unsent=(A, B, C)), BOLD, []),
        (error(AuthenticationError, unsent=(A, B, C)), BOLD, []),
        (ConnectError("names nobody"), DEFAULT, [0, 1, 2]),
    ],
)
def test_who_is_owed_another_try(
    outcome: SendResult | SmtpError, policy: RetryPolicy, owed: list[int]
) -> None:
    assert after(outcome, policy=policy).owed == owed


def test_the_last_word_is_asked_about_a_refusal_within_a_result() -> None:
    asked: list[SmtpError] = []
    policy = RetryPolicy(temporary=True, retryable=lambda each: asked.append(each) is not None)
    tries = after(SendResult((A, B), (refused(C, LATER),), OK), policy=policy)
    assert tries.owed == []
    assert [type(each) for each in asked] == [AllRecipientsFailed]
    assert asked[0].rejected_recipients == (refused(C, LATER),)


# -- all or nothing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "owed"),
    [
        (error(unsent=(A, B, C)), [0, 1, 2]),
        (error(rejected=(refused(A, LATER),), unsent=(B, C)), [0, 1, 2]),
        (error(rejected=(refused(A),), unsent=(B, C)), []),
        (SendResult((A, B), (RejectedRecipient(C, LATER, Stage.FINAL),), OK), []),
        (error(DeliveryUnknown, accepted=(A,), unknown=(B, C)), []),
    ],
)
def test_all_or_nothing_is_never_sent_to_a_part(outcome: SendResult | SmtpError, owed: list[int]) -> None:
    assert after(outcome, whole=True).owed == owed


@pytest.mark.parametrize("code", [421, 451])
def test_all_or_nothing_does_not_reach_for_those_in_doubt(code: int) -> None:
    """That everybody or nobody is to have it does not make it safe to send twice."""
    outcome = error(DeliveryUnknown, rejected=(refused(A, Reply(code)),), unknown=(B, C))
    assert after(outcome, policy=PATIENT, whole=True).owed == []
    assert after(outcome, policy=BOLD, whole=True).owed == [0, 1, 2]


def test_all_or_nothing_refused_for_now() -> None:
    refusal = RecipientsRejected(3, [LATER])
    refusal.rejected_recipients, refusal.unsent_recipients = (refused(B, LATER),), (A, C)
    assert after(refusal, policy=PATIENT, whole=True).owed == [0, 1, 2]
    assert after(refusal, policy=DEFAULT, whole=True).owed == []


# -- several tries --------------------------------------------------------------------------


def test_acceptances_of_several_tries_are_one_result() -> None:
    first, second = Reply(250, (b"queued as 1",)), Reply(250, (b"queued as 2",))
    tries = after(
        SendResult((B,), (refused(A, LATER), refused(C)), first, (first,)),
        SendResult((A,), (), second, (second,)),
    )
    assert tries.outcome() == SendResult((A, B), (refused(C),), second, (second, first))


def test_an_error_has_the_replies_of_those_who_have_the_message() -> None:
    """By way of an error too the final reply to each is kept: it names the queue id."""
    first, second = Reply(250, (b"queued as 1",)), Reply(250, (b"queued as 2",))
    went = error(ServiceUnavailable, accepted=(A,), unsent=(B, C))
    went.accepted_replies = (first,)
    tries = after(went, error(accepted=(C,), unsent=(B,)))
    assert isinstance(lost := tries.outcome(), SmtpError)
    assert (lost.accepted_recipients, lost.accepted_replies) == ((A, C), (first, Reply(250)))
    tries = after(went, SendResult((B, C), (), second, (second, second)))
    assert tries.outcome() == SendResult((A, B, C), (), second, (first, second, second))


def test_doubt_stays_though_a_later_try_is_refused() -> None:
    cause = ConnectionLost("")
    doubt = error(DeliveryUnknown, unknown=(A, B), unsent=(C,))
    doubt.__cause__ = cause
    tries = after(doubt, all_failed(refused(A), refused(B), refused(C)))
    outcome = tries.outcome()
    assert outcome is doubt
    assert outcome.__cause__ is cause
    assert names(outcome) == [("rejected", C), ("unknown", A), ("unknown", B)]
    assert tries.owed == []  # a server that refuses it for good is not asked again


def test_a_refusal_stands_where_the_next_try_says_nothing() -> None:
    """The last reply is what the pool gives up with."""
    refusal = SenderRejected("", reply=LATER)
    refusal.rejected_recipients = tuple(refused(path, LATER) for path in (A, B, C))
    outcome = after(refusal, error(unsent=(A, B, C))).outcome()
    assert outcome is refusal
    assert names(outcome) == [("rejected", A), ("rejected", B), ("rejected", C)]


def test_refusals_of_several_tries_are_one_error() -> None:
    last = all_failed(refused(B, LATER))
    last.transcript = ("S: 451",)
    tries = after(all_failed(refused(A), refused(B, LATER), refused(C)), last)
    outcome = tries.outcome()
    assert type(outcome) is AllRecipientsFailed
    assert (outcome.count, outcome.responses) == (3, (NEVER, LATER, NEVER))
    assert outcome.rejected_recipients == (refused(A), refused(B, LATER), refused(C))
    assert outcome.transcript == last.transcript
    assert outcome.__cause__ is last


def test_a_refusal_and_silence_are_the_error_of_the_silence() -> None:
    last = error(Timeout, unsent=(B,))
    outcome = after(error(ServiceUnavailable, accepted=(A,), rejected=(refused(C),), unsent=(B,)), last)
    assert outcome.outcome() is last
    assert names(last) == [("accepted", A), ("rejected", C), ("unsent", B)]
    assert not last.safe_to_retry


def test_data_refused_after_a_recipient_was() -> None:
    first = all_failed(refused(A), refused(B, LATER), refused(C, LATER))
    second = DataRejected("", reply=NEVER)
    second.rejected_recipients = tuple(RejectedRecipient(path, NEVER, Stage.FINAL) for path in (B, C))
    outcome = after(first, second).outcome()
    assert isinstance(outcome, SmtpError)
    assert [each.recipient for each in outcome.rejected_recipients] == [A, B, C]
    assert [each.stage for each in outcome.rejected_recipients] == [Stage.RCPT, Stage.FINAL, Stage.FINAL]


# -- an address that stands twice -------------------------------------------------------------


def test_an_address_that_stands_twice_is_two_recipients() -> None:
    """FAULTS 56: by position, not by name."""
    tries = after(SendResult((A,), (refused(A, LATER),), OK, (OK,)), recipients=(A, A))
    assert tries.owed == [1]
    tries.enter(SendResult((A,), (), OK, (OK,)), BOLD, whole=False)
    assert tries.outcome() == SendResult((A, A), (), OK, (OK, OK))


# -- whatever comes -----------------------------------------------------------------------------


class Story(NamedTuple):
    """Recipients, and what each of the owed gets at each try."""

    recipients: tuple[str, ...]
    tries: list[list[str]]
    shutdown: bool
    policy: RetryPolicy


FATES = st.sampled_from(["ok", "later", "never", "doubt", "unsent"])


@st.composite
def stories(draw: st.DrawFn, *, twice: bool) -> Story:
    count = draw(st.integers(1, 5))
    paths = tuple(f"r{i}@x.example" for i in range(count))
    if twice:
        paths = tuple(draw(st.sampled_from([A, B])) for _ in range(count))
    tries = draw(st.lists(st.lists(FATES, min_size=count, max_size=count), min_size=1, max_size=5))
    policy = RetryPolicy(temporary=draw(st.booleans()), unknown=draw(st.booleans()))
    return Story(paths, tries, draw(st.booleans()), policy)


def one_try(story: Story, owed: list[int], fates: list[str]) -> SendResult | SmtpError:
    """What the flows would tell of a try with these fates."""
    mine = [(story.recipients[i], fates[i]) for i in owed]

    def those(name: str) -> tuple[str, ...]:
        return tuple(path for path, fate in mine if fate == name)

    accepted = those("ok")
    rejected = tuple(refused(path, Reply(CODES[fate])) for path, fate in mine if fate in ("later", "never"))
    if those("doubt"):
        return error(DeliveryUnknown, accepted, rejected, those("doubt"), those("unsent"))
    if those("unsent"):
        kind = ServiceUnavailable if story.shutdown else ConnectionLost
        return error(kind, accepted, rejected, (), those("unsent"))
    return SendResult(accepted, rejected, OK, (OK,) * len(accepted)) if accepted else all_failed(*rejected)


def expected(history: list[str]) -> str:
    """What is true of a recipient with these fates in turn."""
    if "ok" in history:
        return "accepted"
    if "doubt" in history:
        return "unknown"
    return "rejected" if {"later", "never"} & set(history) else "unsent"


@given(stories(twice=False))
def test_each_recipient_is_told_of_once_and_truly(story: Story) -> None:
    tries, histories = Tries(story.recipients), [list[str]() for _ in story.recipients]
    for fates in story.tries:
        owed = tries.owed.copy()
        if not owed:
            break
        assert not any("ok" in histories[i] for i in owed), "sent again to somebody who has it"
        for i in owed:
            histories[i].append(fates[i])
        tries.enter(one_try(story, owed, fates), story.policy, whole=False)
        outcome = tries.outcome()
        told = [(expected(history), path) for history, path in zip(histories, story.recipients, strict=True)]
        assert sorted(names(outcome)) == sorted(told)
        kinds = {kind for kind, _ in told}
        assert isinstance(outcome, SendResult) is ("accepted" in kinds and not kinds & {"unknown", "unsent"})
        assert isinstance(outcome, DeliveryUnknown) is ("unknown" in kinds)
        assert list(outcome.accepted_recipients) == [path for kind, path in told if kind == "accepted"]
        for i in tries.owed:
            assert i in owed
            assert fates[i] == "unsent" or story.policy.temporary or story.policy.unknown
            assert fates[i] not in ("ok", "never")
            assert fates[i] != "doubt" or story.policy.unknown
            assert fates[i] != "later" or story.policy.temporary
        assert {i for i in owed if fates[i] == "unsent"} <= set(tries.owed)


@given(stories(twice=True))
def test_addresses_that_stand_twice_are_counted_right(story: Story) -> None:
    """FAULTS 56: nobody is lost, nobody is told of twice, and no more are accepted than the server did."""
    tries, accepted = Tries(story.recipients), Counter[str]()
    for fates in story.tries:
        owed = tries.owed.copy()
        if not owed:
            break
        outcome = one_try(story, owed, fates)
        accepted += Counter(outcome.accepted_recipients)
        tries.enter(outcome, story.policy, whole=False)
        told = names(tries.outcome())
        assert Counter(path for _, path in told) == Counter(story.recipients)
        assert Counter(path for kind, path in told if kind == "accepted") == accepted
        left = Counter(story.recipients) - accepted
        assert not Counter(story.recipients[i] for i in tries.owed) - left


@given(stories(twice=False))
def test_all_or_nothing_goes_to_all_whatever_comes(story: Story) -> None:
    tries = Tries(story.recipients)
    for fates in story.tries:
        if not tries.owed:
            break
        assert len(tries.owed) == len(story.recipients)
        tries.enter(one_try(story, tries.owed.copy(), fates), story.policy, whole=True)
        allowed = {"unsent"} | ({"doubt"} if story.policy.unknown else set())
        allowed |= {"later"} if story.policy.temporary else set()
        assert bool(tries.owed) is (set(fates) <= allowed)


def leave(_: object) -> bool:
    raise SystemExit


@pytest.mark.parametrize("is_part", [False, True])
def test_where_the_policy_raises_the_try_is_entered_and_nobody_it_was_about_is_owed(is_part: bool) -> None:
    """FAULTS 92: whoever has the message least of all."""
    policy = RetryPolicy(temporary=True, unknown=True, retryable=leave)
    tries, told = Tries((A, B, C)), error(SessionLimitReached, (A,), (refused(B, LATER),), unsent=(C,))
    enter = partial(tries.go_on, moves=False) if is_part else partial(tries.enter, whole=False)
    with pytest.raises(SystemExit):
        enter(told, policy)  # type: ignore[arg-type]
    assert tries.noted is told
    assert names(tries.outcome()) == [("accepted", A), ("rejected", B), ("unsent", C)]
    assert (tries.owed, tries.put_off) == ([2] if is_part else [], [])

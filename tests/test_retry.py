"""The policy of retries: what is safe is wanted, and nothing can make it want what is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx import (
    AllRecipientsFailed,
    AuthenticationError,
    ConnectError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    InputError,
    NotSupportedError,
    ProtocolError,
    RetryPolicy,
    SenderRejected,
    ServiceUnavailable,
    SmtpError,
    Timeout,
    TlsError,
)
from pysmtpx.errors import CommandRejected, MechanismUnavailable, MessageTooLarge, UsageError
from pysmtpx.wire.reply import Reply

DEFAULT, TEMPORARY, UNKNOWN = RetryPolicy(), RetryPolicy(temporary=True), RetryPolicy(unknown=True)
POLICIES = {"default": DEFAULT, "temporary": TEMPORARY, "unknown": UNKNOWN}

ALWAYS: list[SmtpError] = [
    ConnectError("nobody answered"),
    ConnectError("greeting", reply=Reply(421)),
    ConnectionLost("gone"),
    Timeout("late"),
    ProtocolError("what?"),
    ServiceUnavailable(reply=Reply(421)),
]
IF_TEMPORARY: list[SmtpError] = [
    ConnectError("greeting", reply=Reply(450)),
    AuthenticationError(reply=Reply(454)),
    TlsError(reply=Reply(454)),
    SenderRejected(reply=Reply(451)),
    DataRejected(reply=Reply(452)),
    CommandRejected(reply=Reply(450)),
    AllRecipientsFailed(2, [Reply(450), Reply(450)]),
    AllRecipientsFailed(2, [Reply(450), Reply(550)]),
]
NEVER: list[SmtpError] = [
    InputError("bad"),
    UsageError("not so"),
    MessageTooLarge("big"),
    NotSupportedError("no", keyword="DSN"),
    TlsError("certificate"),
    AuthenticationError(reply=Reply(535)),
    MechanismUnavailable("none"),
    ConnectError("greeting", reply=Reply(554)),
    SenderRejected(reply=Reply(550)),
    DataRejected(reply=Reply(554)),
    AllRecipientsFailed(1, [Reply(550)]),
    SmtpError("of no kind"),
]


def name(error: Any) -> str:
    reply = f" {error.reply.code}" if error.reply else ""
    return type(error).__name__ + reply


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("error", ALWAYS, ids=name)
def test_what_failed_before_the_commit_point_is_tried_again(error: SmtpError, policy: str) -> None:
    assert POLICIES[policy].wants(error)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("error", IF_TEMPORARY, ids=name)
def test_a_refusal_for_now_is_tried_again_where_it_is_asked_for(error: SmtpError, policy: str) -> None:
    assert POLICIES[policy].wants(error) is (policy == "temporary")


@pytest.mark.parametrize("policy", [*POLICIES.values(), RetryPolicy(temporary=True, unknown=True)])
@pytest.mark.parametrize("error", NEVER, ids=name)
def test_what_would_end_the_same_is_never_tried_again(error: SmtpError, policy: RetryPolicy) -> None:
    assert not policy.wants(error)


@pytest.mark.parametrize("reply", [None, Reply(421), Reply(451)])
def test_what_is_in_doubt_is_tried_again_only_where_the_caller_says_so(reply: Reply | None) -> None:
    error = DeliveryUnknown("lost", reply=reply)
    assert not DEFAULT.wants(error)
    assert not TEMPORARY.wants(error)
    assert UNKNOWN.wants(error)


@pytest.mark.parametrize("error", [*ALWAYS, *IF_TEMPORARY, *NEVER, DeliveryUnknown("?")], ids=name)
@pytest.mark.parametrize("verdict", [True, False])
def test_the_last_word_only_narrows(error: SmtpError, verdict: bool) -> None:
    asked: list[SmtpError] = []

    def retryable(failure: SmtpError) -> bool:
        asked.append(failure)
        return verdict

    for policy in POLICIES.values():
        narrowed = RetryPolicy(temporary=policy.temporary, unknown=policy.unknown, retryable=retryable)
        assert narrowed.wants(error) is (policy.wants(error) and verdict)
    assert all(failure is error for failure in asked)


def test_a_last_word_that_raises_forbids_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def retryable(error: SmtpError) -> bool:
        raise KeyError("bug")

    assert not RetryPolicy(retryable=retryable).wants(Timeout())
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_log_that_is_mailed_under_the_same_policy_does_not_go_on_for_ever() -> None:
    """The mail of the log fails in its turn, and so does what is asked about that."""
    told = []

    class Mailer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())
            assert not policy.wants(Timeout())

    def retryable(error: SmtpError) -> bool:
        raise KeyError("bug")

    policy, logger, mailer = RetryPolicy(retryable=retryable), logging.getLogger("pysmtpx"), Mailer()
    logger.addHandler(mailer)
    try:
        assert not policy.wants(Timeout())
        assert not policy.wants(Timeout())
    finally:
        logger.removeHandler(mailer)
    assert told == ["retryable failed for Timeout: that is not tried again"] * 2


FLOATS = st.floats(0, 1e6)


@given(
    attempt=st.integers(1, 5000), backoff=FLOATS, most=FLOATS, jitter=st.floats(0, 1), chance=st.floats(0, 1)
)
def test_a_delay_stays_between_its_share_and_the_most(
    attempt: int, backoff: float, most: float, jitter: float, chance: float
) -> None:
    policy = RetryPolicy(backoff=backoff, max_backoff=most, jitter=jitter)
    longest = policy.delay(attempt, lambda: 0.0)
    assert longest <= most
    assert longest * (1 - jitter) <= policy.delay(attempt, lambda: chance) <= longest
    assert longest <= policy.delay(attempt + 1, lambda: 0.0)


def test_delays_double_up_to_the_most() -> None:
    policy = RetryPolicy(backoff=1, max_backoff=5, jitter=0.5)
    assert [policy.delay(attempt, lambda: 0.0) for attempt in (1, 2, 3, 4, 9999)] == [1, 2, 4, 5, 5]
    assert policy.delay(1, lambda: 1.0) == 0.5


@pytest.mark.parametrize(
    "nonsense",
    [
        *({"attempts": value} for value in (0, -1, 1.5, True, None, "3")),
        *({name: value} for name in ("backoff", "max_backoff", "jitter") for value in (-1, "1", True, None)),
        *({name: float(value)} for name in ("backoff", "max_backoff", "total") for value in ("nan", "inf")),
        {"jitter": 1.01},
        {"total": -1},
        {"total": "1"},
        {"temporary": 1},
        {"unknown": None},
        {"retryable": True},
    ],
    ids=repr,
)
def test_nonsense_is_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        RetryPolicy(**nonsense)

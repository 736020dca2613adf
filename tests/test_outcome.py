"""An outcome says of every recipient what became of it, once."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import (
    AllRecipientsFailed,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    InputError,
    NotSupportedError,
    ServiceUnavailable,
    SmtpError,
    Timeout,
)
from pysmtpx.outcome import Outcome
from pysmtpx.wire.envelope import MailObject
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import RejectedRecipient, SendResult

A, B, C, D = (f"{name}@x.example" for name in "abcd")
MAIL = MailObject("s@x.example", [A, B, C, D], b"Subject: x\r\n\r\n")
OK, NO = Reply(250, (b"queued",)), Reply(550, (b"no",))


def refused(*paths: str) -> tuple[RejectedRecipient, ...]:
    return tuple(RejectedRecipient(path, NO, Stage.RCPT) for path in paths)


def error(
    kind: type[SmtpError] = ConnectionLost,
    accepted: tuple[str, ...] = (),
    rejected: tuple[str, ...] = (),
    unknown: tuple[str, ...] = (),
    unsent: tuple[str, ...] = (),
) -> SmtpError:
    made = kind("")
    made.accepted_recipients, made.rejected_recipients = accepted, refused(*rejected)
    made.unknown_recipients, made.unsent_recipients = unknown, unsent
    return made


def test_a_result_is_accepted_and_has_no_error() -> None:
    result = SendResult((A, B), refused(C, D), OK, (OK, OK))
    assert Outcome.of(MAIL, result) == Outcome(MAIL, "accepted", result, None)


@pytest.mark.parametrize(
    ("fate", "status"),
    [
        (error(DeliveryUnknown, unknown=(A, B, C, D)), "unknown"),
        (error(DeliveryUnknown, accepted=(A,), rejected=(B,), unknown=(C,), unsent=(D,)), "unknown"),
        (error(accepted=(A,), unsent=(B, C, D)), "accepted"),
        (error(Timeout, accepted=(A,), rejected=(B,), unsent=(C, D)), "accepted"),
        (error(DataRejected, rejected=(A, B, C, D)), "rejected"),
        (error(ServiceUnavailable, rejected=(A, B), unsent=(C, D)), "unsent"),
        (error(unsent=(A, B, C, D)), "unsent"),
        (error(InputError, unsent=(A, B, C, D)), "unsent"),
        (error(NotSupportedError, unsent=(A, B, C, D)), "unsent"),
        (InputError("not even an envelope"), "unsent"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_status_of_an_error(fate: SmtpError, status: str) -> None:
    outcome = Outcome.of(MAIL, fate)
    assert outcome.status == status
    assert outcome.error is fate
    assert (outcome.result is not None) is bool(fate.accepted_recipients)


def test_an_error_with_an_acceptance_has_a_result_that_names_the_refused() -> None:
    outcome = Outcome.of(MAIL, error(accepted=(A,), rejected=(B,), unsent=(C, D)))
    assert outcome.result is not None
    assert outcome.result.accepted_recipients == (A,)
    assert outcome.result.rejected_recipients == refused(B)
    assert outcome.unsent_recipients == (C, D)


def test_all_refused() -> None:
    fate = AllRecipientsFailed(2, [NO, NO])
    fate.rejected_recipients = refused(A, B)
    assert Outcome.of(MAIL, fate).status == "rejected"


@given(st.lists(st.sampled_from(["accepted", "rejected", "unknown", "unsent"]), min_size=1, max_size=6))
def test_each_recipient_is_told_of_exactly_once(fates: list[str]) -> None:
    paths = tuple(f"r{i}@x.example" for i in range(len(fates)))

    def those(name: str) -> tuple[str, ...]:
        return tuple(path for path, fate in zip(paths, fates, strict=True) if fate == name)

    fate: SendResult | SmtpError = error(
        DeliveryUnknown if "unknown" in fates else ConnectionLost,
        those("accepted"),
        those("rejected"),
        those("unknown"),
        those("unsent"),
    )
    if "accepted" in fates and not {"unknown", "unsent"} & set(fates):
        fate = SendResult(those("accepted"), refused(*those("rejected")), OK)
    outcome = Outcome.of(MAIL, fate)
    told = [
        *outcome.accepted_recipients,
        *(each.recipient for each in outcome.rejected_recipients),
        *outcome.unknown_recipients,
        *outcome.unsent_recipients,
    ]
    assert sorted(told) == sorted(paths)
    assert outcome.accepted_recipients == those("accepted")
    assert outcome.unknown_recipients == those("unknown")
    assert outcome.unsent_recipients == those("unsent")


def test_it_is_a_frozen_value() -> None:
    outcome = Outcome.of(MAIL, error(unsent=(A,)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.status = "accepted"  # type: ignore[misc]
    assert outcome.mail is MAIL

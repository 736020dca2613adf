"""An account that goes from process to process says what one that stays would say."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx import (
    AllRecipientsFailed,
    ConnectionLost,
    DeliveryUnknown,
    EnhancedCode,
    InputError,
    MailObject,
    RejectedRecipient,
    Reply,
    RetryPolicy,
    SendResult,
    SmtpError,
    Stage,
)
from pysmtpx.contrib.queueing.tries import Account, SendFailed

BODY = b"Subject: x\r\n\r\nhello\r\n"
PATHS = ("a@x.example", "b@x.example", "a@x.example", "c@x.example")
KINDS = st.sampled_from(["accepted", "later", "never", "unknown", "unsent"])

texts = st.sampled_from([b"ok", b"2.0.0 Ok: queued as 1", b"\xff\x00 odd", b""])


def mail(count: int) -> MailObject:
    return MailObject("s@x.example", PATHS[:count], BODY)


def told(kinds: list[str], paths: list[str], text: bytes) -> SendResult | SmtpError:
    """What a try says that ended so for each of these recipients."""
    accepted = Reply(250, (text,), EnhancedCode(2, 0, 0))
    named: dict[str, list[Any]] = {kind: [] for kind in ("accepted", "rejected", "unknown", "unsent")}
    for path, kind in zip(paths, kinds, strict=True):
        if kind in ("later", "never"):
            reply = Reply(451 if kind == "later" else 550, (text, text))
            named["rejected"].append(RejectedRecipient(path, reply, Stage.RCPT))
        else:
            named[kind].append(path)
    rejected = tuple(named["rejected"])
    if named["accepted"] and not named["unknown"] and not named["unsent"]:
        count = len(named["accepted"])
        return SendResult(tuple(named["accepted"]), rejected, accepted, (accepted,) * count)
    error: SmtpError = ConnectionLost("the line went")
    if named["unknown"]:
        error = DeliveryUnknown("no reply")
    elif not named["accepted"] and not named["unsent"]:
        error = AllRecipientsFailed(len(rejected), [each.reply for each in rejected])
    error.accepted_recipients = tuple(named["accepted"])
    error.rejected_recipients = rejected
    error.unknown_recipients, error.unsent_recipients = tuple(named["unknown"]), tuple(named["unsent"])
    return error


def carried(account: Account, count: int) -> Account:
    return Account.from_plain(PATHS[:count], json.loads(json.dumps(account.to_plain())))


def essence(account: Account, count: int) -> Any:
    report = account.report(mail(count))
    # The error's own words are those of the last try, or of one that stands for an earlier one. And which of
    # two equal addresses stands first no reply can tell.
    lists = {name: sorted(map(str, report[name])) for name in ("accepted", "rejected", "unknown", "unsent")}
    return {**report, **lists, "error": report["error"] is None}, account.owed, account.attempts


@given(st.data(), st.integers(1, 4), st.booleans(), st.booleans(), st.booleans())
def test_json_between_the_tries_changes_nothing(
    data: st.DataObject, count: int, temporary: bool, unknown: bool, whole: bool
) -> None:
    policy = RetryPolicy(attempts=4, backoff=1.0, temporary=temporary, unknown=unknown)
    stays, travels = Account(PATHS[:count], 5.0), Account(PATHS[:count], 5.0)
    delay: float | None = 0.0
    while delay is not None:
        owed = [PATHS[i] for i in stays.owed]
        kinds = data.draw(st.lists(KINDS, min_size=len(owed), max_size=len(owed)))
        text = data.draw(texts)
        delay = stays.note(told(kinds, owed, text), policy, 6.0, whole=whole)
        again = travels.note(told(kinds, owed, text), policy, 6.0, whole=whole)
        assert (delay is None) is (again is None)
        if delay is not None:
            travels = carried(travels, count)
        assert essence(travels, count) == essence(stays, count)
    report = stays.report(mail(count))
    listed = [each["recipient"] for each in (*report["accepted"], *report["rejected"])]
    assert sorted([*listed, *report["unknown"], *report["unsent"]]) == sorted(PATHS[:count])


def test_who_is_owed_the_message_is_told_by_place() -> None:
    account = Account(PATHS[:3], 0.0)
    policy = RetryPolicy(attempts=2, temporary=True)
    assert account.note(
        told(["later", "accepted", "accepted"], list(PATHS[:3]), b"x"), policy, 0.0, whole=False
    )
    # Which of two equal addresses has it no reply can tell apart; that one of them is owed it stays known.
    assert len(carried(account, 3).owed) == 1


def test_the_policy_bounds_tries_and_time() -> None:
    def delay(attempts: int, total: float | None, now: float) -> float | None:
        account = Account(PATHS[:1], 100.0)
        policy = RetryPolicy(attempts=attempts, backoff=8.0, jitter=0.0, total=total)
        return account.note(told(["unsent"], [PATHS[0]], b""), policy, now, whole=False)

    assert delay(2, None, 1e9) == 8.0
    assert delay(1, None, 100.0) is None
    assert delay(2, 20.0, 112.0) == 8.0
    assert delay(2, 20.0, 112.1) is None


def test_a_long_reply_does_not_fill_the_queue() -> None:
    paths = tuple(f"r{n}@x.example" for n in range(1000))
    account = Account(paths, 0.0)
    refused = tuple(RejectedRecipient(path, Reply(451, (b"a" * 60_000,)), Stage.RCPT) for path in paths)
    error = AllRecipientsFailed(1000, [each.reply for each in refused])
    error.rejected_recipients = refused
    account.note(error, RetryPolicy(temporary=True), 0.0, whole=False)
    assert len(json.dumps(account.to_plain())) < 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"attempts": 0},
        {"attempts": "1"},
        {"began": None},
        {"began": float("nan")},
        {"began": float("inf")},
        {"began": 10**400},
        {"owed": [4]},
        {"owed": [0, 0]},
        {"owed": []},
        {"owed": [True]},
        {"owed": "a"},
        {"fates": {"0": 1}},
    ],
)
def test_what_is_no_account_is_refused(change: dict[str, Any]) -> None:
    account = Account(PATHS, 0.0)
    account.note(told(["later"] * 4, list(PATHS), b"x"), RetryPolicy(temporary=True), 0.0, whole=False)
    with pytest.raises(InputError, match="malformed account"):
        Account.from_plain(PATHS, {**account.to_plain(), **change})
    for other in (None, [], "x", {}):
        with pytest.raises(InputError, match="malformed account"):
            Account.from_plain(PATHS, other)


def test_what_a_released_version_wrote_is_understood() -> None:
    """A message may have waited in the queue while pysmtpx was brought up to date."""
    plain = {
        "version": 1,
        "attempts": 2,
        "began": 1764325200.5,
        "owed": [1, 3],
        "replies": [[250, [2, 0, 0], "2.0.0 Ok: queued as 1"], [451, None, "later"]],
        "fates": [[0, "accepted", 0], [1, "rejected", 1, "rcpt"], [2, "unknown"]],
    }
    account = Account.from_plain(PATHS, plain)
    assert account.to_plain() == plain
    last = told(["accepted", "never"], [PATHS[1], PATHS[3]], b"ok")
    assert account.note(last, RetryPolicy(temporary=True), 1764325300.0, whole=False) is None
    report = account.report(mail(4))
    assert (report["status"], report["attempts"]) == ("unknown", 3)
    assert [each["recipient"] for each in report["accepted"]] == [PATHS[0], PATHS[1]]
    assert (report["rejected"][0]["recipient"], report["unknown"]) == (PATHS[3], [PATHS[2]])
    assert report["error"]["kind"] == "DeliveryUnknown"


def test_the_error_of_the_task_pickles_and_names_everybody() -> None:
    account = Account(PATHS, 0.0)
    kinds = ["accepted", "never", "unknown", "unsent"]
    account.note(told(kinds, list(PATHS), b"5.1.1 no"), RetryPolicy(attempts=1), 0.0, whole=False)
    error = pickle.loads(pickle.dumps(SendFailed(account.report(mail(4)))))
    assert error.status == "unknown"
    assert not error.temporary
    assert not error.safe_to_retry
    assert error.accepted_recipients == ("a@x.example",)
    assert error.rejected_recipients[0].reply.code == 550
    assert (error.unknown_recipients, error.unsent_recipients) == (("a@x.example",), ("c@x.example",))
    assert str(error).startswith(
        "unknown after 1 tries (1 accepted, 1 rejected, 1 unknown, 1 unsent): DeliveryUnknown: no reply"
    )
    assert SendFailed({}).status == "unknown"

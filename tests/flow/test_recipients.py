"""The ledger of a message: each place has one fate, and nothing that was learnt of it gets lost."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysmtpx.errors import (
    AllRecipientsFailed,
    ConnectionLost,
    DeliveryUnknown,
    InputError,
    SenderRejected,
    SmtpError,
)
from pysmtpx.flow.recipients import DOUBT, Fate, Ledger
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import EnhancedCode, Reply
from pysmtpx.wire.result import RejectedRecipient, SendResult

A, B = "a@x.example", "b@x.example"
OK, NO = Reply(250, (b"queued",), EnhancedCode(2, 0, 0)), Reply(550, (b"no", b"\xff\x00"))
KINDS = ("accepted", "unknown", "rejected", "unsent")
"""The better first: what several sources say of one place together is the best of it."""

paths = st.lists(st.sampled_from([A, B, "c@x.example"]), min_size=1, max_size=5).map(tuple)
kinds = st.sampled_from(KINDS)


def fate_of(kind: str, path: str, number: int = 0) -> Fate:
    """A fate of this kind, with a reply of its own."""
    text = (b"%d" % number,)
    if kind == "accepted":
        return Reply(250, text)
    if kind == "rejected":
        return RejectedRecipient(path, Reply(550 if number % 2 else 451, text), Stage.RCPT)
    return DOUBT if kind == "unknown" else None


def ledger_of(recipients: tuple[str, ...], given_kinds: list[str], number: int = 0) -> Ledger:
    ledger = Ledger(recipients)
    for place, kind in enumerate(given_kinds):
        ledger.enter(place, fate_of(kind, recipients[place], number + place))
    return ledger


def merged(*ledgers: Ledger) -> Ledger:
    whole = Ledger(ledgers[0].recipients)
    for each in ledgers:
        whole.merge(each, range(len(whole.recipients)))
    return whole


def known(ledger: Ledger) -> Any:
    return ledger.fates, ledger.last, ledger.accepted_count


def kind_of(fate: Fate) -> str:
    if isinstance(fate, Reply | RejectedRecipient):
        return "accepted" if isinstance(fate, Reply) else "rejected"
    return "unsent" if fate is None else "unknown"


def named(outcome: SendResult | SmtpError) -> list[tuple[str, str]]:
    """Each kind with each recipient that has it."""
    rows = [("accepted", path) for path in outcome.accepted_recipients]
    rows += [("rejected", each.recipient) for each in outcome.rejected_recipients]
    if isinstance(outcome, SmtpError):
        rows += [("unknown", path) for path in outcome.unknown_recipients]
        rows += [("unsent", path) for path in outcome.unsent_recipients]
    return rows


@st.composite
def stories(draw: st.DrawFn) -> tuple[tuple[str, ...], list[list[str]]]:
    """Recipients, and what each of several sources says of them in turn."""
    recipients = draw(paths)
    said = st.lists(kinds, min_size=len(recipients), max_size=len(recipients))
    return recipients, draw(st.lists(said, min_size=1, max_size=5))


# -- merging ------------------------------------------------------------------------------------


@given(stories(), st.data())
def test_merging_in_any_grouping_gives_the_same(story: Any, data: st.DataObject) -> None:
    recipients, said = story
    ledgers = [ledger_of(recipients, each, 10 * i) for i, each in enumerate(said)]
    straight = known(merged(*ledgers))
    while len(ledgers) > 1:  # the earlier stays the earlier, but who is merged with whom first is free
        i = data.draw(st.integers(0, len(ledgers) - 2))
        ledgers[i : i + 2] = [merged(*ledgers[i : i + 2])]
    assert known(ledgers[0]) == straight


@given(stories())
def test_of_what_was_said_the_best_stands_and_each_place_has_one_fate(story: Any) -> None:
    """Nothing accepted is ever lost, and no doubt becomes a refusal."""
    recipients, said = story
    whole = merged(*(ledger_of(recipients, each, 10 * i) for i, each in enumerate(said)))
    best = [min(column, key=KINDS.index) for column in zip(*said, strict=True)]
    assert [kind_of(fate) for fate in whole.fates] == best
    rows = [(kind, path) for kind, path in zip(best, recipients, strict=True)]
    assert sorted(named(whole.on(SmtpError()))) == sorted(rows)
    last = [
        10 * i + place for i, each in enumerate(said) for place, kind in enumerate(each) if kind == "accepted"
    ]
    assert whole.last == (Reply(250, (b"%d" % last[-1],)) if last else None)
    for place, fate in enumerate(whole.fates):  # and of equals the later
        later = max(i for i, each in enumerate(said) if each[place] == best[place])
        assert fate == fate_of(best[place], recipients[place], 10 * later + place)


@given(stories(), st.data())
def test_a_part_speaks_for_its_places_only(story: Any, data: st.DataObject) -> None:
    """As a transaction for those beyond the limit does, or a try for those who are owed one."""
    recipients, said = story
    whole = ledger_of(recipients, said[0])
    before = list(whole.fates)
    places = data.draw(st.lists(st.sampled_from(range(len(recipients))), unique=True))
    part = ledger_of(tuple(recipients[i] for i in places), [said[-1][i] for i in places], 10)
    whole.merge(part, places)
    for place in range(len(recipients)):
        if place not in places:
            assert whole.fates[place] == before[place]
        else:
            assert KINDS.index(kind_of(whole.fates[place])) <= KINDS.index(said[-1][place])


# -- what it amounts to ----------------------------------------------------------------------------


@given(stories())
def test_the_outcome_names_everybody_once_and_tells_the_worst(story: Any) -> None:
    recipients, said = story
    ledger = ledger_of(recipients, said[0])
    lost = ConnectionLost("gone")
    outcome = ledger.outcome(lost)
    assert Counter(path for _, path in named(outcome)) == Counter(recipients)
    assert isinstance(outcome, DeliveryUnknown) is ("unknown" in said[0])
    assert (outcome is lost) is ("unsent" in said[0] and "unknown" not in said[0])
    assert isinstance(outcome, AllRecipientsFailed) is (set(said[0]) == {"rejected"})
    assert isinstance(outcome, SendResult) is (
        "accepted" in said[0] and set(said[0]) <= {"accepted", "rejected"}
    )
    if isinstance(outcome, SendResult):
        assert len(outcome.replies) == len(outcome.accepted_recipients)
        assert outcome.reply == outcome.replies[-1]


def test_one_final_reply_for_all_is_the_result() -> None:
    whole = Ledger((A, B))
    for place in range(2):
        whole.enter(place, OK)
    assert whole.outcome(None) == SendResult((A, B), (), OK, (OK, OK))


def test_the_error_that_says_it_best() -> None:
    refusal, doubt = SenderRejected("", reply=NO), DeliveryUnknown("")
    refused, doubted = Ledger((A, B)), Ledger((A, B))
    refused.refuse_rest(NO, Stage.MAIL)
    doubted.doubt_rest()
    assert refused.outcome(ConnectionLost(), refusal=refusal, doubt=doubt) is refusal
    assert doubted.outcome(ConnectionLost(), refusal=refusal, doubt=doubt) is doubt
    assert refusal.rejected_recipients == tuple(RejectedRecipient(p, NO, Stage.MAIL) for p in (A, B))
    assert doubt.unknown_recipients == (A, B)
    refused.withdraw(1)
    assert refused.unsent == (B,)


# -- what names addresses only -------------------------------------------------------------------------


@given(stories())
def test_what_an_error_or_a_result_says_is_understood(story: Any) -> None:
    """FAULTS 56: of an address that stands twice no place is lost, and none gets two fates."""
    recipients, said = story
    ledger = ledger_of(recipients, said[0])
    for outcome in (ledger.on(SmtpError()), ledger.outcome(ConnectionLost())):
        told = Ledger.told(outcome, recipients)
        assert Counter(named(told.on(SmtpError()))) == Counter(named(ledger.on(SmtpError())))
        assert sorted(told.accepted_replies, key=str) == sorted(ledger.accepted_replies, key=str)
        if len(set(recipients)) == len(recipients):
            assert known(told) == known(ledger)
    everybody = Ledger.told(ledger.on(SmtpError()))
    assert Counter(everybody.recipients) == Counter(recipients)


def test_an_acceptance_without_a_reply_of_its_own_is_not_lost() -> None:
    error = ConnectionLost("")
    error.accepted_recipients, error.accepted_replies, error.unsent_recipients = (A, B), (OK,), (A,)
    told = Ledger.told(error, (A, B, A))
    assert (told.accepted, told.unsent) == ((A, B), (A,))
    assert [reply.code for reply in told.accepted_replies] == [250, 250]
    assert Ledger.told(SendResult((A, B), (), OK), (A, B)).accepted_replies == (OK, OK)


def test_the_reply_of_a_result_stays_that_of_the_transaction_which_came_last() -> None:
    """Which may have been for somebody who stands first: 452 had put him off."""
    first, second = Reply(250, (b"queued as 1",)), Reply(250, (b"queued as 2",))
    result = SendResult((A, B), (), second, (second, first))
    told = Ledger.told(result, (A, B))
    assert told.outcome(None) == merged(Ledger((A, B)), told).outcome(None) == result


def test_doubt_that_names_nobody_is_about_all() -> None:
    assert Ledger.told(DeliveryUnknown("no reply"), (A, B)).unknown == (A, B)
    assert Ledger.told(ConnectionLost("gone"), (A, B)).unsent == (A, B)


# -- plain values ----------------------------------------------------------------------------------------


@given(stories())
def test_the_plain_form_round_trips(story: Any) -> None:
    recipients, said = story
    ledger = ledger_of(recipients, said[0])
    for place, fate in enumerate(ledger.fates):
        if isinstance(fate, Reply):
            ledger.enter(place, OK)
        elif isinstance(fate, RejectedRecipient):
            ledger.refuse(place, NO, Stage.FINAL)
    again = Ledger.from_plain(recipients, json.loads(json.dumps(ledger.to_plain())))
    assert known(again) == known(ledger)


def test_what_a_released_version_wrote_is_understood() -> None:
    """A message may have waited in a queue while pysmtpx was brought up to date."""
    plain = {
        "replies": [[250, [2, 0, 0], "2.0.0 Ok: queued as 1"], [451, None, "later\nplease"]],
        "fates": [[0, "accepted", 0], [1, "rejected", 1, "rcpt"], [2, "unknown"]],
    }
    ledger = Ledger.from_plain((A, B, A, B), plain)
    later = RejectedRecipient(B, Reply(451, (b"later", b"please")), Stage.RCPT)
    queued = Reply(250, (b"2.0.0 Ok: queued as 1",), EnhancedCode(2, 0, 0))
    assert ledger.fates == [queued, later, DOUBT, None]
    assert ledger.to_plain() == plain


@pytest.mark.parametrize(
    "change",
    [
        {"replies": None},
        {"replies": [[99, None, ""]]},
        {"replies": [[True, None, ""]]},
        {"replies": [[250, [1], ""]]},
        {"replies": [[250, [float("inf"), 0, 0], ""]]},
        {"replies": [[250, None, "λ"]]},
        {"replies": [[250, None, 7]]},
        {"fates": [[2, "unknown"]]},
        {"fates": [[-1, "unknown"]]},
        {"fates": [[True, "unknown"]]},
        {"fates": [["0", "unknown"]]},
        {"fates": [[0, "accepted", 7]]},
        {"fates": [[0, "accepted", 1]]},
        {"fates": [[0, "rejected", 0, "rcpt"]]},
        {"fates": [[0, "rejected", -1, "rcpt"]]},
        {"fates": [[0, "rejected", 1, "nowhere"]]},
        {"fates": [[0, "rejected", 1, []]]},
        {"fates": [[0, "unknown", 0]]},
        {"fates": [[0, "perhaps"]]},
        {"fates": [[0]]},
        {"fates": {"0": 1}},
        {"fates": 7},
    ],
)
def test_what_is_no_ledger_is_refused(change: dict[str, Any]) -> None:
    """Whoever can write to a queue may have written it; a refusal by 250 is none either."""
    plain = {"replies": [[250, None, ""], [550, None, ""]], "fates": [[0, "accepted", 0]]}
    assert Ledger.from_plain((A, B), plain).accepted == (A,)
    with pytest.raises(InputError, match="malformed ledger"):
        Ledger.from_plain((A, B), {**plain, **change})

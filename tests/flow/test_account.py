"""What the replies of one transaction mean, for every history of them that there can be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from pysmtpx.errors import (
    AuthenticationError,
    ConnectionLost,
    DataRejected,
    DeliveryUnknown,
    SenderRejected,
    ServiceUnavailable,
    SmtpError,
    TlsError,
)
from pysmtpx.flow.account import Account, are_refusals, content_raised, shutdown
from pysmtpx.flow.recipients import Ledger
from pysmtpx.wire.limits import Stage
from pysmtpx.wire.reply import Reply
from pysmtpx.wire.result import SendResult

A, B = "a@x.example", "b@x.example"
REFUSALS = (400, 421, 530, 550)


class Said(NamedTuple):
    """The codes of one transaction, in the order of SMTP."""

    recipients: tuple[str, ...]
    lmtp: bool
    mail: int = 250
    rcpts: tuple[int, ...] = ()
    data: int | None = None
    early: int | None = None
    finals: tuple[int, ...] = ()
    committed: bool = False

    def account(self, stage: Stage = Stage.FINAL) -> Account:
        return Account(
            self.recipients,
            lmtp=self.lmtp,
            mail=None if self.mail < 400 else Reply(self.mail),
            rcpts=[Reply(code) for code in self.rcpts],
            data=None if self.data is None else Reply(self.data),
            early=None if self.early is None else Reply(self.early),
            finals=[Reply(code) for code in self.finals],
            committed=self.committed,
            stage=stage,
        )


def histories() -> Iterator[Said]:
    """All there are for up to two recipients."""
    for lmtp, recipients in itertools.product((False, True), ((A,), (A, B))):
        for mail in (250, *REFUSALS):
            for count in range(len(recipients) + 1):
                for rcpts in itertools.product((250, 450, 550), repeat=count):
                    said = Said(recipients, lmtp, mail, rcpts)
                    yield said
                    if mail == 250 and count == len(recipients):
                        yield from behind_rcpt(said)


def behind_rcpt(said: Said) -> Iterator[Said]:
    yield said._replace(committed=True)  # a chunk goes before the replies are there
    for code in REFUSALS:
        yield said._replace(data=code)
    yield said._replace(data=354)
    for code in REFUSALS:
        yield said._replace(data=354, early=code)
    accepted = said.rcpts.count(250)
    owed = accepted if said.lmtp else 1
    for count in range(owed + 1):
        for finals in itertools.product((250, *REFUSALS), repeat=count):
            yield said._replace(data=354, finals=finals, committed=True)


def fates(said: Said) -> list[Any]:
    """For each recipient the code that accepted, code and stage of what refused it, "doubt" or "unsent"."""
    if said.mail >= 400:
        return ["unsent" if said.mail == 421 else (said.mail, "mail")] * len(said.recipients)
    refused = {place: (code, "rcpt") for place, code in enumerate(said.rcpts) if code >= 400}
    everybody = [refused.get(place, "open") for place in range(len(said.recipients))]
    finals = list(said.finals)
    if said.early is not None:
        rest: Any = "unsent" if said.early == 421 else (said.early, "content")
    elif said.data is not None and said.data >= 400:
        rest = "unsent" if said.data == 421 else (said.data, "data")
    elif said.lmtp or not finals:
        rest = "doubt" if said.committed else "unsent"
    elif finals[0] < 400:
        rest = finals[0]
    else:
        rest = "unsent" if finals[0] == 421 else (finals[0], "final")
    told = []
    for fate in everybody:
        if fate == "open" and said.lmtp and finals:
            code = finals.pop(0)
            told.append(code if code < 400 else (code, "final"))
        else:
            told.append(rest if fate == "open" else fate)
    return told


def names(outcome: SendResult | SmtpError) -> dict[str, Any]:
    told: dict[str, Any] = dict.fromkeys(getattr(outcome, "unsent_recipients", ()), "unsent")
    told |= dict.fromkeys(getattr(outcome, "unknown_recipients", ()), "doubt")
    told |= {each.recipient: (each.reply.code, each.stage.value) for each in outcome.rejected_recipients}
    replies = [reply.code for reply in Ledger.told(outcome).accepted_replies]
    return told | dict(zip(outcome.accepted_recipients, replies, strict=True))


KINDS = {"mail": SenderRejected, "data": DataRejected, "content": DataRejected, "final": DataRejected}


def test_every_history_says_the_same_of_each_recipient() -> None:
    count = 0
    for said in histories():
        told = fates(said)
        broken = ConnectionLost("gone", stage=Stage.FINAL)
        outcome = said.account().verdict(broken)
        count += 1
        assert names(outcome) == dict(zip(said.recipients, told, strict=True)), said
        has = {"unsent": "unsent" in told, "doubt": "doubt" in told, "taken": 250 in told}
        assert isinstance(outcome, SendResult) is (has["taken"] and not has["unsent"] and not has["doubt"]), (
            said
        )
        assert isinstance(outcome, DeliveryUnknown) is has["doubt"], said
    assert count > 500


def test_every_refusal_names_the_reply_that_decided() -> None:
    for said in histories():
        code, stage = 0, ""
        if said.mail >= 400:
            code, stage = said.mail, "mail"
        elif len(said.rcpts) == len(said.recipients) and 250 not in said.rcpts:
            continue  # each has one of his own: see below
        elif said.early is not None:
            code, stage = said.early, "content"
        elif said.data is not None and said.data >= 400:
            code, stage = said.data, "data"
        elif not said.lmtp and said.finals and said.finals[0] >= 400:
            code, stage = said.finals[0], "final"
        if not code:
            continue
        error = said.account(Stage(stage)).refusal()
        kind: type[SmtpError] = {421: ServiceUnavailable, 530: AuthenticationError}.get(code, KINDS[stage])
        assert (type(error), error.stage) == (kind, Stage(stage)), said
        assert error.reply is not None
        assert error.reply.code == code, said
        assert names(error) == dict(zip(said.recipients, fates(said), strict=True)), said
        assert type(said.account(Stage(stage)).verdict()) is kind, said


@pytest.mark.parametrize("lmtp", [False, True])
def test_where_all_were_refused_each_has_a_reply_of_its_own(lmtp: bool) -> None:
    said = Said((A, B), lmtp, rcpts=(450, 550), data=354, early=552)
    error = said.account().refusal()
    assert names(error) == {A: (450, "rcpt"), B: (550, "rcpt")}
    assert error.stage is Stage.RCPT


def test_a_demand_for_tls_is_told_from_one_for_a_log_in() -> None:
    first = Reply(530, (b"5.7.0 Must issue a STARTTLS command first",))
    assert type(Account((A,), lmtp=False, mail=first).refusal()) is TlsError


def test_an_error_of_this_side_keeps_its_stage() -> None:
    ours, theirs = ConnectionLost("x", stage=Stage.INPUT), ConnectionLost("x", stage=Stage.MAIL)
    said = Said((A,), lmtp=False, rcpts=(250,))
    for error, stage in ((ours, Stage.INPUT), (theirs, Stage.DATA)):
        assert said.account(Stage.DATA).verdict(error) is error
        assert error.stage is stage


def test_what_came_to_its_end_needs_no_error() -> None:
    said = Said((A, B), lmtp=False, rcpts=(250, 550), data=354, finals=(250,), committed=True)
    outcome = said.account().verdict()
    assert isinstance(outcome, SendResult)
    assert names(outcome) == {A: 250, B: (550, "rcpt")}


def test_small_things() -> None:
    cause = KeyError("x")
    flaw = content_raised(cause, Stage.CONTENT)
    assert (flaw.__cause__, flaw.stage) == (cause, Stage.CONTENT)
    gone = shutdown(Reply(421), Stage.RCPT)
    assert (gone.stage, gone.reply) == (Stage.RCPT, Reply(421))
    assert are_refusals([Reply(400), Reply(550)])
    assert not are_refusals([Reply(550), None])
    assert not are_refusals([Reply(354)])

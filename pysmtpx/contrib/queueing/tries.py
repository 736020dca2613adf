"""The account of one message over tries that different processes make, as plain values in between."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

from ...errors import DeliveryUnknown, InputError, SmtpError
from ...flow.recipients import DOUBT, Ledger, at
from ...journal.store import Fate
from ...outcome import Outcome
from ...pooling.tries import Tries
from ...retry import RetryPolicy
from ...wire.envelope import MailObject
from ...wire.limits import Stage
from ...wire.reply import EnhancedCode, Reply
from ...wire.result import RejectedRecipient, SendResult

VERSION: Final = 1
_MAX_TEXT: Final = 1000
"""Characters of a reply or an error in a report: one server must not fill the queue."""

_REPLY: Final = re.compile(r"([2-5]\d\d) ?((?:([245])\.(\d{1,3})\.(\d{1,3})(?!\S))?.*)", re.DOTALL)

_Plain = dict[str, Any]


class Account(Tries):
    """How a message stands, for a try in this process and for the next one in any other."""

    __slots__ = ("attempts", "began", "withheld")

    def __init__(self, recipients: tuple[str, ...], began: float) -> None:
        super().__init__(recipients)
        self.attempts: int = 0
        """Tries so far."""
        self.began: float = began
        """When the first try began, in seconds of the wall clock: no other one is known to all machines."""
        self.withheld: tuple[str, ...] = ()
        """Whom the message is kept from; they are not among the recipients."""

    # -- tries ------------------------------------------------------------------------

    def note(
        self, fate: SendResult | SmtpError, policy: RetryPolicy, now: float, *, whole: bool
    ) -> float | None:
        """Enter what a try came to; seconds until the next one, or None: it is over."""
        self.attempts += 1
        self.enter(fate, policy, whole=whole)
        return policy.pause(self.attempts, self.began, now) if self.owed else None

    def learn(self, fates: Iterable[Fate], *, tries: int, queued: float, whole: bool) -> None:
        """Enter what a journal has of those who are owed the message; whom it has queued still are."""
        known: dict[str, Fate] = {}
        for fate in fates:
            known.setdefault(fate.address, fate)
        places = [
            place for place in self.owed if self._learnt(place, known.get(self.ledger.recipients[place]))
        ]
        is_new = len(places) == len(self.owed)
        # To a part of them it would be neither all nor nothing.
        self.owed = [] if whole and not is_new else places
        self.attempts = max(self.attempts, tries, 0 if is_new else 1)
        self.began = min(self.began, queued)

    def _learnt(self, place: int, fate: Fate | None) -> bool:
        """Enter it; whether that recipient is still owed the message."""
        if fate is None or fate.state == "queued":
            return True
        reply = _reply(fate.reply)
        if fate.state == "accepted":
            self.ledger.enter(place, reply or Reply(250, ()))
        elif fate.state == "doubt":
            self.ledger.enter(place, DOUBT)
            self._doubt = DeliveryUnknown("an earlier try was left in doubt", stage=Stage.FINAL)
        elif reply is not None and fate.stage:
            self.ledger.refuse(place, reply, Stage(fate.stage))
        else:
            self._last = SmtpError(fate.reply)
        return False

    @property
    def perhaps_delivered(self) -> int:
        """How many have the message, or may have it."""
        return len(self.ledger.accepted) + len(self.ledger.unknown)

    def for_those_left(self, recipients: tuple[str, ...], withheld: tuple[str, ...]) -> Account:
        """That of a message of which nothing is known yet, when it was decided to whom it goes."""
        twin = Account(recipients, self.began)
        twin.attempts, twin.withheld = self.attempts, withheld
        return twin

    # -- plain values -------------------------------------------------------------------

    def to_plain(self) -> _Plain:
        """What ``from_plain`` takes: text, numbers, lists and dicts."""
        return {
            "version": VERSION,
            "attempts": self.attempts,
            "began": self.began,
            "owed": list(self.owed),
            **({"withheld": list(map(str, self.withheld))} if self.withheld else {}),
            **self.ledger.to_plain(),
        }

    @classmethod
    def from_plain(cls, recipients: tuple[str, ...], plain: object) -> Self:
        """The account that was written down; ``InputError`` for what is none of this message."""
        try:
            if not isinstance(plain, Mapping) or plain["version"] != VERSION:
                raise ValueError
            account = cls(recipients, float(plain["began"]))
            account._restore(plain)
        except (TypeError, ValueError, OverflowError, KeyError, IndexError) as error:
            raise InputError("malformed account of earlier tries") from error
        return account

    def _restore(self, plain: Mapping[str, Any]) -> None:
        self.ledger: Ledger = Ledger.from_plain(self.ledger.recipients, plain)
        places = range(len(self.ledger.recipients))
        attempts, owed = plain["attempts"], [at(places, place) for place in plain["owed"]]
        if type(attempts) is not int or attempts < 1 or not math.isfinite(self.began):
            raise ValueError
        if not 0 < len(owed) == len(set(owed)) or any(type(self.ledger.fates[i]) is Reply for i in owed):
            raise ValueError  # who has the message is owed none
        withheld = plain.get("withheld", [])
        if not isinstance(withheld, list) or not all(isinstance(each, str) for each in withheld):
            raise ValueError
        self.owed, self.attempts, self.withheld = owed, attempts, tuple(withheld)
        if self.ledger.unknown:
            self._doubt = DeliveryUnknown("an earlier try was left in doubt", stage=Stage.FINAL)

    # -- what it amounts to -------------------------------------------------------------

    def report(self, mail: MailObject) -> _Plain:
        """What became of every recipient, each in one of the lists, in plain values."""
        told = self.outcome()
        ledger, outcome = Ledger.told(told), Outcome.of(mail, told)
        withheld = [str(path) for path in self.withheld or told.withheld_recipients]
        accepted = zip(ledger.accepted, ledger.accepted_replies, strict=True)
        return {
            "status": outcome.status,
            "accepted": [{"recipient": str(path), **_told(reply)} for path, reply in accepted],
            "rejected": [
                {"recipient": str(each.recipient), **_told(each.reply), "stage": str(each.stage)}
                for each in ledger.rejected
            ],
            "unknown": [str(path) for path in ledger.unknown],
            "unsent": [str(path) for path in ledger.unsent if path not in withheld],
            "withheld": withheld,
            "error": None if outcome.error is None else _plain_error(outcome.error),
            "attempts": self.attempts,
        }


# Replies and errors.


def _told(reply: Reply) -> _Plain:
    enhanced = None if reply.enhanced is None else str(reply.enhanced)
    return {"code": reply.code, "enhanced": enhanced, "text": reply.text[:_MAX_TEXT]}


def _plain_error(error: SmtpError) -> _Plain:
    return {
        "kind": type(error).__name__,
        "text": error.text[:_MAX_TEXT],
        "stage": None if error.stage is None else str(error.stage),
        "temporary": error.temporary,
    }


def _reply(text: str) -> Reply | None:
    """The reply of which this is the text, ``str(reply)``; None where it is none."""
    found = _REPLY.fullmatch(text)
    if found is None:
        return None
    code, rest, klass, subject, detail = found.groups()
    enhanced = None if klass != code[0] else EnhancedCode(int(klass), int(subject), int(detail))
    return Reply(int(code), (rest.encode(),), enhanced)


# What the task raises.


class SendFailed(SmtpError):
    """A message that nobody accepted, or that is in doubt; ``report`` is what the task knows of it.

    It pickles, and comes whole out of Celery's results in JSON. The four tuples
    of recipients are those of the report.
    """

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__()
        self.args: tuple[Any, ...] = (report,)
        self.report = report
        self.accepted_recipients = _paths(report, "accepted")
        self.rejected_recipients = tuple(_refused(each) for each in report.get("rejected", ()))
        self.unknown_recipients = _paths(report, "unknown")
        self.unsent_recipients = _paths(report, "unsent")
        self.withheld_recipients = _paths(report, "withheld")

    @property
    def status(self) -> str:
        """``"rejected"``, ``"unknown"`` or ``"unsent"``."""
        return str(self.report.get("status", "unknown"))

    @property
    def temporary(self) -> bool:
        """Whether it was, in the end, a failure for now."""
        return bool((self.report.get("error") or {}).get("temporary"))

    @property
    def anchor(self) -> str:
        """The name of its section of docs/troubleshooting.md."""
        return "sendfailed"

    def _wrong(self) -> str:
        counts = [
            f"{len(self.report[name])} {name}"
            for name in ("accepted", "rejected", "unknown", "unsent")
            if self.report.get(name)
        ]
        error = self.report.get("error") or {}
        why = f": {error.get('kind')}: {error.get('text')}" if error else ""
        return f"{self.status} after {self.report.get('attempts')} tries ({', '.join(counts)}){why}"


SendFailed.__module__ = "pysmtpx.contrib.celery"  # by this name it is found in results that are read


def _paths(report: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(each["recipient"] if isinstance(each, Mapping) else each for each in report.get(name, ()))


def _refused(plain: Mapping[str, Any]) -> RejectedRecipient:
    enhanced = plain["enhanced"]
    code = None if enhanced is None else EnhancedCode(*map(int, enhanced.split(".")))
    reply = Reply(plain["code"], (plain["text"].encode("utf-8", "replace"),), code)
    return RejectedRecipient(plain["recipient"], reply, Stage(plain["stage"]))

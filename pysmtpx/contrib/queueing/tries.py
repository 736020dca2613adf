"""The account of one message over tries that different processes make, as plain values in between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, TypeVar

from ...errors import AllRecipientsFailed, DeliveryUnknown, InputError, SmtpError
from ...outcome import Outcome, acceptances
from ...pooling.standing import Fate, Standing
from ...retry import RetryPolicy
from ...wire.envelope import MailObject
from ...wire.limits import Stage
from ...wire.reply import EnhancedCode, Reply
from ...wire.result import RejectedRecipient, SendResult

VERSION: Final = 1
_NO_MORE: Final = RetryPolicy(attempts=1)
_MAX_TEXT: Final = 1000
"""Octets of a reply, and characters of an error, that are kept: one server must not fill the queue."""

_Plain = dict[str, Any]
_Item = TypeVar("_Item")


class Account(Standing):
    """How a message stands, for a try in this process and for the next one in any other.

    ``owed`` are the places of those to whom the next try goes.
    """

    __slots__ = ("attempts", "began")

    def __init__(self, recipients: tuple[str, ...], began: float) -> None:
        super().__init__(recipients)
        self.attempts = 0
        """Tries so far."""
        self.began = began
        """When the first try began, in seconds of the wall clock: no other one is known to all machines."""

    # -- tries ------------------------------------------------------------------------

    def note(
        self, fate: SendResult | SmtpError, policy: RetryPolicy, now: float, *, whole: bool
    ) -> float | None:
        """Enter what a try came to; seconds until the next one, or None: it is over."""
        self.attempts += 1
        self.enter(fate, policy, whole=whole)
        return policy.pause(self.attempts, self.began, now) if self.owed else None

    @property
    def perhaps_delivered(self) -> int:
        """How many have the message, or may have it."""
        return sum(not isinstance(fate, RejectedRecipient) for fate in self._fates.values())

    # -- plain values -------------------------------------------------------------------

    def to_plain(self) -> _Plain:
        """What ``from_plain`` takes: text, numbers, lists and dicts."""
        replies: dict[Reply, int] = {}
        fates = [[index, *_plain_fate(fate, replies)] for index, fate in sorted(self._fates.items())]
        return {
            "version": VERSION,
            "attempts": self.attempts,
            "began": self.began,
            "owed": list(self.owed),
            "replies": [_plain_reply(reply) for reply in replies],
            "fates": fates,
        }

    @classmethod
    def from_plain(cls, recipients: tuple[str, ...], plain: object) -> Self:
        """The account that was written down; ``InputError`` for what is none of this message."""
        try:
            if not isinstance(plain, Mapping) or plain["version"] != VERSION:
                raise ValueError
            account = cls(recipients, float(plain["began"]))
            account._restore(plain)
        except (TypeError, ValueError, OverflowError, KeyError, IndexError, AttributeError) as error:
            raise InputError("malformed account of earlier tries") from error
        return account

    def _restore(self, plain: Mapping[str, Any]) -> None:
        replies = [_reply(each) for each in plain["replies"]]
        places = range(len(self._recipients))
        owed = [_at(places, index) for index in plain["owed"]]
        attempts = plain["attempts"]
        if type(attempts) is not int or attempts < 1 or not math.isfinite(self.began):
            raise ValueError
        for index, kind, *rest in plain["fates"]:
            # One at a time, so that an address which stands twice keeps what became of each.
            self.owed = [_at(places, index)]
            self.enter(_fate(self._recipients[index], kind, rest, replies), _NO_MORE, whole=False)
        if not 0 < len(owed) == len(set(owed)) or any(isinstance(self._fates.get(i), Reply) for i in owed):
            raise ValueError  # who has the message is owed none
        self.owed = owed
        self.attempts = attempts
        self._tries = attempts + 1  # never taken for a first one, whose result would be all there is

    # -- what it amounts to -------------------------------------------------------------

    def report(self, mail: MailObject) -> _Plain:
        """What became of every recipient, each in one of the four lists, in plain values."""
        fate = self.outcome()
        outcome = Outcome.of(mail, fate)
        return {
            "status": outcome.status,
            "accepted": [{"recipient": str(path), **_told(reply)} for path, reply in acceptances(fate)],
            "rejected": [
                {"recipient": str(each.recipient), **_told(each.reply), "stage": str(each.stage)}
                for each in outcome.rejected_recipients
            ],
            "unknown": [str(path) for path in outcome.unknown_recipients],
            "unsent": [str(path) for path in outcome.unsent_recipients],
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
        "text": str(error)[:_MAX_TEXT],
        "stage": None if error.stage is None else str(error.stage),
        "temporary": error.temporary,
    }


def _plain_reply(reply: Reply) -> list[Any]:
    code = reply.enhanced
    enhanced = None if code is None else [code.klass, code.subject, code.detail]
    # Latin-1 gives each octet a character of its own, whatever the server sent.
    return [reply.code, enhanced, b"\n".join(reply.lines)[:_MAX_TEXT].decode("latin-1")]


def _reply(plain: Any) -> Reply:
    code, enhanced, text = plain
    if type(code) is not int or not 200 <= code < 600:
        raise ValueError
    klass_and_more = None if enhanced is None else EnhancedCode(*map(int, enhanced))
    return Reply(code, tuple(text.encode("latin-1").split(b"\n")), klass_and_more)


def _at(items: Sequence[_Item], index: object) -> _Item:
    """The item at this place; Python would count a negative one from the end."""
    if type(index) is not int or index < 0:
        raise ValueError
    return items[index]


def _plain_fate(fate: Fate, replies: dict[Reply, int]) -> list[Any]:
    """Replies are written down once: thousands of recipients may share one."""
    if isinstance(fate, Reply):
        return ["accepted", replies.setdefault(fate, len(replies))]
    if isinstance(fate, RejectedRecipient):
        return ["rejected", replies.setdefault(fate.reply, len(replies)), str(fate.stage)]
    return ["unknown"]


def _fate(path: str, kind: str, rest: list[Any], replies: list[Reply]) -> SendResult | SmtpError:
    if kind == "accepted":
        (number,) = rest
        reply = _at(replies, number)
        return SendResult((path,), (), reply, (reply,))
    if kind == "rejected":
        number, stage = rest
        reply = _at(replies, number)
        refused = AllRecipientsFailed(1, [reply], stage=Stage(stage))
        refused.rejected_recipients = (RejectedRecipient(path, reply, Stage(stage)),)
        return refused
    if kind == "unknown" and not rest:
        doubt = DeliveryUnknown("an earlier try was left in doubt", stage=Stage.FINAL)
        doubt.unknown_recipients = (path,)
        return doubt
    raise ValueError


# What the task raises.


class SendFailed(SmtpError):
    """A message that nobody accepted, or that is in doubt; ``report`` is what the task knows of it.

    It pickles, and comes whole out of Celery's results in JSON. The four tuples
    of recipients are those of the report.
    """

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__()
        self.args = (report,)
        self.report = report
        self.accepted_recipients = _paths(report, "accepted")
        self.rejected_recipients = tuple(_refused(each) for each in report.get("rejected", ()))
        self.unknown_recipients = _paths(report, "unknown")
        self.unsent_recipients = _paths(report, "unsent")

    @property
    def status(self) -> str:
        """``"rejected"``, ``"unknown"`` or ``"unsent"``."""
        return str(self.report.get("status", "unknown"))

    @property
    def temporary(self) -> bool:
        """Whether it was, in the end, a failure for now."""
        return bool((self.report.get("error") or {}).get("temporary"))

    def __str__(self) -> str:
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

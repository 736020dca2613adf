"""The ledger of a message: what is known of each of its recipients.

It is kept by place in the list of recipients, since an address may stand twice.
The replies of one transaction fill a ledger; those of several transactions,
several tries and several processes are merged into one. Results, the four
tuples of an error and the reports of queues are made from it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, Final, Literal, TypeAlias, TypeVar

from ..errors import AllRecipientsFailed, DeliveryUnknown, InputError, RecipientsRejected, SmtpError
from ..wire.limits import Stage
from ..wire.reply import EnhancedCode, Reply
from ..wire.result import RejectedRecipient, SendResult

DOUBT: Final = "doubt"

Fate: TypeAlias = Reply | RejectedRecipient | Literal["doubt"] | None
"""Accepted with this final reply; refused; perhaps accepted; or nothing yet, which is to say unsent."""

_RANK: Final[Mapping[type, int]] = {type(None): 0, RejectedRecipient: 1, str: 2, Reply: 3}
"""Acceptance outranks doubt, doubt outranks a refusal, and any of them silence: whoever has the message, or
perhaps has it, does not become "refused" because a later transaction was. Of two equals the later counts."""

_ACCEPTED: Final = Reply(250)
"""What an acceptance amounts to if an error names the path only."""
_MAX_TEXT: Final = 1000
"""Octets of a reply in the plain form: one server must not fill a queue."""
_MALFORMED: Final = (TypeError, ValueError, OverflowError, KeyError, IndexError, AttributeError)

_E = TypeVar("_E", bound=SmtpError)
_T = TypeVar("_T")


class Ledger:
    """One fate for each place in ``recipients``."""

    __slots__ = ("accepted_count", "fates", "last", "recipients")

    def __init__(self, recipients: Sequence[str]) -> None:
        self.recipients: Sequence[str] = recipients
        self.fates: list[Fate] = [None] * len(recipients)
        self.accepted_count: int = 0
        self.last: Reply | None = None
        """The reply of the acceptance that was entered last."""

    @classmethod
    def told(cls, outcome: SendResult | SmtpError, recipients: Sequence[str] | None = None) -> Ledger:
        """What a result or an error says of these recipients, or of those whom it names.

        It names addresses: the fates of one that stands twice go to its places in
        the order in which they are named. ``DeliveryUnknown`` that names nobody is
        about all of them.
        """
        rows = list(_named(outcome))
        ledger = cls([path for path, _ in rows] if recipients is None else recipients)
        if not rows and isinstance(outcome, DeliveryUnknown):
            ledger.doubt_rest()
        named: defaultdict[str, deque[Fate]] = defaultdict(deque)
        for path, fate in rows:
            named[path].append(fate)
        for place, path in enumerate(ledger.recipients):
            if fates := named.get(path):
                ledger.enter(place, fates.popleft())
        if isinstance(outcome, SendResult) and ledger.accepted_count:
            ledger.last = outcome.reply
        return ledger

    # -- entries ----------------------------------------------------------------------

    def enter(self, place: int, fate: Fate) -> None:
        """Enter what was learnt of a recipient, unless what is known outranks it."""
        before = self.fates[place]
        if _RANK[type(fate)] < _RANK[type(before)]:
            return
        self.fates[place] = fate
        if type(fate) is Reply:
            self.last = fate
            self.accepted_count += type(before) is not Reply

    def refuse(self, place: int, reply: Reply, stage: Stage) -> None:
        """Enter that a recipient was refused."""
        self.enter(place, RejectedRecipient(self.recipients[place], reply, stage))

    def refuse_rest(self, reply: Reply, stage: Stage) -> None:
        """Enter that everybody was refused of whom nothing is known yet."""
        for place in self._unsent():
            self.refuse(place, reply, stage)

    def doubt_rest(self) -> None:
        """Enter that everybody perhaps has it of whom nothing is known yet."""
        for place in self._unsent():
            self.fates[place] = DOUBT

    def withdraw(self, place: int) -> None:
        """Take back a refusal: nothing is known of that recipient from now on."""
        assert isinstance(self.fates[place], RejectedRecipient)
        self.fates[place] = None

    def merge(self, later: Ledger, places: Iterable[int]) -> None:
        """Enter all that a later ledger says; ``places`` has the place here of each one there."""
        for place, fate in zip(places, later.fates, strict=True):
            self.enter(place, fate)
        self.last = later.last or self.last

    # -- what is known ------------------------------------------------------------------

    @property
    def accepted(self) -> tuple[str, ...]:
        """Who has the message."""
        return tuple(path for path, fate in self._rows() if type(fate) is Reply)

    @property
    def accepted_replies(self) -> tuple[Reply, ...]:
        """The final reply to each of these, in the same order."""
        return tuple(fate for fate in self.fates if type(fate) is Reply)

    @property
    def rejected(self) -> tuple[RejectedRecipient, ...]:
        """Who was refused, and by what."""
        return tuple(fate for fate in self.fates if type(fate) is RejectedRecipient)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Who perhaps has it."""
        return tuple(path for path, fate in self._rows() if fate is DOUBT)

    @property
    def unsent(self) -> tuple[str, ...]:
        """Of whom nothing is known: it was not sent to them."""
        return tuple(self.recipients[place] for place in self._unsent())

    def _rows(self) -> Iterator[tuple[str, Fate]]:
        return zip(self.recipients, self.fates, strict=True)

    def _unsent(self) -> list[int]:
        return [place for place, fate in enumerate(self.fates) if fate is None]

    # -- what it amounts to ---------------------------------------------------------------

    def result(self) -> SendResult:
        """The result, if somebody was accepted."""
        assert self.last is not None
        return SendResult(self.accepted, self.rejected, self.last, self.accepted_replies)

    def outcome(
        self, last: SmtpError | None, *, refusal: SmtpError | None = None, doubt: SmtpError | None = None
    ) -> SendResult | SmtpError:
        """A result if somebody accepted and everybody else was refused, else an error that names everybody.

        That is ``doubt`` if somebody is in doubt, else ``last`` if somebody is unsent, else ``refusal``;
        if there is none, one that says it.
        """
        if self.last is not None and self.accepted_count == len(self.recipients):
            # The usual case, in which nothing is done for each of them.
            return SendResult(tuple(self.recipients), (), self.last, tuple(self.fates))  # type: ignore[arg-type]
        if self.unknown:
            text = "the end of data was written and no valid reply came"
            return self.on(doubt or DeliveryUnknown(text, stage=Stage.FINAL))
        if self.unsent:
            return self.on(last or SmtpError("nothing was said about some of the recipients"))
        if self.accepted_count:
            return self.result()
        return self.on(refusal or recipients_rejected(self.rejected, len(self.recipients)))

    def on(self, error: _E) -> _E:
        """The error, with every recipient in one of its four tuples."""
        error.accepted_recipients, error.accepted_replies = self.accepted, self.accepted_replies
        error.rejected_recipients = self.rejected
        error.unknown_recipients, error.unsent_recipients = self.unknown, self.unsent
        return error

    # -- plain values ---------------------------------------------------------------------

    def to_plain(self) -> dict[str, list[Any]]:
        """What ``from_plain`` takes: text, numbers and lists, for a queue.

        Each reply is written once: thousands of recipients may share it.
        """
        replies: dict[Reply, int] = {}
        fates: list[list[Any]] = []
        for place, fate in enumerate(self.fates):
            if isinstance(fate, Reply):
                fates.append([place, "accepted", replies.setdefault(fate, len(replies))])
            elif isinstance(fate, RejectedRecipient):
                number = replies.setdefault(fate.reply, len(replies))
                fates.append([place, "rejected", number, str(fate.stage)])
            elif fate is DOUBT:
                fates.append([place, "unknown"])
        return {"replies": [_plain(reply) for reply in replies], "fates": fates}

    @classmethod
    def from_plain(cls, recipients: Sequence[str], plain: Mapping[str, Any]) -> Ledger:
        """The ledger of these recipients that was written so.

        Raises ``InputError`` for anything else: whoever can write to a queue may have written it.
        """
        ledger = cls(recipients)
        try:
            replies = [_reply(each) for each in plain["replies"]]
            for row in plain["fates"]:
                ledger._restore(row, replies)
        except _MALFORMED as error:
            raise InputError("malformed ledger of recipients") from error
        return ledger

    def _restore(self, row: Any, replies: list[Reply]) -> None:
        match row:
            case [place, "accepted", number] if (reply := at(replies, number)).is_positive:
                self.enter(at(range(len(self.fates)), place), reply)
            case [place, "rejected", number, stage] if (reply := at(replies, number)).code >= 400:
                self.refuse(at(range(len(self.fates)), place), reply, Stage(stage))
            case [place, "unknown"]:
                self.enter(at(range(len(self.fates)), place), DOUBT)
            case _:
                raise ValueError


def recipients_rejected(rejected: Sequence[RejectedRecipient], count: int) -> RecipientsRejected:
    """The error by which these of ``count`` recipients were refused, each with a reply of its own."""
    kind = AllRecipientsFailed if len(rejected) == count else RecipientsRejected
    stages = [each.stage for each in rejected]
    stage = Stage.FINAL if Stage.FINAL in stages else next(iter(stages), None)
    error = kind(count, [each.reply for each in rejected], stage=stage)
    error.rejected_recipients = tuple(rejected)
    return error


def _named(outcome: SendResult | SmtpError) -> Iterator[tuple[str, Fate]]:
    """Each recipient that a result or an error names, with its fate."""
    replies: Iterator[Reply]
    if isinstance(outcome, SendResult):
        replies = chain(outcome.replies, repeat(outcome.reply))
    else:
        replies = chain(outcome.accepted_replies, repeat(_ACCEPTED))
    yield from zip(outcome.accepted_recipients, replies, strict=False)
    for each in outcome.rejected_recipients:
        yield each.recipient, each
    if isinstance(outcome, SmtpError):
        yield from zip(outcome.unknown_recipients, repeat(DOUBT), strict=False)
        yield from zip(outcome.unsent_recipients, repeat(None), strict=False)


def at(items: Sequence[_T], place: object) -> _T:
    """The item at this place; no negative one counts. Raises ``ValueError`` and ``IndexError``."""
    if type(place) is not int or place < 0:
        raise ValueError
    return items[place]


def _plain(reply: Reply) -> list[Any]:
    code = reply.enhanced
    enhanced = None if code is None else [code.klass, code.subject, code.detail]
    # Latin-1 gives each octet a character of its own, whatever the server sent.
    return [reply.code, enhanced, b"\n".join(reply.lines)[:_MAX_TEXT].decode("latin-1")]


def _reply(plain: Any) -> Reply:
    code, enhanced, text = plain
    if type(code) is not int or not 200 <= code < 600:
        raise ValueError
    enhanced_code = None if enhanced is None else EnhancedCode(*map(int, enhanced))
    return Reply(code, tuple(text.encode("latin-1").split(b"\n")), enhanced_code)

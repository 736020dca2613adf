"""How a message stands with each of its recipients, over all the tries that a pool gives it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from ..errors import AllRecipientsFailed, DeliveryUnknown, InputError, NotSupportedError, SmtpError
from ..outcome import acceptances
from ..retry import RetryPolicy
from ..wire.reply import Reply
from ..wire.result import RejectedRecipient, SendResult

_DOUBT: Final = "doubt"
_SHUTDOWN: Final = 421
"""Not about the recipient: the server is closing the connection (RFC 5321 3.8)."""

Fate: TypeAlias = Reply | RejectedRecipient | Literal["doubt"]
"""Accepted with this final reply; refused; or perhaps accepted. One without a fate was not sent to."""


class Standing:
    """What is known of each recipient, by its place in the list, and who is owed another try.

    Where tries tell different things, acceptance outranks doubt, doubt outranks
    a refusal, and any reply outranks silence: who perhaps has the message does
    not become "refused" by a later refusal of it. An address that stands twice
    is told apart by the order in which its fates are named.
    """

    __slots__ = ("_doubt", "_fates", "_last", "_recipients", "_refusal", "_reply", "_tries", "owed")

    def __init__(self, recipients: tuple[str, ...]) -> None:
        self.owed = list(range(len(recipients)))
        """The places of those to whom the next try goes."""
        self._recipients = recipients
        self._fates: dict[int, Fate] = {}
        self._tries = 0
        self._last: SendResult | SmtpError | None = None
        self._reply: Reply | None = None
        """Of the acceptance that came last."""
        self._refusal: SmtpError | None = None
        """The error that refused somebody last."""
        self._doubt: SmtpError | None = None
        """The error that left somebody in doubt last."""

    # -- a try ------------------------------------------------------------------------

    def enter(self, outcome: SendResult | SmtpError, policy: RetryPolicy, *, whole: bool) -> None:
        """Enter what a try for those ``owed`` came to, and settle who is owed another one.

        ``whole``: all or nothing was asked, so all of them or nobody.
        """
        told = self._told(outcome)
        self._tries += 1
        self._last = outcome
        for index, fate in told.items():
            self._note(index, fate, outcome)
        batch = [i for i in self.owed if not isinstance(self._fates.get(i), Reply)]
        again = self._again(batch, told, outcome, policy) if batch else []
        if whole and len(again) < len(self._recipients):
            again = []  # to a part of them it would be neither all nor nothing
        self.owed = again

    def _told(self, outcome: SendResult | SmtpError) -> dict[int, Fate]:
        """The fates that a try names, each at its place."""
        named: defaultdict[str, deque[Fate]] = defaultdict(deque)
        for path, reply in acceptances(outcome):
            named[path].append(reply)
        for rejected in outcome.rejected_recipients:
            named[rejected.recipient].append(rejected)
        for path in getattr(outcome, "unknown_recipients", ()):
            named[path].append(_DOUBT)
        if isinstance(outcome, DeliveryUnknown) and not outcome.accounts_for_anyone:
            return dict.fromkeys(self.owed, _DOUBT)  # it names nobody: then all of them
        return {i: fates.popleft() for i in self.owed if (fates := named.get(self._recipients[i]))}

    def _note(self, index: int, fate: Fate, outcome: SendResult | SmtpError) -> None:
        if isinstance(fate, Reply):
            self._reply = fate
        elif isinstance(outcome, SmtpError):
            if fate == _DOUBT:
                self._doubt = outcome
            else:
                self._refusal = outcome
        if self._fates.get(index) != _DOUBT or isinstance(fate, Reply):
            self._fates[index] = fate

    def _again(
        self, batch: list[int], told: dict[int, Fate], outcome: SendResult | SmtpError, policy: RetryPolicy
    ) -> list[int]:
        """Who of those without the message may be sent to again."""
        refused = [fate for i in batch if isinstance(fate := told.get(i), RejectedRecipient)]
        error = outcome if isinstance(outcome, SmtpError) else _refusal_of(refused)
        if isinstance(error, InputError | NotSupportedError):
            return []
        unsent = isinstance(error, DeliveryUnknown) or policy.covers(error)

        def may(index: int) -> bool:
            fate = told.get(index)
            if isinstance(fate, RejectedRecipient):
                return fate.reply.code == _SHUTDOWN or (policy.temporary and fate.temporary)
            return policy.unknown if fate == _DOUBT else unsent

        again = list(filter(may, batch))
        return again if again and policy.allows(error) else []

    # -- what it amounts to -----------------------------------------------------------

    def outcome(self) -> SendResult | SmtpError:
        """What all tries together amount to.

        A result where somebody accepted and everybody else was refused; else an
        error whose four tuples name every recipient once. It is that of the
        last try, the one that left the doubt where there is one, or where all
        were refused the one that says so.
        """
        if self._tries == 1 and isinstance(self._last, SendResult):
            return self._last
        accepted = {i: fate for i, fate in sorted(self._fates.items()) if isinstance(fate, Reply)}
        rejected = tuple(
            fate for _, fate in sorted(self._fates.items()) if isinstance(fate, RejectedRecipient)
        )
        unknown = [i for i, fate in sorted(self._fates.items()) if fate == _DOUBT]
        unsent = [i for i in range(len(self._recipients)) if i not in self._fates]
        paths = self._paths(accepted)
        if self._reply is not None and not unknown and not unsent:
            return SendResult(paths, rejected, self._reply, tuple(accepted.values()))
        error = self._error(rejected, in_doubt=bool(unknown), all_told=not unsent)
        error.accepted_recipients, error.rejected_recipients = paths, rejected
        error.accepted_replies = tuple(accepted.values())
        error.unknown_recipients, error.unsent_recipients = self._paths(unknown), self._paths(unsent)
        return error

    def _paths(self, indices: Iterable[int]) -> tuple[str, ...]:
        return tuple(self._recipients[i] for i in indices)

    def _error(self, rejected: tuple[RejectedRecipient, ...], *, in_doubt: bool, all_told: bool) -> SmtpError:
        """The error that says it best; its tuples are set by the caller."""
        if in_doubt and self._doubt is not None:
            return self._doubt
        if all_told and self._refusal is not None:
            if len(self._refusal.rejected_recipients) == len(self._recipients):
                return self._refusal
            return _refusal_of(rejected, self._refusal)
        if isinstance(self._last, SmtpError):
            return self._last
        return SmtpError("nothing was said about some of the recipients")


def _refusal_of(rejected: Sequence[RejectedRecipient], last: SmtpError | None = None) -> AllRecipientsFailed:
    """The error by which these are refused, each with a reply of its own."""
    stage = rejected[-1].stage if rejected else None
    error = AllRecipientsFailed(len(rejected), [each.reply for each in rejected], stage=stage)
    error.rejected_recipients = tuple(rejected)
    if last is not None:
        error.transcript = last.transcript
        error.__cause__ = last
    return error

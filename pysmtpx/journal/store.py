"""What a pool asks of a journal: messages on disk, who is owed them, and what became of each recipient.

The commit rule, made to last. A recipient is *queued*; *in doubt* from before the write with the last octet
of the content; then *accepted* or *refused*, or *queued* again. Whoever is found queued certainly has
nothing; whoever is found in doubt may have the message, and is not sent it again unless somebody says so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from ..errors import SmtpError
from ..shortening import listed
from ..wire.result import SendResult

State: TypeAlias = Literal["queued", "doubt", "accepted", "refused"]

LEASE: Final = 60.0
"""Seconds for which whoever took a message has it. A pool renews three times as often."""
NEVER: Final = math.inf
"""When a message without a limit of its own expires."""


class JournalError(SmtpError):
    """The journal cannot be read or written. What was to be recorded first was not sent."""

    @property
    def anchor(self) -> str:
        """The name of its section of docs/troubleshooting.md."""
        return "journalerror"


class NotHeld(JournalError):
    """Nobody was brought into doubt, for the sake of ``numbers``.

    Another process has these messages by now, or somebody has cancelled them. The rest of the same flight
    may be brought into doubt by another call.
    """

    def __init__(self, numbers: Iterable[Any]) -> None:
        super().__init__()
        self.numbers: tuple[Any, ...] = tuple(numbers)
        self.args: tuple[Any, ...] = (self.numbers,)

    def _wrong(self) -> str:
        named = listed(list(map(str, self.numbers)))
        return f"of the journal, message {named} was cancelled, or is another process's by now"


class Fate(NamedTuple):
    """What is known of one recipient of a message."""

    address: str
    """As it stands in the payload's ``recipients``."""
    state: State
    reply: str = ""
    """The server's last, or what went wrong."""
    stage: str = ""
    changed: float = 0.0
    """Seconds since the epoch; 0 where it is yet to be recorded."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A message that was taken, and to whom it is to be sent."""

    number: Any
    """What the store calls it: an ``int`` or whatever else is a key."""
    payload: Mapping[str, Any] | None
    """What was added (``pysmtpx.payload``); None where it is damaged or gone."""
    recipients: tuple[str, ...]
    """Those of the payload's that are queued, in their order."""
    tries: int = 0
    queued: float = 0.0
    """Seconds since the epoch."""
    expires: float = NEVER
    """Seconds since the epoch; it is not sent later."""


class Store(Protocol):
    """A journal of messages, as a pool uses it: one file of SQLite, a model of Django.

    Each method is safe in any thread. What it did is on disk when it returns, so that it holds after
    ``kill -9`` and a loss of power, except ``settle``, ``renew``, ``release`` and an ``add`` that need not be
    ``durable``: these hold after ``kill -9``, and may be forgotten by a loss of power, which leaves doubt
    where there was a fate and never the other way round. Each raises ``JournalError`` where the store cannot
    be read or written, and then nothing has changed.

    Whoever takes a message *holds* it until the end of a lease of ``LEASE`` seconds, or until it is settled
    or released. It is held until another one takes it: a lease that has run out is still good if nobody did.
    So no clock decides who may send, only who may take.
    """

    def add(
        self,
        payload: Mapping[str, Any],
        *,
        key: str | None = None,
        due: float = 0.0,
        expires: float = NEVER,
        take: bool = False,
        durable: bool = True,
    ) -> Any:
        """Queue a message for the ``recipients`` of the payload; its number.

        None if one with this ``key`` is there already: nothing is changed then. ``due`` and ``expires`` are
        seconds since the epoch. ``take``: whoever adds it holds it. Without ``durable`` it is on disk no
        later than its ``doubt``: for a caller who waits for the outcome, and still has the message.
        """

    def take(self, most: int) -> list[Owed]:
        """At most so many messages that have somebody queued, are due, and are held by nobody.

        What this store holds itself it never gives out again, though the lease have run out, as while a
        machine slept: it is under way. Those that are due first come first. They are held from now on. A
        store may give fewer, so that no more than some tens of megabytes are in memory. A lease that ends
        later than a new one would, because the clock was set back, is cut to that.
        """

    def renew(self, numbers: Collection[Any]) -> None:
        """Let the leases of those of these that are still held end a lease from now."""

    def release(self, numbers: Collection[Any]) -> None:
        """Give these back, as far as they are still held: another process may take them at once."""

    def doubt(self, entries: Sequence[tuple[Any, Sequence[str]]]) -> None:
        """Record, before the write by which they are, who of these messages is about to be in doubt.

        All of them or nobody: raises ``NotHeld``, and records nothing, if one of the messages is not held, or
        one of its addresses is neither queued nor in doubt by whoever asks. What raises is not sent.
        """

    def settle(
        self, number: Any, fates: Sequence[Fate], *, tries: int, due: float | None = None, keep: bool = False
    ) -> None:
        """Record what became of recipients: of each who was queued and is held, or was in doubt by us.

        All others stay as they are: another process may have brought them into doubt, and somebody may have
        cancelled them. So do recipients that are not among ``fates``. ``tries`` so far were made. The message
        is given back, or with ``keep`` held on to; ``due`` is when those who are queued may be taken, if that
        is to change. Of an address that comes twice the first fate counts.
        """

    def close(self) -> None:
        """Give back whatever is held, and the file; does nothing twice."""


def fates_of(outcome: SendResult | SmtpError, owed: Collection[str] = ()) -> list[Fate]:
    """What an outcome says of each recipient.

    ``owed`` are those who are to be sent to again: they are queued, whatever the last try said. All others
    who certainly have nothing are refused: with the server's reply, or with what went wrong. Of an address
    that comes twice, and is in doubt at one place, the doubt stands: it is owed for the sake of the other.
    """
    if isinstance(outcome, SendResult):
        text, stage = "", ""
        unknown: tuple[str, ...] = ()
        unsent: tuple[str, ...] = ()
        replies = outcome.replies or (outcome.reply,) * len(outcome.accepted_recipients)
    else:
        text, stage = outcome.text, str(outcome.stage or "")
        unknown, unsent = outcome.unknown_recipients, outcome.unsent_recipients
        replies = outcome.accepted_replies
    accepted = zip_longest(outcome.accepted_recipients, map(str, replies), fillvalue="")
    told = [Fate(str(path), "accepted", reply) for path, reply in accepted]
    elsewhere = {str(each.recipient) for each in outcome.rejected_recipients}.union(map(str, unsent))
    for path in map(str, unknown):
        told.append(_with(path, "doubt", text, stage, () if path in elsewhere else owed))
    for each in outcome.rejected_recipients:
        told.append(_with(str(each.recipient), "refused", str(each.reply), str(each.stage), owed))
    told += [_with(str(path), "refused", text, stage, owed) for path in unsent]
    return told


def _with(path: str, state: State, reply: str, stage: str, owed: Collection[str]) -> Fate:
    return Fate(path, "queued" if path in owed else state, reply, stage)

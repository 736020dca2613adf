"""What a conversation can ask for.

A flow is a generator. It yields one of these, and is resumed with the result
or has an exception thrown in (``Timeout``, ``ConnectionLost``,
``ProtocolError``; by then the connection is closed and must not be used). Its
``return`` value is the result of the conversation.

A refusal (a ``RejectedError`` or another error that carries a clean reply)
leaves the connection in step unless the flow asks for ``CLOSE`` first; any
other exception that leaves a flow closes the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from ..errors import SmtpError
from ..wire.limits import Stage
from ..wire.reply import Reply
from .hidden import Hidden

Octets: TypeAlias = bytes | memoryview
_T = TypeVar("_T")


@dataclass(slots=True)
class Send:
    """Write these octets. Resumed with True where something is there to be received.

    While the write is blocked, replies are read and kept, so neither side can
    stall. A write that fails, or that the server does not take in time, does not
    raise: it answers True, any further one ``WITHHELD``, and each ``Receive``
    yields what the server had said by then, before one raises ``ConnectionLost``
    or ``Timeout``.
    """

    data: Octets = field(repr=False)
    shown: bytes | None = field(default=None, repr=False)
    """What of it are command lines, where the rest is content: a log or transcript counts the rest only."""
    secret: bool = False
    """The octets must not appear in a log or transcript."""
    watch: bool = False
    """Stop as soon as input arrives: it can only be bad news. Guarded as well."""
    guard: bool = False
    """Write nothing where input is there already or the time is over, and answer ``WITHHELD``."""
    commits: bool = False
    """The end of data is in it. Write nothing, and answer ``TOO_LATE``, if less time is left than the server
    lately took to answer that."""
    short: int = 0
    """Set where it is answered: octets at its end that were never handed over, since it was broken off."""


@dataclass(slots=True, frozen=True)
class Receive:
    """Wait for the next reply, within the limit of the stage. Resumed with a ``Reply``."""

    stage: Stage
    last: bool = True
    """No further reply is owed: octets after this one are a ``ProtocolError``."""
    limit: float | None = None
    """Seconds, where that is less than the stage allows."""
    hidden: Hidden | None = None
    """What the reply, and any error in its place, must not show."""


class Listener(Protocol):
    """Who is told several replies, as they come."""

    @property
    def stage(self) -> Stage:
        """What the next one answers."""

    def note(self, replies: Sequence[Reply]) -> None:
        """Take the next ones, all that came together; an error that it raises is thrown into the flow."""


class Until(NamedTuple):
    """The message before is answered, and from now on the time of another one counts. Resumed with None."""

    deadline: Any
    """The ``Deadline`` of that message; None: it has as long as each message of its stream, from now."""


@dataclass(slots=True)
class Hear:
    """``Receive`` so many times, and tell the replies to a listener. Resumed with None."""

    listener: Listener
    count: int
    last: bool
    """No further reply is owed behind these."""
    limit: float | None = None
    """Seconds for the first of them, where that is less than its stage allows."""
    is_next: bool = False
    """The message before is answered, and from now on the time of the next one counts, as with ``Until``."""
    deadline: Any = None
    """That of the next one."""


@dataclass(slots=True, frozen=True)
class StartTls:
    """Upgrade to TLS. Resumed with its ``ChannelBinding``, or None.

    Raises ``ProtocolError`` where clear text is waiting: it could have been
    injected (RFC 3207 4.2). After it the stream and its parser are new.
    """


@dataclass(slots=True, frozen=True)
class Close:
    """Close the connection now, without another octet. Resumed with None."""

    farewell: bool = False
    """QUIT was said, and no answer is waited for any more: over TLS a close_notify goes before."""


class Record(NamedTuple):
    """Do this before the write by which messages get in doubt.

    Resumed with None, or the ``SmtpError`` for what it raised: then that write must not follow.
    """

    action: Callable[[], None]


class Transcribe(NamedTuple):
    """Put the last exchanges on an error that is to be told. Resumed with None."""

    error: SmtpError


Effect: TypeAlias = Send | Receive | Hear | StartTls | Close | Until | Record | Transcribe
Flow: TypeAlias = Generator[Effect, Any, _T]

WITHHELD: Final = 2
"""What a ``Send`` answers where not one octet was written: it was guarded, or the line was known to be gone.

True, as for input.
"""
TOO_LATE: Final = 3
"""What a ``Send`` that commits answers if no answer can be expected in time; nothing was written."""


START_TLS: Final = StartTls()
CLOSE: Final = Close()
PART: Final = Close(farewell=True)
MORE: Final = {stage: Receive(stage, last=False) for stage in Stage}
"""The next reply, behind which others are owed."""
LAST: Final = {stage: Receive(stage) for stage in Stage}
"""The next reply, behind which none is."""

"""What the rack is filled with: servers, sessions that are open on them, and claims to one."""

from __future__ import annotations

import contextlib
import math
import threading
from typing import Any, Final

from ..channel import Channel
from ..errors import SmtpError
from ..flow.effects import CLOSE, Flow, Send
from ..net.answers import AnswerTime
from ..net.deadline import Deadline
from ..net.dial import Unwell
from ..opening import Attempt
from ..server import Server
from ..wire import command
from ..wire.capabilities import Capabilities
from .bell import Bell
from .health import Health

_LOOK: Final = 0.01
"""Seconds for a look at a connection, which takes none where nobody has it."""
_PARTING: Final = 1.0
"""Seconds for the write of a QUIT whose answer nobody waits for."""


class Site:
    """One server, and what is known of it."""

    __slots__ = (
        "answer_time",
        "error",
        "failing",
        "health",
        "is_watched",
        "last",
        "name",
        "server",
        "unwell",
    )

    def __init__(self, server: Server, health: Health) -> None:
        self.server = server
        self.health = health
        self.name = server.path or f"{server.host}:{server.port}"
        self.unwell = Unwell()
        """Its addresses that gave no session of late."""
        self.answer_time = AnswerTime()
        """How long it lately took to answer the end of data."""
        self.last = 0
        """The lease that used it last, counted from the first."""
        self.failing = False
        """The last dial failed: the next one goes alone."""
        self.error: SmtpError | None = None
        """Why it failed."""
        self.is_watched = False
        """Something failed, and no message has gone there as it did since."""

    @property
    def is_hopeful(self) -> bool:
        """Unless it refused us for good when it was dialled last."""
        return self.error is None or self.error.temporary


class Claim:
    """A right to one connection, or a wish for it; belongs to one call or worker.

    It is made before anything is held, so that whatever an interrupt leaves
    half done can be found by it and given back.
    """

    __slots__ = ("bell", "failure", "is_urgent", "thread")

    def __init__(self, *, urgent: bool, thread: int | None = None) -> None:
        self.bell = Bell()
        self.is_urgent = urgent
        """A call waits for it: a stream is to end for its sake."""
        self.thread = threading.get_ident() if thread is None else thread
        self.failure: SmtpError | None = None
        """What a dial of another claim failed with while this one waited for it."""


class Session:
    """One place on the rack: a connection, or the dial that is to become one.

    ``owner`` alone says whose it is; None is idle. Whoever owns it is the only
    one to touch the rest.
    """

    __slots__ = (
        "accepted",
        "attempt",
        "budget",
        "capabilities",
        "channel",
        "ends",
        "has_rested",
        "is_limited",
        "is_stopped",
        "is_yielding",
        "made",
        "owner",
        "refused",
        "served",
        "since",
        "site",
        "under_way",
    )

    def __init__(self, site: Site, owner: Claim, moment: float) -> None:
        self.site = site
        self.owner: Claim | None = owner
        self.channel: Channel | None = None
        """None while it is being dialled."""
        self.capabilities = Capabilities.none()
        self.attempt: Attempt | None = None
        """The dial, while it is under way."""
        self.is_stopped = False
        self.under_way: list[Any] = []
        """Messages that were taken for it and not reported yet."""
        self.made = -math.inf
        self.since = moment
        """When it was last put down; until then, when it was decided to dial it."""
        self.ends = math.inf
        """When it is too old."""
        self.has_rested = False
        """It has been idle, and may have died of it."""
        self.served = 0
        """Messages that were taken for it."""
        self.budget: float = math.inf
        """Messages that it may serve in all."""
        self.is_limited = True
        """It keeps to the number of messages that was learnt of its server; not where it is to try that."""
        self.accepted = 0
        """Messages that somebody accepted."""
        self.refused = 0
        """Messages in a row that were refused as if the server took no more on this connection."""
        self.is_yielding = False
        """It is about to be handed to somebody who waits."""

    @property
    def is_open(self) -> bool:
        """True once it has been dialled."""
        return self.channel is not None

    def is_free(self) -> bool:
        """True where it is alive, and nobody has the line."""
        if self.channel is None:
            return False
        try:
            self.channel.run(_look, Deadline.after(_LOOK))
        except SmtpError:
            return False
        return True

    @property
    def is_spent(self) -> bool:
        """True where it has served what it may."""
        limit = self.site.health.message_limit if self.is_limited else math.inf
        return self.served >= min(self.budget, limit)

    def must_rest(self, moment: float) -> bool:
        """True where it is too old, or its server wants to be left alone for a while."""
        return self.ends <= moment or self.site.health.rest_until > moment

    def begin(self, attempt: Attempt) -> None:
        """It is about to be dialled."""
        self.attempt = attempt
        if self.is_stopped:
            attempt.stop()

    def close(self) -> None:
        """End it at once, whoever uses it; from any thread."""
        self.is_stopped = True
        channel, attempt = self.channel, self.attempt
        if channel is not None:
            channel.close()
        elif attempt is not None:
            attempt.stop()

    def drop(self) -> None:
        """Close it without an octet, in a forked child."""
        if self.channel is not None:
            self.channel.close()
        elif self.attempt is not None:
            self.attempt.drop()

    def part(self) -> None:
        """Say QUIT without waiting for the answer, and close (RFC 5321 4.1.1.10)."""
        channel = self.channel
        if channel is not None and not channel.closed:
            with contextlib.suppress(SmtpError):
                channel.run(_farewell, Deadline.after(_PARTING))
        self.close()


def _look() -> Flow[None]:
    """No conversation at all: the channel looks whether it is alive before each."""
    yield from ()


def _farewell() -> Flow[None]:
    yield Send(command.QUIT)
    yield CLOSE

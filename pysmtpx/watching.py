"""What is told of a connection that belongs to no pool: its messages, its beginning and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Self

from . import observing
from .channel import Channel
from .errors import SmtpError
from .events import OF_CONNECTIONS, Event, Kind
from .flow.pipeline import Done
from .net.deadline import now
from .observing import Peer, Step
from .wire.result import SendResult

_log: Final = logging.getLogger("pysmtpx")

is_told: Final[Callable[[int], bool]] = _log.isEnabledFor
"""Whether what is of this level goes to the log."""


class Watch:
    """One message, from its beginning to its end."""

    __slots__ = ("_began", "_mail", "_peer", "_step")

    def __init__(self, peer: Peer, mail: Any, link: Step | None = None) -> None:
        self._peer = peer
        self._mail = mail
        self._began = now()
        self._step = observing.begin("send", peer, mail=mail, link=link)

    def end(self, written: Any, outcome: SendResult | BaseException | None) -> None:
        """It has its outcome; ``written`` is what was sent of it. An interrupt is nothing to log."""
        with observing.within(self._step):
            if isinstance(outcome, SendResult | SmtpError):
                kind: Kind = "sent" if isinstance(outcome, SendResult) else "refused"
                if OF_CONNECTIONS.are_wanted(kind, outcome):
                    seconds = now() - self._began
                    event = Event(
                        kind, self._peer.name, seconds, self._mail, outcome, attempt=1, written=written
                    )
                    OF_CONNECTIONS.emit(event)
        observing.end(self._step, outcome)


class Watches:
    """The messages of one stream; a context manager, at whose end none of them is left open."""

    def __init__(self, peer: Peer, link: Step | None) -> None:
        self._peer = peer
        self._link = link
        self._open: set[_Watched] = set()

    def begin(self, mail: Any, written: Any = None, token: Any = None) -> _Watched:
        """A message is about to be sent; what to push in place of its ``token``, by default itself."""
        watched = _Watched(self._peer, mail, self._link, written, mail if token is None else token)
        self._open.add(watched)
        return watched

    def end(self, done: Done) -> Any:
        """One that was begun has its outcome; its own token."""
        watched: _Watched = done.token
        self._open.discard(watched)
        watched.end(watched.written, done.outcome)
        return watched.token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        for watched in self._open:
            watched.end(watched.written, error or GeneratorExit())


class _Watched(Watch):
    __slots__ = ("token", "written")

    def __init__(self, peer: Peer, mail: Any, link: Step | None, written: Any, token: Any) -> None:
        super().__init__(peer, mail, link)
        self.written = written
        self.token = token


def opened(server: Any, seconds: float, failure: SmtpError | None = None) -> None:
    """A connection to a ``Server`` was made, or could not be."""
    kind: Kind = "connected" if failure is None else "refused"
    if OF_CONNECTIONS.are_wanted(kind):
        why = "" if failure is None else failure.text
        OF_CONNECTIONS.emit(Event(kind, Peer.of(server).name, seconds, outcome=failure, why=why))


def closed(channel: Channel, server: Any) -> None:
    """Its owner ends it, if that was not told before."""
    if OF_CONNECTIONS.are_wanted("closed") and channel.is_to_be_told():
        seconds = now() - channel.made
        OF_CONNECTIONS.emit(Event("closed", Peer.of(server).name, seconds, why="its owner closed it"))

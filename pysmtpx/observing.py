"""The one hook for whoever watches the package at work, as traces and metrics do.

An ``Observer`` is told of steps, each with a beginning and an end, of each reply and how
long it took, and of the events that a pool tells its ``on_event``. Nothing is built, and no
clock is read, while there is none. ``pysmtpx.contrib.opentelemetry`` and
``pysmtpx.contrib.prometheus`` are observers; one for another program is a class of a few lines.

::

    from pysmtpx import observing

    class Slow(observing.Observer):
        def end(self, step):
            if step.name == "send" and step.seconds > 10:
                print("slow:", step.server, step.seconds)

    observing.add(Slow())
"""

from __future__ import annotations

import logging
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from .errors import InputError, SmtpError
from .net.deadline import now
from .records import fields
from .telling import Telling
from .wire.limits import Stage
from .wire.reply import Reply
from .wire.result import SendResult

_log: Final = logging.getLogger("pysmtpx")

StepName: TypeAlias = Literal["send", "try", "connect", "dial", "tls", "auth"]


class Peer(NamedTuple):
    """A server, as far as it may be shown."""

    host: str
    """Its name, or the path of a UNIX socket."""
    port: int | None
    """None for a UNIX socket."""
    protocol: str = "smtp"
    """``smtp`` or ``lmtp``."""

    @property
    def name(self) -> str:
        """As in events and the log."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, server: Any) -> Peer:
        """That of a ``Server``; itself."""
        if isinstance(server, Peer):
            return server
        protocol = str(server.protocol)
        return cls(server.path, None, protocol) if server.path else cls(server.host, server.port, protocol)


class Step:
    """Something that takes time.

    ``send`` is a message, from when it is handed in to its outcome; in a pool it has a
    ``try`` for each connection that it was put on, on a connection of one's own none.
    ``connect`` is a session up to where it takes mail; it has a ``dial`` and, if they
    happen, ``tls`` and ``auth``, more than one of each if a server has several addresses.
    """

    __slots__ = (
        "attempt",
        "began",
        "details",
        "link",
        "mail",
        "name",
        "outcome",
        "parent",
        "peer",
        "seconds",
        "state",
    )

    def __init__(
        self,
        name: StepName,
        peer: Peer | None = None,
        *,
        parent: Step | None = None,
        link: Step | None = None,
        mail: Any = None,
        attempt: int = 0,
    ) -> None:
        self.name: StepName = name
        self.peer: Peer | None = peer
        """None for a message of a pool, until a server has it."""
        self.parent: Step | None = parent
        """What it is a part of."""
        self.link: Step | None = link
        """Of a message or a try: the ``connect`` of the connection that it goes over."""
        self.mail: Any = mail
        """The message, as the caller gave it or, once that is made, as the mail object that is sent."""
        self.attempt: int = attempt
        """Tries of the message before this one."""
        self.details: dict[str, str] = {}
        """What was found out meanwhile: ``address`` of the peer, ``tls_version``, ``mechanism``."""
        self.began: float = now()
        """By the monotonic clock."""
        self.seconds: float | None = None
        """What it took; None until it is at its end."""
        self.outcome: SendResult | BaseException | None = None
        """How it ended, if there is more to say than that it did."""
        self.state: dict[Any, Any] = {}
        """Room for what each observer has to remember, by itself as the key."""

    @property
    def server(self) -> str:
        """Host and port, or path; empty where that is not known."""
        return "" if self.peer is None else self.peer.name

    def __repr__(self) -> str:
        return f"<Step {self.name} {self.server}>"


Kind: TypeAlias = Literal["connected", "sent", "refused", "retried", "closed"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``seconds`` is what it took, or what the connection lasted.

    ``"refused"`` is a message that ended with an error or, without ``mail``, a
    connection that could not be made.
    """

    kind: Kind
    server: str
    """Host and port, or path."""
    seconds: float
    mail: Any = field(default=None, repr=False)
    """As the caller gave it."""
    outcome: SendResult | SmtpError | None = None
    attempt: int = 0
    """Tries of this message so far."""
    delay: float | None = None
    """Seconds until the next one."""
    why: str = ""
    written: Any = field(default=None, repr=False, compare=False)
    """What is sent of ``mail``, if that is something else: it has the Message-ID that was added."""


class Observer:
    """Told what happens, in the thread in which it does; each method may be left out.

    What it raises is logged, and changes nothing. Of mail that it sends itself it
    is told nothing. It must not block: somebody's mail waits meanwhile.
    """

    def begin(self, step: Step) -> None:
        """A step begins."""

    def end(self, step: Step) -> None:
        """It is over, perhaps in another thread; ``seconds`` and ``outcome`` are known."""

    def enter(self, step: Step) -> Any:
        """From now on this thread works on the step, be it over; what this returns goes to ``leave``."""

    def leave(self, entered: Any) -> None:
        """No longer."""

    def replied(self, peer: Peer, stage: Stage, reply: Reply, seconds: float) -> None:
        """A reply was received so many seconds after what it answers was begun to be written."""

    def tell(self, event: Event) -> None:
        """An event, as ``on_event`` is told it; those of connections without a pool as well."""


observers: tuple[Observer, ...] = ()
"""Those who observe. Looked at wherever something may be told: empty costs nothing."""
_current: Final[ContextVar[Step | None]] = ContextVar("pysmtpx step", default=None)
_telling: Final = Telling("observing")


def add(observer: Observer) -> None:
    """Have it told from now on, of every connection and pool in the process; does nothing twice.

    Raises ``InputError`` for what is no ``Observer``.
    """
    global observers
    given: object = observer
    if not isinstance(given, Observer):
        told = f"{given.__name__}()" if isinstance(given, type) else "of a class derived from Observer"
        raise InputError(f"an observer is an object: {told}")
    if observer not in observers:
        observers = (*observers, observer)


def remove(observer: Observer) -> None:
    """Tell it nothing more; does nothing twice."""
    global observers
    observers = tuple(each for each in observers if each is not observer)


def begin(name: StepName, peer: Peer | None = None, **about: Any) -> Step | None:
    """Begin a step; None if nobody observes.

    It is a part of what this thread works on, unless a ``parent`` is named.
    """
    if not observers or _telling.is_under_way:
        return None
    parent = about.setdefault("parent", _current.get())
    if peer is None and parent is not None:
        peer = parent.peer
    step = Step(name, peer, **about)
    _tell("begin", step)
    return step


def end(step: Step | None, outcome: SendResult | BaseException | None = None) -> None:
    """End it, once."""
    if step is None or step.seconds is not None:
        return
    step.seconds = now() - step.began
    step.outcome = outcome
    _tell("end", step)


def note(step: Step | None, name: str, found: str | None) -> None:
    """Enter something that was found out in its ``details``."""
    if step is not None and found:
        step.details[name] = found


def tell(event: Event) -> None:
    """Tell an event."""
    _tell("tell", event)


def within(step: Step | None) -> _Within | _Nothing:
    """For a ``with`` block in which this thread works on a step that another call begins and ends."""
    return _NOTHING if step is None else _Within(step, ends=False)


def scope(name: StepName, server: Any = None) -> _Within | _Nothing:
    """For a ``with`` block that is the whole of a step; what it raises is how that ended.

    ``server`` is a ``Server`` or a ``Peer``; without one it is that of the step of which this is a part.
    """
    if not observers:
        return _NOTHING
    step = begin(name, None if server is None else Peer.of(server))
    return _NOTHING if step is None else _Within(step, ends=True)


class _Within:
    __slots__ = ("_ends", "_entered", "_step", "_token")

    def __init__(self, step: Step, *, ends: bool) -> None:
        self._step = step
        self._ends = ends
        self._entered: list[tuple[Observer, Any]] = []
        self._token: Token[Step | None] | None = None

    def __enter__(self) -> Step:
        self._token = _current.set(self._step)
        _telling.once(self._enter)
        return self._step

    def _enter(self) -> None:
        for observer in observers:
            self._entered.append((observer, _safely(observer, "enter", self._step)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _telling.once(self._leave)
        if self._token is not None:
            _current.reset(self._token)
        if self._ends:
            end(self._step, error)

    def _leave(self) -> None:
        while self._entered:
            observer, entered = self._entered.pop()
            _safely(observer, "leave", entered)


class _Nothing:
    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


_NOTHING: Final = _Nothing()


class ReplyTimes:
    """Tells how long each reply on one connection took: for ``on_send`` and ``on_reply`` of its driver."""

    __slots__ = ("_peer", "_since")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._since = now()

    def sent(self, _: object) -> None:
        """A write begins."""
        self._since = now()

    def replied(self, reply: Reply, stage: Stage) -> None:
        """A reply is there."""
        if observers:
            _tell("replied", self._peer, stage, reply, now() - self._since)


def _tell(method: str, *args: object) -> None:
    _telling.once(_tell_each, method, *args)


def _tell_each(method: str, *args: object) -> None:
    for observer in observers:
        _safely(observer, method, *args)


def _safely(observer: Observer, method: str, *args: object) -> Any:
    try:
        return getattr(observer, method)(*args)
    except Exception:
        _log.exception("%s of an observer failed", method, extra=fields(event="failed"))
        return None

"""The driver of flows: the only place where conversations meet a socket.

Whatever leaves an exchange half-read closes the connection: a timeout, a loss,
a breach, an interrupt. Only a clean refusal keeps it.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from . import cures, observing
from .errors import (
    AuthenticationError,
    ConnectionLost,
    InputError,
    ProtocolError,
    RejectedError,
    SessionLimitReached,
    SmtpError,
    Timeout,
    TlsError,
)
from .flow.effects import (
    TOO_LATE,
    WITHHELD,
    Close,
    Effect,
    Flow,
    Hear,
    Receive,
    Record,
    Send,
    StartTls,
    Transcribe,
    Until,
)
from .flow.hidden import Hidden
from .frames import bare
from .net.deadline import NEVER, AnswerTime, Deadline, now
from .net.stream import Stream
from .net.tls import Tls
from .sasl.binding import ChannelBinding
from .transcript import KEPT, LONGEST, SECRET, Kept, lines, log
from .wire.limits import REPLY_LIMITS, Stage
from .wire.reply import Reply

_T = TypeVar("_T")
_log: Final = logging.getLogger("pysmtpx.wire")
_FINAL: Final = Stage.FINAL


class Driver:
    """Runs flows over one stream, one after the other. Its owner holds a lock."""

    def __init__(
        self,
        stream: Stream,
        tls: Callable[[], Tls],
        answer_time: AnswerTime | None = None,
    ) -> None:
        self.stream: Stream = stream
        self.why: str = ""
        """Why the connection is closed."""
        self.mechanism: str = ""
        """That by which AUTH was accepted; empty before."""
        self.closing = False
        """Another thread asked for the end."""
        self.brisk: float | None = None
        """Seconds for the next reply, where the connection had been idle and may be half-open."""
        self.seconds: float | None = None
        """For each message of a stream that has no deadline of its own."""
        self._deadline = NEVER
        self._meanwhile: Callable[[], None] | None = None
        self._answer_time = answer_time or AnswerTime()
        self._committed: float | None = None
        """When the last end of data was begun, until its last answer is read."""
        self._tls = tls
        self._farewell = False
        self._kept: deque[Kept] = deque(maxlen=KEPT)
        """What was said and heard last; put into words only when asked for."""
        self._is_secret = False
        """What was said last is, and what answers it may repeat it."""
        self._talk: Callable[..., None] | None = None
        self.server: Any = None
        """The ``Server``, where it was dialled as one: the log names it."""
        self.on_send: Callable[[Send], None] | None = None
        """Is told of each write before it."""
        self.on_reply: Callable[[Reply, Stage], None] | None = None
        """Is told of each reply, and of what it answers."""

    def drive(self, flow: Flow[_T], deadline: Deadline, meanwhile: Callable[[], None] | None = None) -> _T:
        """Run a flow to its end.

        ``meanwhile`` is called once, before the first wait for a reply: the server is at work then.
        """
        self._deadline = deadline
        self._meanwhile = meanwhile
        self._farewell = False
        self._talk = _log.debug if _log.isEnabledFor(logging.DEBUG) else None
        try:
            effect = next(flow)
            while True:
                try:
                    result = _PERFORM[type(effect)](self, effect)
                except BaseException as error:
                    effect = flow.throw(self._ended(error, effect))
                else:
                    effect = flow.send(result)
        except StopIteration as stop:
            if self._farewell:
                self.end("the server said 421")
            value: _T = stop.value
            return value
        except BaseException as error:
            self._left(flow, error)
            raise

    def _left(self, flow: Flow[Any], error: BaseException) -> None:
        """An error leaves a flow: keep or close, and say on it what was said last."""
        # First of all: what follows may be interrupted in its turn.
        if self._farewell or not isinstance(error, _KEEPS):
            self.end(_told(error))
        self.why = self.why or _told(error)
        if inspect.getgeneratorstate(flow) == inspect.GEN_SUSPENDED:
            _tell(flow, error)
        if isinstance(error, SmtpError):
            self._transcribe(Transcribe(error))

    # -- effects ----------------------------------------------------------------------

    def _send(self, effect: Send) -> int:
        if self.on_send is not None:
            self.on_send(effect)
        commits, begun = effect.commits, None
        if commits:
            begun = now()
            if self._answer_time.is_too_long_for(self._deadline, begun):
                return TOO_LATE
        try:
            result = self.stream.send(effect.data, self._deadline, watch=effect.watch, guard=effect.guard)
        except BaseException as error:
            if effect.secret:
                bare(error)  # the line is a local of the frames below
            raise
        effect.short = self.stream.short
        # Behind any other write a final reply may be about something else.
        self._committed = begun if result != WITHHELD else None
        data, shown = effect.data, effect.shown
        self._is_secret = effect.secret
        kept: tuple[Kept]
        if effect.secret:
            kept = (SECRET,)
        elif shown is None:
            kept = ((bytes(data[:LONGEST]), 0),)
        else:
            kept = ((shown[:LONGEST], len(data) - len(shown)),)
        self._kept += kept
        if self._talk is not None:
            self._log(kept, self._talk)
        return result

    def _hear(self, effect: Hear) -> None:
        listener, owed = effect.listener, effect.count
        if effect.is_next:
            self._deadline = effect.deadline or self.fresh_deadline()
        if effect.limit is not None:
            self.brisk = effect.limit
        while owed:
            # What each of them answers is known once the one before is noted.
            count = owed if self.on_reply is None else 1
            replies = self._replies(listener.stage, effect.last and count == owed, count)
            owed -= len(replies)
            listener.note(replies)

    def _receive(self, effect: Receive) -> Reply:
        stage = effect.stage
        if effect.limit is not None:
            self.brisk = effect.limit
        if effect.hidden is not None:
            return self._hidden_reply(effect, effect.hidden)
        since = self._committed if stage is _FINAL else None
        if since is None:
            return self._replies(stage, effect.last)[0]
        try:
            (reply,) = self._replies(stage, effect.last)
        except Timeout:
            if effect.limit is None:
                self._answer_time.note_missing(since, now())
            raise
        self._answer_time.note(since, now())
        return reply

    def _hidden_reply(self, effect: Receive, hidden: Hidden) -> Reply:
        """A reply that may quote a secret."""
        try:
            return self._replies(effect.stage, effect.last, hidden=hidden)[0]
        except SmtpError as error:
            if error.reply is not None:
                error.reply = hidden.redacted(error.reply)
            if isinstance(error, ProtocolError):
                error.surplus = None  # which may quote the secret as well
            bare(error)
            raise

    def _replies(
        self, stage: Stage, last: bool, count: int = 1, hidden: Hidden | None = None
    ) -> tuple[Reply, ...]:
        """The next replies, one at least and ``count`` at most, within the limit of the stage."""
        stream, limit = self.stream, REPLY_LIMITS[stage]
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        if self.brisk is not None:
            limit, self.brisk = self.brisk if self.brisk < limit else limit, None
        replies = stream.receive(self._deadline, limit, last, count)
        if hidden is not None:
            replies = tuple(map(hidden.redacted, replies))
        kept: Sequence[Kept] = [reply.code for reply in replies] if self._is_secret else replies
        self._kept += kept
        if self.on_reply is not None:
            self.on_reply(replies[0], stage)
        if self._talk is not None:
            self._log(kept, self._talk)
        for reply in replies:
            if reply.code == 421:
                self._farewell = True
        if stream.farewell is None:
            return replies
        self._farewell = True
        # A refusal and a final reply stand; an acceptance was overtaken by the 421 behind it.
        if replies[0].code >= 400 or stage is Stage.FINAL:
            return replies
        return (stream.farewell if hidden is None else hidden.redacted(stream.farewell),)

    def _until(self, effect: Until) -> None:
        self._deadline = effect.deadline or self.fresh_deadline()

    def fresh_deadline(self) -> Deadline:
        """The deadline of a message of a stream whose time begins now."""
        return Deadline(math.inf if self.seconds is None else now() + self.seconds)

    def _log(self, kept: Sequence[Kept], talk: Callable[..., None]) -> None:
        log(kept, talk, "" if self.server is None else observing.Peer.of(self.server).name)

    def _transcribe(self, effect: Transcribe) -> None:
        """Once: an error that is told again keeps what was said when it was made."""
        error = effect.error
        if not error.transcript:
            error.transcript = lines(self._kept)
        if error.reply is not None and not error.cure:
            state = {"is_tls": self.stream.is_tls, "is_logged_in": bool(self.mechanism)}
            error.cure = cures.of_reply(error.reply, **state)

    def _record(self, effect: Record) -> SmtpError | None:
        try:
            effect.action()
        except SmtpError as error:
            return error
        except Exception as cause:
            wrong = InputError("it could not be recorded first, so it was not sent", stage=Stage.CONTENT)
            wrong.__cause__ = cause
            return wrong
        return None

    def _close(self, effect: Close) -> None:
        if effect.farewell:
            self.stream.say_farewell()
        self.end("")

    def _start_tls(self, _: StartTls) -> ChannelBinding | None:
        if self.stream.closed:
            raise ConnectionLost("the connection is closed")
        with observing.scope("tls") as step:
            self.stream = self.stream.start_tls(self._tls(), self._deadline)
            observing.note(step, "tls_version", self.stream.tls_version)
        # Whatever the server says before our first word is not its own (CVE-2009-3555).
        self.stream.check_idle()
        return self.stream.binding()

    # -- the end ----------------------------------------------------------------------

    def _ended(self, error: BaseException, effect: Effect) -> BaseException:
        """Close after a failure; the same failure, with what is known of it here."""
        if self.closing and isinstance(error, ConnectionLost):
            error = ConnectionLost("close() was called")
        if isinstance(error, SmtpError) and error.stage is None:
            error.stage = _stage(effect)
        self.end(_told(error))
        return error

    def end(self, why: str) -> None:
        """Close, and say why to whoever comes later."""
        if not self.stream.closed:
            self.why = why
            self.stream.close()


_KEEPS: Final = (RejectedError, AuthenticationError, SessionLimitReached, TlsError)
"""What leaves the connection in step. A TlsError of the handshake has closed it; any other one is a 530."""
_PERFORM: Final[dict[type, Callable[[Driver, Any], Any]]] = {
    Send: Driver._send,
    Receive: Driver._receive,
    Hear: Driver._hear,
    Until: Driver._until,
    Transcribe: Driver._transcribe,
    Record: Driver._record,
    StartTls: Driver._start_tls,
    Close: Driver._close,
}


def _stage(effect: Effect) -> Stage:
    """At what a failure in an effect happened."""
    if isinstance(effect, Hear):
        return effect.listener.stage
    return effect.stage if isinstance(effect, Receive) else Stage.COMMAND


def _told(error: BaseException) -> str:
    """Why the connection was closed."""
    return (error.text if isinstance(error, SmtpError) else str(error)) or type(error).__name__


def _tell(flow: Flow[Any], error: BaseException) -> None:
    """Let a flow that an interrupt between two effects left behind say what that means."""
    try:
        flow.throw(error)
    except Exception:  # what it makes of the interrupt, or its end: the caller gets the interrupt itself
        pass
    except BaseException as raised:
        if raised is not error:  # a second interrupt
            raise
    finally:
        flow.close()

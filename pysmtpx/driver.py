"""The driver of flows: the only place where conversations meet a socket.

Whatever leaves an exchange half-read closes the connection: a timeout, a loss,
a breach, an interrupt. Only a clean refusal keeps it.
"""

from __future__ import annotations

import inspect
import logging
import math
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from .errors import AuthenticationError, ConnectionLost, ProtocolError, RejectedError, SmtpError, Timeout
from .flow.effects import (
    END,
    TOO_LATE,
    WITHHELD,
    Close,
    Effect,
    Flow,
    Hear,
    Pause,
    Receive,
    Report,
    Send,
    Settled,
    StartTls,
    Take,
)
from .flow.hidden import Hidden
from .flow.stream import Entry
from .frames import bare
from .net.answers import AnswerTime
from .net.deadline import Deadline, now
from .net.stream import Stream
from .transcript import Transcript
from .wire.limits import REPLY_LIMITS, Stage
from .wire.reply import Reply

_T = TypeVar("_T")
_log: Final = logging.getLogger("pysmtpx.wire")
_NEVER: Final = Deadline.after(None)
_FINAL: Final = Stage.FINAL


class Source:
    """Where a stream's messages come from, and which of them are under way."""

    __slots__ = ("_early", "_last", "_seconds", "_take", "_unsettled")

    def __init__(self, take: Callable[[bool], Entry | Pause], seconds: float | None) -> None:
        self._take = take
        self._seconds = math.inf if seconds is None else seconds
        self._unsettled: deque[Deadline | None] = deque()
        self._early = 0
        """Messages that are settled and not yet reported."""
        self._last: Deadline | None = None
        """That of the message that was settled last."""

    def take(self, wait: bool) -> tuple[Entry | Pause, Deadline | None]:
        """The next message, and the deadline from now on where it is the oldest."""
        entry = self._take(wait)
        if not isinstance(entry, Entry):
            return entry, None
        self._unsettled.append(entry.deadline)
        return entry, self.deadline() if len(self._unsettled) == 1 else None

    def settled(self) -> None:
        """The oldest is, and will be reported later."""
        self._last = self._unsettled.popleft()
        self._early += 1

    def reported(self) -> None:
        """The oldest was."""
        if self._early:
            self._early -= 1
        else:
            self._last = self._unsettled.popleft()

    def deadline(self) -> Deadline:
        """The deadline of the oldest; without one of its own its time begins now.

        Where all are settled it is that of the last one: to clean up behind it has no more time.
        """
        own = self._unsettled[0] if self._unsettled else self._last
        return own or _NEVER.within(self._seconds)


class Driver:
    """Runs flows over one stream, one after the other. Its owner holds a lock."""

    def __init__(
        self,
        stream: Stream,
        tls: Callable[[], tuple[ssl.SSLContext, str]],
        answer_time: AnswerTime | None = None,
    ) -> None:
        self.stream = stream
        self.why = ""
        """Why the connection is closed."""
        self.closing = False
        """Another thread asked for the end."""
        self.brisk: float | None = None
        """Seconds for the next reply, where the connection had been idle and may be half-open."""
        self.source: Source | None = None
        self._deadline = Deadline.after(None)
        self._answer_time = answer_time or AnswerTime()
        self._committed: float | None = None
        """When the last end of data was written, until its last answer is read."""
        self._tls = tls
        self._farewell = False
        self._transcript = Transcript()
        self._talk: Callable[..., None] | None = None

    def drive(self, flow: Flow[_T], deadline: Deadline | None) -> _T | Report:
        """Run a flow to its end or to its next ``Report``, after which it may be driven on."""
        if deadline is not None:
            self._deadline = deadline
            self._farewell = False
        self._talk = _log.debug if _log.isEnabledFor(logging.DEBUG) else None
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Report):
                    return effect
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

    def renew(self) -> None:
        """After a pause of a stream: the time of the message that is now the oldest begins."""
        if self.source is not None:
            self._deadline = self.source.deadline()

    def _left(self, flow: Flow[Any], error: BaseException) -> None:
        """An error leaves a flow: keep or close, and say on it what was said last."""
        # First of all: what follows may be interrupted in its turn.
        if self._farewell or not isinstance(error, RejectedError | AuthenticationError):
            self.end(str(error))
        self.why = self.why or str(error) or type(error).__name__
        if inspect.getgeneratorstate(flow) == inspect.GEN_SUSPENDED:
            _tell(flow, error)
        if isinstance(error, SmtpError):
            self.transcribe(error)

    def transcribe(self, error: SmtpError) -> None:
        """Put the last exchanges on an error, once."""
        if not error.transcript:
            error.transcript = self._transcript.lines()

    # -- effects ----------------------------------------------------------------------

    def _send(self, effect: Send) -> int:
        commits = effect.commits
        if commits and self._answer_time.is_too_long_for(self._deadline):
            return TOO_LATE
        try:
            result = self.stream.send(effect.data, self._deadline, watch=effect.watch, guard=effect.guard)
        except BaseException as error:
            if effect.secret:
                bare(error)  # the line is a local of the frames below
            raise
        effect.short = self.stream.short
        # Behind any other write a final reply may be about something else.
        self._committed = now() if commits and result != WITHHELD else None
        self._transcript.said(effect)
        if self._talk is not None:
            self._transcript.tell(self._talk)
        return result

    def _hear(self, effect: Hear) -> None:
        listener, last = effect.listener, effect.last
        if effect.limit is not None:
            self.brisk = effect.limit
        for left in range(effect.count - 1, -1, -1):
            listener.note(self._reply(listener.stage, last and not left))

    def _receive(self, effect: Receive) -> Reply:
        if effect.limit is not None:
            self.brisk = effect.limit
        hidden = effect.hidden
        if hidden is None:
            if self._committed is not None and effect.stage is _FINAL:
                return self._final(effect, self._committed)
            return self._reply(effect.stage, effect.last)
        try:
            return self._reply(effect.stage, effect.last, hidden)
        except SmtpError as error:
            if error.reply is not None:
                error.reply = hidden.redacted(error.reply)
            if isinstance(error, ProtocolError):
                error.surplus = None  # which may quote the secret as well
            bare(error)
            raise

    def _final(self, effect: Receive, since: float) -> Reply:
        """A reply to the content, and how long the server took for it."""
        try:
            reply = self._reply(_FINAL, effect.last)
        except Timeout:
            if effect.limit is None:
                self._answer_time.note_missing(since)
            raise
        self._answer_time.note(since)
        return reply

    def _reply(self, stage: Stage, last: bool, hidden: Hidden | None = None) -> Reply:
        stream = self.stream
        limit = REPLY_LIMITS[stage]
        if self.brisk is not None:
            limit, self.brisk = min(limit, self.brisk), None
        reply = stream.receive(self._deadline, limit, last)
        if hidden is not None:
            reply = hidden.redacted(reply)
        self._transcript.heard(reply)
        if self._talk is not None:
            self._transcript.tell(self._talk)
        if reply.code == 421 or stream.farewell is not None:
            self._farewell = True
            # A refusal and a final reply stand; an acceptance was overtaken by the 421 behind it.
            stands = reply.code >= 400 or stage is Stage.FINAL
            if stands or stream.farewell is None:
                return reply
            return stream.farewell if hidden is None else hidden.redacted(stream.farewell)
        return reply

    def _take(self, effect: Take) -> Entry | Pause:
        """The next message; none for a connection that is over."""
        source = self.source
        if source is None or self.stream.closed or self._farewell or self.closing:
            return END
        entry, deadline = source.take(effect.wait)
        if deadline is not None:
            self._deadline = deadline
        return entry

    def _settled(self, effect: Settled) -> None:
        """The transcript of its error is that of now."""
        if self.source is not None:
            self.source.settled()
            self.renew()
        if isinstance(effect.outcome, SmtpError):
            self.transcribe(effect.outcome)

    def _close(self, _: Close) -> None:
        self.end("")

    def _start_tls(self, _: StartTls) -> bytes | None:
        if self.stream.closed:
            raise ConnectionLost("the connection is closed")
        context, hostname = self._tls()
        self.stream = self.stream.start_tls(context, hostname, self._deadline)
        # Whatever the server says before our first word is not its own (CVE-2009-3555).
        self.stream.check_idle()
        return self.stream.binding()

    # -- the end ----------------------------------------------------------------------

    def _ended(self, error: BaseException, effect: Effect) -> BaseException:
        """Close after a failure; the same failure, with what is known of it here."""
        if type(effect) is Take:
            return error  # the caller's own; what is under way is finished first
        if self.closing and isinstance(error, ConnectionLost):
            error = ConnectionLost("close() was called")
        if isinstance(error, SmtpError) and error.stage is None:
            error.stage = _stage(effect)
        self.end(str(error) or type(error).__name__)
        return error

    def end(self, why: str) -> None:
        """Close, and say why to whoever comes later."""
        if not self.stream.closed:
            self.why = why
            self.stream.close()


_PERFORM: Final[dict[type, Callable[[Driver, Any], Any]]] = {
    Send: Driver._send,
    Receive: Driver._receive,
    Hear: Driver._hear,
    Take: Driver._take,
    Settled: Driver._settled,
    StartTls: Driver._start_tls,
    Close: Driver._close,
}


def _stage(effect: Effect) -> Stage:
    """At what a failure in an effect happened."""
    if isinstance(effect, Hear):
        return effect.listener.stage
    return effect.stage if isinstance(effect, Receive) else Stage.COMMAND


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

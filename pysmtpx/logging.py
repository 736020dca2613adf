"""``MailHandler``: what goes wrong is reported by mail, and one fault is one mail.

::

    handler = MailHandler("smtps://robot:password@mail.example.org", "robot@example.org", "ops@example.org")
    logging.getLogger().addHandler(handler)
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, Unpack

from .composing import AnyMailbox, Mailboxes, compose
from .connecting import as_server, connect
from .errors import DeliveryUnknown, InputError, SmtpError
from .frames import conceals
from .net.deadline import now
from .options import ServerOptions, spelled_out, unknown
from .pool import SmtpPool
from .records import fields
from .server import Server
from .shortening import shortened
from .values import from_zero

__all__ = ["MailHandler"]

_log: Final = logging.getLogger("pysmtpx")

_MOST_KINDS: Final = 100
"""In one mail; of what else there is, only the number is told."""
_MOST_KNOWN: Final = 1000
_MOST_TEXT: Final = 20_000
"""Characters of one record with its traceback."""
_MOST_SUBJECT: Final = 150
_LONGEST_REST: Final = 3600.0
_VARIES: Final = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ARGUMENTS: Final = ("subject", "level", "delay", "interval", "repeat", "timeout", "flush_timeout")
_AUTOMATIC: Final = {"Auto-Submitted": "auto-generated"}  # RFC 3834 5: nobody's out-of-office answers it

Key: TypeAlias = tuple[Hashable, ...]


@dataclass(slots=True)
class _Kind:
    """Records that were logged at one place for one reason."""

    title: str
    text: str
    """Of the first of them."""
    since: float
    until: float
    count: int = 1
    latest: str = ""

    def told(self, *, is_known: bool) -> str:
        times = f"{self.count} times, from {_clock(self.since)} to {_clock(self.until)}"
        head = f"{self.title}\n{times if self.count > 1 else f'at {_clock(self.since)}'}"
        if is_known:
            head += "; reported before"
        last = f"\n\nThe last one: {self.latest}" if self.latest else ""
        return f"{head}\n\n{self.text}{last}"


class MailHandler(logging.Handler):
    """Mails what is logged: one message for many records, never more than one in ``interval`` seconds.

    ``server`` is what ``connect`` takes, or an ``SmtpPool``; ``options`` are those
    of ``Server``. Records of one place (file and line) and one reason (exception
    and where it was raised, or the text without its numbers) are one kind: the
    first is shown with its traceback, the others are counted. A kind that was
    reported is reported again after ``repeat`` seconds at the earliest. The first
    mail goes ``delay`` seconds after the first record, so that what comes together
    stands together.

    A thread of its own sends, within ``timeout`` seconds; ``emit`` only notes.
    What that thread logs in turn is not mailed, and with a pool nothing that
    pysmtpx logs. While the server is away, notes
    are kept, in bounded memory, and it is tried again after ``interval`` seconds,
    then after twice as long, up to an hour. ``flush``, and with it the end of the
    process, waits at most ``flush_timeout`` seconds. A child of ``os.fork`` begins
    without notes: its parent has them.

    Raises ``InputError`` for what cannot be right.
    """

    @conceals
    @spelled_out(ServerOptions)
    def __init__(
        self,
        server: str | os.PathLike[str] | Server | SmtpPool,
        from_: AnyMailbox,
        to: Mailboxes,
        *,
        subject: str = "",
        level: int | str = logging.ERROR,
        delay: float = 1.0,
        interval: float = 60.0,
        repeat: float = 3600.0,
        timeout: float = 30.0,
        flush_timeout: float = 5.0,
        **options: Unpack[ServerOptions],
    ) -> None:
        try:
            super().__init__(level)
        except (TypeError, ValueError) as error:
            raise InputError(f"level: {shortened(str(error))}") from None
        if not isinstance(subject, str):
            raise InputError(f"subject is text, not {type(subject).__name__}")
        if not options.keys() <= ServerOptions.__annotations__.keys():
            raise unknown(options, {*ServerOptions.__annotations__, *_ARGUMENTS})
        self._server: Server | SmtpPool
        if not isinstance(server, SmtpPool):
            self._server = as_server(server, None, options)
        elif options:
            raise InputError("the options of a pool's servers are given to the pool")
        else:
            self._server = server
        del server, options  # a URL with a password: error reporters show the locals of each frame
        if not isinstance(to, str | Iterable):
            raise InputError(f"to is a mailbox, or a list of them, and not {type(to).__name__}")
        self._from, self._to = from_, to if isinstance(to, str | tuple) else [*to]
        self._check()
        self.subject: str = subject
        self._limit(
            delay=delay, interval=interval, repeat=repeat, timeout=timeout, flush_timeout=flush_timeout
        )

    def _check(self) -> None:
        if not compose(from_=self._from, to=self._to)["To"]:
            raise InputError("to names nobody")

    def _limit(self, **seconds: float) -> None:
        """Begin to take notes, with these limits."""
        for name, value in seconds.items():
            from_zero(name, value)
        self._delay, self._interval, self._repeat = (seconds[n] for n in ("delay", "interval", "repeat"))
        self.timeout: float = seconds["timeout"] or 1.0
        self._flush_timeout = seconds["flush_timeout"]
        self._known: OrderedDict[Key, float] = OrderedDict()
        """Kinds that were reported, and when."""
        self._next = 0.0
        """The moment before which no mail goes."""
        self._failures = 0
        self._is_closed = False
        self._is_by_pool = not isinstance(getattr(self, "_server", None), Server)
        """A pool sends in threads that do not know for whom."""
        self._begin_empty()
        _handlers.add(self)

    def _begin_empty(self) -> None:
        """No notes, no thread, and a lock that nobody holds."""
        self._changed = threading.Condition()  # reentrant: a handler of signals may log
        self._kinds: dict[Key, _Kind] = {}
        self._others = self._lost = 0
        self._since = 0.0
        self._thread: threading.Thread | None = None
        self._is_urgent = False
        self._is_sending = False

    # -- what a subclass may say otherwise ------------------------------------------------

    def describe(self, record: logging.LogRecord) -> str:
        """The text of a record; called for the first of its kind, in the thread that logs."""
        return self.format(record)

    def deliver(self, subject: str, text: str) -> None:
        """Send it within ``timeout`` seconds, in the thread of this handler, or raise."""
        message = compose(from_=self._from, to=self._to, subject=subject, text=text, headers=_AUTOMATIC)
        if isinstance(self._server, SmtpPool):
            self._server.send_message(message, timeout=self.timeout)
            return
        within = min(self._server.connect_timeout, self.timeout)
        begun = now()
        with connect(self._server, connect_timeout=within) as smtp:
            smtp.send_message(message, timeout=max(0.1, self.timeout - (now() - begun)))

    # -- taking notes -----------------------------------------------------------------------

    def handle(self, record: logging.LogRecord) -> Any:
        """Note a record, unless this thread sends for a handler.

        Without the lock that ``logging`` holds while it flushes: whoever logs meanwhile must not wait.
        """
        if _sending.active or self._is_closed or (self._is_by_pool and _is_ours(record)):
            return False
        passed: Any = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # a filter may put another in its place
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record."""
        try:
            self._note(record)
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def _note(self, record: logging.LogRecord) -> None:
        key = _kind_of(record)
        with self._changed:
            kind = self._kinds.get(key)
            is_full = kind is None and len(self._kinds) >= _MOST_KINDS
            if kind is not None:
                kind.count += 1
                kind.until = record.created
            elif is_full:
                self._others += 1
        if kind is not None:
            if kind.count < 10 or kind.count % 100 == 0:  # to write out each of thousands costs
                kind.latest = _clean(shortened(record.getMessage()))
            return
        if is_full:
            return
        made = _Kind(_title(record), _clean(_cut(self.describe(record))), record.created, record.created)
        with self._changed:
            if key in self._kinds:  # another thread was faster
                self._kinds[key].count += 1
            else:
                self._kinds[key] = made
                self._since = self._since or now()
            self._wake()

    def _wake(self) -> None:
        if self._thread is not None:
            self._changed.notify_all()
            return
        thread = threading.Thread(target=self._run, daemon=True, name="pysmtpx-log-mail")
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # the interpreter is at its end, or has too many: ``flush`` sends
            self._thread = None

    # -- sending ------------------------------------------------------------------------------

    def _run(self) -> None:
        """Send when it is time, until there are no notes."""
        _sending.active = True
        while True:
            with self._changed:
                while self._kinds and not self._is_urgent and (seconds := self._due() - now()) > 0:
                    self._changed.wait(seconds)
                if not self._kinds:
                    self._thread = None
                    self._is_urgent = False
                    self._changed.notify_all()
                    return
                self._is_sending, self._is_urgent = True, False
            self._send()

    def _due(self) -> float:
        """When the next mail goes."""
        news = [key for key in self._kinds if key not in self._known]
        first = self._since + self._delay
        if not news:
            first = max(first, min(self._known[key] for key in self._kinds) + self._repeat)
        return max(first, self._next)

    def _send(self) -> None:
        with self._changed:
            kinds, others, lost = self._kinds, self._others, self._lost
            self._kinds, self._others, self._lost, self._since = {}, 0, 0, 0.0
            known = {key for key in kinds if key in self._known}
        error: BaseException | None = None
        try:
            self.deliver(self._subject(kinds), _text(kinds, known, others, lost))
        except (Exception, SystemExit) as caught:  # the thread goes on, whatever an own ``deliver`` raises
            error = caught
            extra = fields(event="failed", error=type(error).__name__)
            _log.warning("what was logged could not be mailed: %s", error, extra=extra)
        with self._changed:
            self._is_sending = False
            self._settle(kinds, others, lost, error)
            self._changed.notify_all()

    def _settle(self, kinds: dict[Key, _Kind], others: int, lost: int, error: BaseException | None) -> None:
        """Forget what was mailed; keep what was not, where another try may do better."""
        if error is None or isinstance(error, DeliveryUnknown):
            self._failures = 0
            self._next = now() + self._interval
            for key in kinds:
                self._known[key] = now()
                self._known.move_to_end(key)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
            return
        self._failures += 1
        self._next = now() + min(_LONGEST_REST, (self._interval or 1.0) * 2 ** min(self._failures - 1, 12))
        if self._is_closed:
            return
        if isinstance(error, SmtpError) and (error.temporary or error.safe_to_retry):
            self._others, self._lost = self._others + others, self._lost + lost
            self._kinds = _merged(kinds, self._kinds)
            while len(self._kinds) > _MOST_KINDS:
                self._others += self._kinds.popitem()[1].count
            self._since = self._since or now()
        else:
            self._lost += lost + others + sum(kind.count for kind in kinds.values())

    def _subject(self, kinds: dict[Key, _Kind]) -> str:
        first, *rest = kinds.values()
        line = first.text.strip().partition("\n")[0]
        more = f" (and {len(rest)} more)" if rest else ""
        subject = self.subject or first.title
        return shortened(f"{subject}: {line}" if line else subject, _MOST_SUBJECT - len(more)) + more

    def flush(self) -> None:
        """Send now what was noted; wait for it ``flush_timeout`` seconds at most."""
        until = now() + self._flush_timeout
        with self._changed:
            if self._kinds and self._thread is None:
                self._wake()
            by_thread = self._thread is not None
            self._is_urgent = bool(self._kinds)
            self._changed.notify_all()
            while by_thread and (self._is_urgent or self._is_sending) and (seconds := until - now()) > 0:
                self._changed.wait(seconds)
        if not by_thread and self._kinds and self._flush_timeout:
            self._send_here()

    def _send_here(self) -> None:
        """No thread can be had any more."""
        before, self.timeout = self.timeout, min(self.timeout, self._flush_timeout)
        _sending.active = True
        try:
            self._send()
        finally:
            _sending.active, self.timeout = False, before

    def close(self) -> None:
        """Send what was noted, as ``flush`` does; what could not be sent by then is forgotten."""
        self.flush()
        with self._changed:
            self._is_closed = True
            self._kinds.clear()
            self._changed.notify_all()
        _handlers.discard(self)
        super().close()


class _Sending(threading.local):
    active = False


_sending: Final = _Sending()
"""Whether this thread sends for a handler: what it logs is not mailed, nor by another handler."""
_handlers: Final[weakref.WeakSet[MailHandler]] = weakref.WeakSet()


def _after_fork() -> None:
    for handler in tuple(_handlers):
        handler._begin_empty()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Records.


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == "pysmtpx" or record.name.startswith("pysmtpx.")


def _kind_of(record: logging.LogRecord) -> Key:
    """Where it was logged, and why."""
    where = (record.name, record.levelno, record.pathname, record.lineno)
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is None:
        return (*where, _VARIES.sub("#", shortened(str(record.msg))))
    raised = error.__traceback__
    while raised is not None and raised.tb_next is not None:
        raised = raised.tb_next
    place = ("", 0) if raised is None else (raised.tb_frame.f_code.co_filename, raised.tb_lineno)
    return (*where, type(error).__qualname__, *place)


def _title(record: logging.LogRecord) -> str:
    error = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
    why = f", {error.__name__}" if error is not None else ""
    return _clean(
        f"{record.levelname} in {shortened(record.name)}, {record.filename} line {record.lineno}{why}"
    )


def _cut(text: str) -> str:
    """The beginning and the end: of a traceback both matter."""
    if len(text) <= _MOST_TEXT:
        return text
    half = _MOST_TEXT // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters …]\n{text[-half:]}"


def _clean(text: str) -> str:
    """What others wrote, for a header field or a text: no control, no half of a character."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _merged(first: dict[Key, _Kind], then: dict[Key, _Kind]) -> dict[Key, _Kind]:
    for key, kind in then.items():
        if key in first:
            first[key].count += kind.count
            first[key].until, first[key].latest = kind.until, kind.latest or first[key].latest
        else:
            first[key] = kind
    return first


def _text(kinds: dict[Key, _Kind], known: set[Key], others: int, lost: int) -> str:
    records = sum(kind.count for kind in kinds.values())
    some = f"{len(kinds)} kinds" if len(kinds) > 1 else "1 kind"
    head = f"{records} records of {some}" if records > 1 else "1 record"
    lines = [f"{head}, on {_clean(socket.gethostname())}, process {os.getpid()}."]
    if others:
        lines.append(f"{others} records of other kinds are not shown.")
    if lost:
        lines.append(f"{lost} records before could not be mailed, and are not shown.")
    rule = "\n\n" + "-" * 72 + "\n\n"
    return (
        rule.join([" ".join(lines), *(kind.told(is_known=key in known) for key, kind in kinds.items())])
        + "\n"
    )


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(moment))

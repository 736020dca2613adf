"""One socket of the drop-in face, for conversations by flows: the project's stream and driver over it.

Between two of them the socket is the caller's again, with the timeout that it had.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeAlias, TypeVar, cast

from ..driver import Driver
from ..errors import SmtpError, unasked
from ..flow.effects import Effect, Flow, Hear, Listener, Receive, Send
from ..net.deadline import Deadline
from ..net.stream import Stream
from ..wire import command
from ..wire.limits import Stage
from ..wire.parser import ReplyParser
from ..wire.reply import Reply
from .lines import wait_at_most

_T = TypeVar("_T")
Heard: TypeAlias = Callable[[Reply, Stage], None]
"""Is told of a reply, and of what it answers."""
_DATA: Final = command.DATA.lower()
_RSET: Final = command.RSET.lower()


class FlowRunner:
    """Runs flows over a socket that its owner also uses by itself."""

    def __init__(self, sock: socket.socket) -> None:
        before = sock.gettimeout()
        self.sock = sock
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # one that somebody else dialled
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._driver = Driver(Stream(sock), _no_tls)
        wait_at_most(sock, before)

    @property
    def closed(self) -> bool:
        """True once the socket is closed."""
        return self._driver.stream.closed

    def binding(self) -> bytes | None:
        """The ``tls-server-end-point`` octets, None without TLS (RFC 5929 4.1)."""
        return self._driver.stream.binding()

    def run(self, flow: Flow[_T], deadline: Deadline, unread: bytes = b"") -> _T:
        """Drive a flow to its end.

        ``unread`` is what the single commands received and nobody asked for.
        """
        sock, driver = self.sock, self._driver
        before = sock.gettimeout()
        try:
            sock.setblocking(False)
            try:
                if unread:
                    check_unread(unread)
                driver.stream.check_idle()
            except SmtpError as error:
                error.stage = Stage.INPUT  # nothing was written
                driver.end(error.text)
                raise
            return driver.drive(flow, deadline)
        finally:
            if not driver.stream.closed:
                try:  # noqa: SIM105 - it is done for every conversation
                    wait_at_most(sock, before)
                except OSError:  # another thread closed it
                    pass


def check_unread(octets: bytes) -> None:
    """Raise for octets that no command asked for: they must not pass for the answer to the next one."""
    parser = ReplyParser()
    parser.feed(octets)
    raise unasked(parser.next())


class _Observer:
    """Stands between the driver and who is told several replies."""

    def __init__(self, listener: Listener, heard: Heard) -> None:
        self._listener = listener
        self._heard = heard

    @property
    def stage(self) -> Stage:
        """What the next one answers."""
        return self._listener.stage

    def note(self, replies: Sequence[Reply]) -> None:
        """Pass them on."""
        for reply in replies:
            self._heard(reply, self._listener.stage)
            self._listener.note((reply,))


def observed(flow: Flow[_T], said: Callable[[Send], None], heard: Heard | None = None) -> Flow[_T]:
    """The same flow, with someone told of each write before it, and of each reply after it."""
    try:
        effect: Effect = next(flow)
        while True:
            if type(effect) is Send:
                _lowered(effect)
                said(effect)
            elif heard is not None and type(effect) is Hear:
                effect = Hear(_Observer(effect.listener, heard), effect.count, effect.last)
            try:
                result = yield effect
            except BaseException as error:
                effect = flow.throw(error)
                continue
            if heard is not None and type(effect) is Receive:
                heard(result, effect.stage)
            effect = flow.send(result)
    except StopIteration as stop:
        return cast(_T, stop.value)


def _lowered(effect: Send) -> None:
    """Verbs in lower case, as this face always wrote them; content has ``shown`` and is left alone."""
    data = effect.data
    if effect.shown is not None or not isinstance(data, bytes):
        return
    if data.endswith(command.DATA):
        effect.data = data[: -len(_DATA)] + _DATA
    elif data == command.RSET:
        effect.data = _RSET


def _no_tls() -> NoReturn:
    raise ssl.SSLError("a conversation of this face starts no TLS")

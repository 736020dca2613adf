"""One socket of the drop-in face, for conversations by flows: the project's stream and driver over it.

Between two of them the socket is the caller's again, with the timeout that it had.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final, NoReturn, TypeVar

from ..driver import Driver
from ..errors import SmtpError, unasked
from ..flow.effects import Flow, Send
from ..net.deadline import Deadline
from ..net.stream import Stream
from ..wire import command
from ..wire.limits import Stage
from ..wire.parser import ReplyParser
from .lines import wait_at_most

_T = TypeVar("_T")
_DATA: Final = command.DATA.lower()
_RSET: Final = command.RSET.lower()


class SocketDriver(Driver):
    """Drives flows over a socket that its owner also uses by itself."""

    def __init__(self, sock: socket.socket) -> None:
        try:  # noqa: SIM105 - it is done for every connection
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # it is no TCP
            pass
        super().__init__(Stream(sock), _no_tls)
        self.sock = sock

    def run(
        self, flow: Flow[_T], deadline: Deadline, timeout: float | None, unread: bytes | bytearray = b""
    ) -> _T:
        """Drive a flow to its end.

        ``timeout`` is what the socket has afterwards, ``unread`` what the single commands
        received and nobody asked for.
        """
        sock, stream = self.sock, self.stream
        try:
            sock.setblocking(False)
            try:
                if unread:
                    check_unread(unread)
                stream.check_idle()
            except SmtpError as error:
                error.stage = Stage.INPUT  # nothing was written
                self.end(str(error))
                raise
            return self.drive(flow, deadline)
        finally:
            if not stream.closed:
                try:  # noqa: SIM105 - it is done for every conversation
                    wait_at_most(sock, timeout)
                except OSError:  # another thread closed it
                    pass


def check_unread(octets: bytes | bytearray) -> None:
    """Raise for octets that no command asked for: they must not pass for the answer to the next one."""
    parser = ReplyParser()
    parser.feed(octets)
    raise unasked(parser.next())


def lower(effect: Send) -> None:
    """Write the verbs of command lines in lower case, as this face always did."""
    data = bytes(effect.data)
    if data.endswith(command.DATA):
        effect.data = data[: -len(_DATA)] + _DATA
    elif data == command.RSET:
        effect.data = _RSET


def _no_tls() -> NoReturn:
    raise ssl.SSLError("a conversation of this face starts no TLS")

"""The single commands of ``smtplib``: the standard library's own, within a deadline and without secrets.

How they read and write is theirs, so whoever overrides one of them finds what
was there before.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from smtplib import SMTPException, SMTPHeloError, SMTPNotSupportedError, SMTPServerDisconnected
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ..flow.hidden import Hidden
from ..net.deadline import Deadline
from ..net.dial import Addresses
from ..options import name_nearest
from ..outgoing import Allowed, BeforeSend, Outgoing
from ..shortening import shortened
from ..wire.content import Content
from ..wire.limits import REPLY_LIMITS
from . import arguments, outgoing, redaction, standard
from .flows import SocketDriver
from .lines import Lines, features_of, wait_until
from .results import Steps, is_acceptance, pair, reply_of
from .sockets import deadline_for, is_real, left_out

_F = TypeVar("_F", bound=Callable[..., Any])

_CHALLENGE: Final = 334
_GO_AHEAD: Final = 354
_CLOSING: Final = 421
_LONGEST: Final = max(REPLY_LIMITS.values())
"""Seconds for one reply where no timeout was given: a single command does not say what it waits for."""


def one_call(command: _F, begin: Callable[[Any], Deadline] | None = None) -> _F:
    """The command with one deadline for itself and for the calls that it is made of.

    ``begin`` makes that, where it is not by the timeout of the socket. An interrupt
    closes, and so does whatever else leaves a command without its reply: what was
    read or written by halves must not meet the next command.
    """
    shown = signature(command)
    parameters = shown.parameters.keys()

    @wraps(command)
    def whole(self: Commands, *args: Any, **options: Any) -> Any:
        if self._deadline is not None:
            return command(self, *args, **options)
        owed = self._owed
        try:
            # An interrupt can come at any line, also of the inner ``finally``.
            try:
                self._asked = self._real = None
                self._deadline = self._new_deadline() if begin is None else begin(self)
                return command(self, *args, **options)
            finally:
                self._deadline = None
                self._restore_timeout()
        except BaseException as error:
            if isinstance(error, TypeError):
                name_nearest(error, options, parameters)
            # A caller who writes ahead owed replies before; an argument that is refused then changes nothing.
            is_refused = owed and isinstance(error, TypeError | ValueError | SMTPException)
            if not isinstance(error, Exception) or (self._owed and not is_refused):
                self.close()
            raise

    whole.__signature__ = shown  # type: ignore[attr-defined]  # for those who do not unwrap
    return cast(_F, whole)


class Commands(standard.SMTP):
    """The standard class, with the commands that needed a hand."""

    _deadline: Deadline | None = None
    """Of the call under way."""
    _asked: object = None
    """The socket that is in use, as far as that was looked at in this call."""
    _real: socket.socket | None = None
    """The same where it is a real one."""
    _timeout: float | None = None
    """What the real one had when it was looked at."""
    _driver: SocketDriver | None = None
    _in_auth = False
    _hidden: Hidden | None = None
    """What was sent to log in: a server may repeat it when it refuses."""
    _owed = False
    """A reply is owed to us or, after 334 or 354, something to the server."""
    _content_begun = False
    """The last DATA was answered by 354."""
    _in_data = False
    """``data`` runs: what it sends is DATA and content whose dots are doubled."""
    _screen: outgoing.Screen | None = None
    """For what is written by ``send``, where some recipients are not sent to."""
    _steps_taken: Steps | None = None
    """Of the transaction under way, if there are any."""

    command_encoding = "ascii"
    """Here too: a subclass may connect before it calls the constructor."""
    _name_written = ""
    _name_dialled = ""
    _is_dialling = False
    without: str | Sequence[str] = ()
    """Keywords of EHLO that count as not offered: as ``Server`` has it."""
    _outgoing: Outgoing | None = None
    _addresses: Addresses | None = None
    """Those of the server that may still be tried, while ``connect`` runs."""

    if TYPE_CHECKING:
        _auth_challenge_count: int

        def _print_debug(self, *args: object) -> None: ...
        def _rset(self) -> None: ...
        def _get_socket(self, host: str, port: int, timeout: Any) -> Any: ...

    @property
    def outgoing(self) -> Outgoing | None:
        """What is done to messages before they leave; of what this one does not say the process does."""
        own, of_all = self._outgoing, outgoing.Process.outgoing
        return own or of_all if own is None or of_all is None else own.over(of_all)

    def set_outgoing(
        self,
        *,
        before_send: BeforeSend | Sequence[BeforeSend] | None = None,
        redirect_to: str | Sequence[str] | None = None,
        allow_recipients: Allowed | None = None,
    ) -> None:
        """Have messages of this connection redirected, kept back or changed: see ``set_outgoing``.

        Raises ``InputError``, a ``ValueError``.
        """
        self._outgoing = Outgoing.of(before_send, redirect_to, allow_recipients)
        if self._outgoing is not None:
            self._outgoing.announce("a connection of smtplib")

    @property
    def _host(self) -> str:
        """The name that the certificate must bear: the one that was dialled, or what somebody wrote here."""
        return self._name_written or self._name_dialled

    @_host.setter
    def _host(self, name: str) -> None:
        # The standard connect() writes here as well (from Python 3.14.5 on): that is nobody's wish.
        if not self._is_dialling:
            self._name_written = name

    def _new_deadline(self) -> Deadline:
        """By the timeout that the socket has now: a user may have changed it."""
        return deadline_for(self._timeout if self._real_socket() is not None else None)

    def _real_socket(self) -> socket.socket | None:
        """The socket in use, where it is a real one; asked once in a call."""
        sock = self.sock
        if sock is not self._asked:
            self._asked, self._real = sock, sock if is_real(sock) else None
            self._timeout = None if self._real is None else self._real.gettimeout()
        return self._real

    def _restore_timeout(self) -> None:
        """Whatever the socket was told in a call, it waits as long as it did before when that ends."""
        sock = self._real
        if sock is not None and sock is self.sock and sock.gettimeout() != self._timeout:
            try:  # noqa: SIM105 - it is done for every call
                sock.settimeout(self._timeout)
            except OSError:  # another thread closed it
                pass

    @property
    def _is_lmtp(self) -> bool:
        return self.ehlo_msg.lower() == "lhlo"

    @property
    def _unread(self) -> bytes | bytearray:
        """What was received and nobody asked for."""
        return self.file.waiting if isinstance(self.file, Lines) else b""

    def _driver_now(self) -> SocketDriver:
        """The project's own stream over the socket that is in use."""
        if self._driver is None or self._driver.sock is not self.sock:
            assert self.sock is not None
            self._driver = SocketDriver(self.sock)
        return self._driver

    # -- octets -----------------------------------------------------------------------

    @one_call
    def send(self, s: Any) -> None:
        """Send `s` to the server. A line that logs in is ``***`` in debug output and for ``sys.audit``.

        With ``redirect_to`` or ``allow_recipients``, raises ``SMTPNotSupportedError``
        for a RCPT line of somebody who is not sent to, and for a command line that
        does not end; content behind 354 is not looked at.
        """
        if not self._in_data:
            self._check_recipients(s)
        is_secret = self._in_auth = self._in_auth or redaction.begins_auth(s)
        if (sock := self._real_socket()) is not None:
            wait_until(sock, self._deadline or self._new_deadline())
        octets = s.encode(self.command_encoding) if isinstance(s, str) else s
        self._owed = True  # not before: what cannot be encoded is refused
        if is_secret:
            if self._hidden is None:
                self._hidden = Hidden(str(getattr(self, "password", "")))
            self._hidden.add_line(redaction.line_of(s))
        if self.debuglevel > 0:
            self._print_debug("send:", repr(redaction.shown(s) if is_secret else s))
        if not self.sock:
            raise SMTPServerDisconnected("please run connect() first")
        sys.audit("smtplib.send", self, redaction.redacted(s) if is_secret else octets)
        try:
            self.sock.sendall(octets)
        except OSError as error:
            self.close()
            raise SMTPServerDisconnected("Server not connected") from (None if is_secret else error)

    def _check_recipients(self, s: Any) -> None:
        rules = self.outgoing
        if rules is None or not rules.screens:
            self._screen = None
            return
        if self._screen is None:
            self._screen = outgoing.Screen()
        self._screen.check(rules, s)

    @one_call
    def getreply(self) -> tuple[int, bytes]:
        """Get a reply: its code, -1 where it has none, and its text.

        Raises ``SMTPServerDisconnected`` at the end of the connection, and where
        the reply is not whole by the deadline.
        """
        sock = self._real_socket()
        if self.file is None and sock is not None:
            self.file = Lines(sock)
        deadline = self._deadline or self._new_deadline()
        lines = self.file if isinstance(self.file, Lines) else None
        if lines is not None:
            lines.begin(deadline.within(_LONGEST))
        elif sock is not None:
            wait_until(sock, deadline)
        code, text = self._read_reply(lines)
        if lines is not None:
            lines.begin(None)  # whoever reads on by hand has a time of his own
        self._owed = code in (_CHALLENGE, _GO_AHEAD)
        self._content_begun = self._content_begun or code == _GO_AHEAD
        if self._screen is not None and not self._in_data:
            self._screen.replied(go_ahead=code == _GO_AHEAD)
        if self._hidden is not None:
            _, text = pair(self._hidden.redacted(reply_of((code, text))))
        if code != _CHALLENGE:
            self._in_auth = False
            self._hidden = None
        return code, text

    def _read_reply(self, lines: Lines | None) -> tuple[int, bytes]:
        level = self.debuglevel
        if not self._in_auth and level <= 0 and lines is not None:
            try:
                if (reply := lines.whole_reply()) is not None:
                    return reply
            except OSError as error:
                self.close()
                raise SMTPServerDisconnected(f"Connection unexpectedly closed: {error}") from error
        if not (self._in_auth and level > 0):
            return super().getreply()
        # A server may repeat what it was sent.
        self.debuglevel = 0
        try:
            reply = super().getreply()
        finally:
            self.debuglevel = level
        self._print_debug(f"reply: retcode ({reply[0]}); Msg: {redaction.HIDDEN}")
        return reply

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Send a command. Raises ``ValueError`` for a control character in it."""
        line = cmd if args == "" else f"{cmd} {args}"
        if not (line.isascii() and line.isprintable()):
            arguments.check_one_line(line, secret=self._in_auth or redaction.begins_auth(cmd))
        self.send(f"{line}\r\n")

    docmd = one_call(standard.SMTP.docmd)
    helo = one_call(standard.SMTP.helo)
    help = one_call(standard.SMTP.help)

    @one_call
    def ehlo(self, name: str = "") -> tuple[int, bytes]:
        """EHLO, under LMTP LHLO."""
        self.esmtp_features = {}
        self.putcmd(self.ehlo_msg, name or self.local_hostname)
        code, text = self.getreply()
        if code == -1 and not text:
            self.close()
            raise SMTPServerDisconnected("Server not connected")
        self.ehlo_resp = text
        if code == 250:
            self.does_esmtp = True
            self.esmtp_features = features_of(text)
            if self.without:
                for name in left_out(self.without):
                    self.esmtp_features.pop(name, None)
        return code, text

    @one_call
    def ehlo_or_helo_if_needed(self) -> None:
        """EHLO, and HELO where that is refused.

        Raises ``SMTPHeloError`` where both are, and ``SMTPServerDisconnected``
        for 421, which closes the connection (RFC 5321 3.8).
        """
        if not (self.helo_resp is None and self.ehlo_resp is None):
            return
        code, text = self.ehlo()
        if code == _CLOSING:
            self.close()
            raise SMTPServerDisconnected(shortened(f"Connection unexpectedly closed: {(code, text)}"))
        if is_acceptance(code):
            return
        code, text = self.helo()
        if not is_acceptance(code):
            raise SMTPHeloError(code, text)

    @one_call
    def verify(self, address: str) -> tuple[int, bytes]:
        """VRFY."""
        arguments.check_one_line(address)
        return super().verify(address)

    vrfy = verify

    @one_call
    def expn(self, address: str) -> tuple[int, bytes]:
        """EXPN."""
        arguments.check_one_line(address)
        return super().expn(address)

    # -- a transaction, command by command -----------------------------------------------

    @one_call
    def mail(self, sender: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        """MAIL.

        Raises ``SMTPNotSupportedError`` for SMTPUTF8 where the server has it
        not, and ``ValueError`` for an address that would become a parameter.
        """
        self._begin_transaction()
        sender = arguments.one_address(sender)
        options = options if self.does_esmtp else ()
        utf8 = arguments.asks_utf8(options)
        if utf8:
            self._demand_utf8()
            self.command_encoding = "utf-8"
        argument = arguments.mail_argument(sender, options, utf8=utf8)
        arguments.line("mail", argument, utf8=self.command_encoding != "ascii")
        self.putcmd("mail", argument)
        return self.getreply()

    def _begin_transaction(self) -> None:
        self._steps_taken = None
        self._content_begun = False

    @property
    def _steps(self) -> Steps:
        """What the single commands of the transaction under way came to."""
        if self._steps_taken is None:
            self._steps_taken = Steps()
        return self._steps_taken

    def _demand_utf8(self) -> None:
        if not self.has_extn("smtputf8"):
            raise SMTPNotSupportedError("SMTPUTF8 not supported by server")

    @one_call
    def rcpt(self, recip: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        """RCPT, for one recipient. Raises ``ValueError`` for an address that would become a parameter."""
        recip = arguments.one_address(recip)
        utf8 = self.command_encoding != "ascii"
        argument = arguments.rcpt_argument(recip, options if self.does_esmtp else (), utf8=utf8)
        arguments.line("rcpt", argument, utf8=utf8)
        self.putcmd("rcpt", argument)
        reply = self.getreply()
        self._steps.note_rcpt(recip, reply)
        return reply

    @one_call
    def data(self, msg: Any) -> tuple[int, bytes]:
        """DATA and the content, with CRLF line ends; the final reply.

        Raises ``SMTPDataError`` where DATA is not answered by 354. Under LMTP
        a final reply for each recipient is read; the last acceptance is
        returned, or the first refusal where there is none, and
        ``SMTPServerDisconnected`` raised where 421 comes before the last.
        """
        octets = b"".join(Content.of(arguments.as_octets(msg)).for_bdat())
        self._in_data = True
        try:
            return self._data(octets)
        finally:
            self._in_data = False

    def _data(self, octets: bytes) -> tuple[int, bytes]:
        first = super().data(octets)
        if not self._is_lmtp:
            return first
        reply, finals, owed = first, self._steps.finals, self._steps.accepted_count
        best: tuple[int, bytes] | None = None
        while reply[0] != _CLOSING:
            finals.append(reply_of(reply))
            best = reply if is_acceptance(reply[0]) else best
            if len(finals) >= owed:
                return best or first
            reply = self.getreply()
        if owed > 1:
            # It is about no recipient (RFC 2033 4.2).
            self.close()
            raise SMTPServerDisconnected(shortened(f"Connection unexpectedly closed: {reply}"))
        return first

    def close(self) -> None:
        """Close the connection."""
        self._in_auth = self._owed = self._in_data = False
        self._hidden = self._screen = None
        self._deadline = self._driver = None
        super().close()

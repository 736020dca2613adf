"""The single commands of ``smtplib``: the standard library's own, within a deadline and without secrets.

How they read and write is theirs, so whoever overrides one of them finds what
was there before.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from smtplib import SMTPException, SMTPHeloError, SMTPNotSupportedError, SMTPServerDisconnected
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..flow.hidden import Hidden
from ..net.deadline import Deadline
from ..net.dial import Addresses
from ..shortening import shortened
from ..wire.content import Content
from ..wire.limits import REPLY_LIMITS
from ..wire.reply import Reply
from . import arguments, redaction, standard
from .flows import FlowRunner
from .lines import Lines, wait_until
from .results import Steps, is_acceptance, pair, reply_of
from .sockets import deadline_for, is_real

_CHALLENGE: Final = 334
_GO_AHEAD: Final = 354
_CLOSING: Final = 421
_LONGEST: Final = max(REPLY_LIMITS.values())
"""Seconds for one reply where no timeout was given: a single command does not say what it waits for."""


class Within:
    """One deadline for a call, and for the calls that it is made of.

    An interrupt closes, and so does whatever else leaves a command without its
    reply: what was read or written by halves must not meet the next command.
    """

    __slots__ = ("_deadline", "_is_outermost", "_owed", "_smtp")

    def __init__(self, smtp: Commands, deadline: Deadline | None = None) -> None:
        self._smtp = smtp
        self._deadline = deadline

    def __enter__(self) -> Deadline:
        smtp = self._smtp
        outer = smtp._deadline
        self._is_outermost = outer is None
        if outer is not None:
            return outer
        self._owed = smtp._owed
        deadline = smtp._deadline = self._deadline or smtp._new_deadline()
        return deadline

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_outermost:
            self._smtp._deadline = None
            if kind is not None and self._is_broken_by(kind):
                self._smtp.close()

    def _is_broken_by(self, kind: type[BaseException]) -> bool:
        if not issubclass(kind, Exception):
            return True
        # A caller who writes ahead owed replies before; an argument that is refused then changes nothing.
        return self._smtp._owed and not (self._owed and issubclass(kind, ValueError | SMTPException))


class Commands(standard.SMTP):
    """The standard class, with the commands that needed a hand."""

    _deadline: Deadline | None = None
    _runner: FlowRunner | None = None
    _in_auth = False
    _hidden: Hidden | None = None
    """What was sent to log in: a server may repeat it when it refuses."""
    _owed = False
    """A reply is owed to us or, after 334 or 354, something to the server."""
    _content_begun = False
    """The last DATA was answered by 354."""
    _steps_taken: Steps | None = None
    """Of the transaction under way, if there are any."""

    command_encoding = "ascii"
    """Here too: a subclass may connect before it calls the constructor."""
    _name_written = ""
    _name_dialled = ""
    _is_dialling = False
    _addresses: Addresses | None = None
    """Those of the server that may still be tried, while ``connect`` runs."""

    if TYPE_CHECKING:
        _auth_challenge_count: int

        def _print_debug(self, *args: object) -> None: ...
        def _rset(self) -> None: ...
        def _get_socket(self, host: str, port: int, timeout: Any) -> Any: ...

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
        return deadline_for(self.sock.gettimeout() if is_real(self.sock) else None)

    @property
    def _is_lmtp(self) -> bool:
        return self.ehlo_msg.lower() == "lhlo"

    @property
    def _unread(self) -> bytes:
        """What was received and nobody asked for."""
        return self.file.waiting if isinstance(self.file, Lines) else b""

    def _runner_now(self) -> FlowRunner:
        """The project's own stream over the socket that is in use."""
        if self._runner is None or self._runner.sock is not self.sock:
            assert self.sock is not None
            self._runner = FlowRunner(self.sock)
        return self._runner

    # -- octets -----------------------------------------------------------------------

    def send(self, s: Any) -> None:
        """Send `s` to the server. A line that logs in is ``***`` in debug output and for ``sys.audit``."""
        self._in_auth = self._in_auth or redaction.begins_auth(s)
        with Within(self) as deadline, _SocketTimeout(self) as sock:
            if sock is not None:
                wait_until(sock, deadline)
            if isinstance(s, str):
                s.encode(self.command_encoding)  # what cannot be is refused before anything is owed
            self._owed = True
            if self._in_auth:
                self._send_secret(s)
            else:
                super().send(s)

    def _send_secret(self, s: Any) -> None:
        if self._hidden is None:
            self._hidden = Hidden(str(getattr(self, "password", "")))
        self._hidden.add_line(redaction.line_of(s))
        if self.debuglevel > 0:
            self._print_debug("send:", repr(redaction.shown(s)))
        if self.sock is None:
            raise SMTPServerDisconnected("please run connect() first")
        sys.audit("smtplib.send", self, redaction.redacted(s))
        try:
            self.sock.sendall(s.encode(self.command_encoding) if isinstance(s, str) else s)
        except OSError:
            self.close()
            raise SMTPServerDisconnected("Server not connected") from None

    def getreply(self) -> tuple[int, bytes]:
        """Get a reply: its code, -1 where it has none, and its text.

        Raises ``SMTPServerDisconnected`` at the end of the connection, and where
        the reply is not whole by the deadline.
        """
        if self.file is None and is_real(self.sock):
            self.file = Lines(self.sock)
        with Within(self) as deadline, _SocketTimeout(self) as sock:
            if isinstance(self.file, Lines):
                self.file.begin(deadline.within(_LONGEST))
            elif sock is not None:
                wait_until(sock, deadline)
            if not (self._in_auth and self.debuglevel > 0):
                code, text = super().getreply()
            else:
                with _NoDebugOutput(self):
                    code, text = super().getreply()
                # A server may repeat what it was sent.
                self._print_debug(f"reply: retcode ({code}); Msg: {redaction.HIDDEN}")
            self._owed = code in (_CHALLENGE, _GO_AHEAD)
            if isinstance(self.file, Lines):
                self.file.begin(None)  # whoever reads on by hand has a time of his own
        self._content_begun = self._content_begun or code == _GO_AHEAD
        if self._hidden is not None:
            _, text = pair(self._hidden.redacted(Reply(code, tuple(text.split(b"\n")))))
        if code != _CHALLENGE:
            self._in_auth = False
            self._hidden = None
        return code, text

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Send a command. Raises ``ValueError`` for a control character in it."""
        arguments.check_one_line(
            f"{cmd} {args}" if args else cmd, secret=self._in_auth or redaction.begins_auth(cmd)
        )
        super().putcmd(cmd, args)

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        """Send a command, and return its reply."""
        with Within(self):
            return super().docmd(cmd, args)

    def helo(self, name: str = "") -> tuple[int, bytes]:
        """HELO; see ``smtplib.SMTP.helo``, as for the four below."""
        with Within(self):
            return super().helo(name)

    def ehlo(self, name: str = "") -> tuple[int, bytes]:
        """EHLO, under LMTP LHLO."""
        with Within(self):
            return super().ehlo(name)

    def ehlo_or_helo_if_needed(self) -> None:
        """EHLO, and HELO where that is refused.

        Raises ``SMTPHeloError`` where both are, and ``SMTPServerDisconnected``
        for 421, which closes the connection (RFC 5321 3.8).
        """
        if not (self.helo_resp is None and self.ehlo_resp is None):
            return
        with Within(self):
            code, text = self.ehlo()
            if code == _CLOSING:
                self.close()
                raise SMTPServerDisconnected(shortened(f"Connection unexpectedly closed: {(code, text)}"))
            if is_acceptance(code):
                return
            code, text = self.helo()
            if not is_acceptance(code):
                raise SMTPHeloError(code, text)

    def help(self, args: str = "") -> bytes:
        """HELP; the text of the reply."""
        with Within(self):
            return super().help(args)

    def verify(self, address: str) -> tuple[int, bytes]:
        """VRFY."""
        arguments.check_one_line(address)
        with Within(self):
            return super().verify(address)

    vrfy = verify

    def expn(self, address: str) -> tuple[int, bytes]:
        """EXPN."""
        arguments.check_one_line(address)
        with Within(self):
            return super().expn(address)

    # -- a transaction, command by command -----------------------------------------------

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
        with Within(self):
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

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
        """RCPT, for one recipient. Raises ``ValueError`` for an address that would become a parameter."""
        recip = arguments.one_address(recip)
        utf8 = self.command_encoding != "ascii"
        argument = arguments.rcpt_argument(recip, options if self.does_esmtp else (), utf8=utf8)
        arguments.line("rcpt", argument, utf8=utf8)
        with Within(self):
            self.putcmd("rcpt", argument)
            code, text = self.getreply()
        self._steps.note_rcpt(recip, (code, text))
        return code, text

    def data(self, msg: Any) -> tuple[int, bytes]:
        """DATA and the content, with CRLF line ends; the final reply.

        Raises ``SMTPDataError`` where DATA is not answered by 354. Under LMTP
        a final reply for each recipient is read; the last acceptance is
        returned, or the first refusal where there is none, and
        ``SMTPServerDisconnected`` raised where 421 comes before the last.
        """
        octets = b"".join(Content.of(arguments.as_octets(msg)).for_bdat())
        with Within(self):
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
        self._in_auth = self._owed = False
        self._hidden = None
        self._deadline = self._runner = None
        super().close()


class _SocketTimeout:
    """Whatever the socket is told meanwhile, it waits as long as it did before when this ends."""

    __slots__ = ("_before", "_smtp", "_sock")

    def __init__(self, smtp: Commands) -> None:
        self._smtp = smtp

    def __enter__(self) -> socket.socket | None:
        sock = self._smtp.sock
        self._sock = sock if is_real(sock) else None
        if self._sock is not None:
            self._before = self._sock.gettimeout()
        return self._sock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sock = self._sock
        if sock is not None and self._smtp.sock is sock and sock.gettimeout() != self._before:
            try:  # noqa: SIM105 - it is done for every command
                sock.settimeout(self._before)
            except OSError:  # another thread closed it
                pass


class _NoDebugOutput:
    """No debug output for the moment."""

    __slots__ = ("_level", "_smtp")

    def __init__(self, smtp: Commands) -> None:
        self._smtp = smtp

    def __enter__(self) -> None:
        self._level, self._smtp.debuglevel = self._smtp.debuglevel, 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._smtp.debuglevel = self._level

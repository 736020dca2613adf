"""One connection to an SMTP or LMTP server, ready to send."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any, Self, TypedDict, Unpack

from .channel import Channel
from .errors import ConnectionLost, ProtocolError, ServiceUnavailable, SmtpError, Timeout, UsageError
from .flow.delivery import delivery
from .flow.effects import Flow
from .flow.plan import DEFAULT, Options, make_plan
from .flow.session import demand, exchange, quit_session
from .message import AnyMessage, prepare
from .net.deadline import Deadline
from .opening import open_channel
from .server import Server
from .wire import command
from .wire.capabilities import Capabilities, Protocol
from .wire.envelope import MailObject, Source
from .wire.limits import COMMAND_TIMEOUT, SEND_TIMEOUT
from .wire.params import MailFromParams, RcptToParams
from .wire.reply import Reply
from .wire.result import SendResult


def connect(
    target: str | os.PathLike[str] | Server, port: int | None = None, **options: Any
) -> SmtpConnection:
    """Dial a server and bring the session to the point where it takes mail.

    ``target`` is a host name, the path of a UNIX socket, a URL such as
    ``smtps://user:password@mail.example.org``, or a ``Server``; ``options`` are
    those of ``Server``. Greeting, EHLO or LHLO, TLS, EHLO again and AUTH happen
    here, within ``connect_timeout`` (30 seconds by default) in all.

    Raises ``InputError`` before anything is dialled, ``ConnectError`` where no
    address answers or the server refuses the session, ``TlsError``,
    ``AuthenticationError``, ``ProtocolError``, ``Timeout``, ``ConnectionLost``.
    """
    server = _server(target, port, options)
    channel, capabilities = open_channel(server, Deadline.after(server.connect_timeout))
    return SmtpConnection(channel, server, capabilities)


def _server(target: str | os.PathLike[str] | Server, port: int | None, options: dict[str, Any]) -> Server:
    given = options if port is None else {"port": port, **options}
    if isinstance(target, Server):
        return target.replace(**given) if given else target
    text = os.fspath(target)
    return Server.from_url(text, **given) if "://" in text else Server(text, **given)


class SendOptions(TypedDict, total=False):
    """Keywords that every ``send`` method takes."""

    timeout: float | None
    """Seconds for the whole call, 600 by default; None leaves the limits on each reply (RFC 5321 4.5.3.2)."""
    all_or_nothing: bool
    """Send only where every recipient is accepted; else ``RecipientsRejected`` is raised."""
    allow_long_lines: bool
    """Send lines over 998 octets and 8-bit headers as they stand."""


class SmtpConnection:
    """A session with one server. Made by ``connect``; a context manager.

    Safe to share between threads: calls take turns, and the wait for a turn
    counts against a call's timeout. A timeout, an interrupt or anything else
    that leaves an exchange half-read closes the connection, and every later
    call raises ``ConnectionLost`` at once and says why.

    Every ``send`` method takes the keywords of ``SendOptions``, and raises

    - ``InputError``, ``NotSupportedError``, ``UsageError``: nothing was written;
    - ``SenderRejected``, ``RecipientsRejected``, ``AllRecipientsFailed``,
      ``DataRejected``: refused, nobody has it; the connection is usable unless
      it was refused in mid-content or by BDAT, which only closing ends;
    - ``ServiceUnavailable``, ``Timeout``, ``ConnectionLost``, ``ProtocolError``:
      nobody has it but ``accepted_recipients``, the connection is closed;
    - ``DeliveryUnknown``: perhaps delivered, the connection is closed.
    """

    def __init__(self, channel: Channel, server: Server, capabilities: Capabilities) -> None:
        self._channel = channel
        self._server = server
        self._capabilities = capabilities

    @property
    def server(self) -> Server:
        """What was dialled."""
        return self._server

    @property
    def protocol(self) -> Protocol:
        """SMTP or LMTP."""
        return self._server.protocol

    @property
    def capabilities(self) -> Capabilities:
        """What the server offered in its last EHLO or LHLO."""
        return self._capabilities

    @property
    def is_tls(self) -> bool:
        """Whether the line is encrypted."""
        return self._channel.is_tls

    @property
    def closed(self) -> bool:
        """True once the connection cannot be used any more."""
        return self._channel.closed

    @property
    def round_trips(self) -> int:
        """Waits for the server after something was written, since the connection was made."""
        return self._channel.round_trips

    # -- sending: SMTP ------------------------------------------------------------

    def send(
        self, sender: str, recipients: str | Sequence[str], message: Source, **options: Unpack[SendOptions]
    ) -> SendResult:
        """Send a message to one or more recipients (RFC 5321 3.3).

        ``message`` is the whole of it, headers and body, as bytes, a buffer, a
        binary file or an iterable of chunks; line ends become CRLF. Pipelined
        where the server offers it (RFC 2920); recipients beyond the server's
        limit follow in further transactions (RFC 5321 4.5.3.1.10, RFC 9422).
        Returns who was accepted, and who was refused with which reply.
        """
        return self._send("send", Protocol.SMTP, MailObject(sender, recipients, message), **options)

    def send_with_params(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: Source,
        params: MailFromParams | None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send`` with parameters of MAIL. SIZE, BODY and SMTPUTF8 are added where needed."""
        mail = MailObject(sender, recipients, message, mail_params=params)
        return self._send("send_with_params", Protocol.SMTP, mail, **options)

    def send_with_all_params(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: Source,
        mail_params: MailFromParams | None,
        rcpt_params: Sequence[RcptToParams],
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send`` with parameters of MAIL and one ``RcptToParams`` for each recipient (RFC 3461 4)."""
        mail = MailObject(sender, recipients, message, mail_params=mail_params, rcpt_params=rcpt_params)
        return self._send("send_with_all_params", Protocol.SMTP, mail, **options)

    def send_bdat(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: Source,
        mail_params: MailFromParams | None = None,
        rcpt_params: Sequence[RcptToParams] | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send`` by BDAT (RFC 3030), which ``BODY=BINARYMIME`` needs.

        Content of known size goes as one chunk; otherwise each chunk waits for
        the reply to the one before. Raises ``NotSupportedError`` where the
        server does not offer CHUNKING.
        """
        mail = MailObject(sender, recipients, message, mail_params=mail_params, rcpt_params=rcpt_params)
        return self._send("send_bdat", Protocol.SMTP, mail, bdat=True, **options)

    # -- sending: LMTP ------------------------------------------------------------

    def send_lmtp(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: Source,
        params: MailFromParams | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Deliver over LMTP: each accepted recipient has a final reply of its own (RFC 2033 4.2).

        Recipients refused after the content are in ``rejected_recipients`` with
        stage ``final``. ``DeliveryUnknown`` may come with some of them settled.
        """
        mail = MailObject(sender, recipients, message, mail_params=params)
        return self._send("send_lmtp", Protocol.LMTP, mail, **options)

    def send_lmtp_with_all_params(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: Source,
        mail_params: MailFromParams | None,
        rcpt_params: Sequence[RcptToParams],
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send_lmtp`` with one ``RcptToParams`` for each recipient (RFC 3461 4)."""
        mail = MailObject(sender, recipients, message, mail_params=mail_params, rcpt_params=rcpt_params)
        return self._send("send_lmtp_with_all_params", Protocol.LMTP, mail, **options)

    def send_lmtp_bdat(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: Source,
        mail_params: MailFromParams | None = None,
        rcpt_params: Sequence[RcptToParams] | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send_lmtp`` by BDAT (RFC 3030)."""
        mail = MailObject(sender, recipients, message, mail_params=mail_params, rcpt_params=rcpt_params)
        return self._send("send_lmtp_bdat", Protocol.LMTP, mail, bdat=True, **options)

    # -- sending: either ----------------------------------------------------------

    def send_message(
        self,
        message: AnyMessage,
        *,
        sender: str | None = None,
        recipients: str | Sequence[str] | None = None,
        mail_params: MailFromParams | None = None,
        rcpt_params: Sequence[RcptToParams] | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Send an ``email`` message, or the octets or binary file of one, over SMTP or LMTP.

        The envelope comes from the headers unless it is given: Sender over From,
        To, Cc and Bcc, or the Resent block (RFC 5322 3.6.6). Bcc is dropped, Date
        and Message-ID are added where absent, all in a copy. Without 8BITMIME a
        message object is re-encoded to 7-bit; SMTPUTF8 is used only where an
        address needs it.
        """
        mail = prepare(
            message,
            self._capabilities,
            sender=sender,
            recipients=recipients,
            mail_params=mail_params,
            rcpt_params=rcpt_params,
        )
        return self._send("send_message", self.protocol, mail, **options)

    def _send(
        self,
        method: str,
        protocol: Protocol,
        mail: MailObject,
        *,
        bdat: bool = False,
        timeout: float | None = SEND_TIMEOUT,
        all_or_nothing: bool = False,
        allow_long_lines: bool = False,
    ) -> SendResult:
        if protocol is not self.protocol:
            # One reply or one a recipient: the wrong count puts the session out of step.
            raise UsageError(
                f"{method} is for {protocol.upper()}, and this is an {self.protocol.upper()} connection "
                "(RFC 2033 4.2)"
            )
        options = DEFAULT
        if bdat or all_or_nothing or allow_long_lines:
            options = Options(bdat=bdat, all_or_nothing=all_or_nothing, as_is=allow_long_lines)

        def begin() -> Flow[SendResult]:
            plan = make_plan(mail, self._capabilities, protocol=protocol, is_tls=self.is_tls, options=options)
            return delivery(plan)

        try:
            return self._channel.run(begin, Deadline.after(timeout))
        except SmtpError as error:
            if not error.accounts_for_anyone:
                error.unsent_recipients = mail.recipients  # it never came to MAIL
            raise

    # -- single commands ------------------------------------------------------------

    def noop(self, *, timeout: float | None = COMMAND_TIMEOUT) -> Reply:
        """NOOP (RFC 5321 4.1.1.9). Raises ``CommandRejected`` for anything but 250."""
        return self._demand(command.NOOP, 250, timeout)

    def rset(self, *, timeout: float | None = COMMAND_TIMEOUT) -> Reply:
        """RSET (RFC 5321 4.1.1.5). Raises ``CommandRejected`` for anything but 250."""
        return self._demand(command.RSET, 250, timeout)

    def verify(self, address: str, *, timeout: float | None = COMMAND_TIMEOUT) -> Reply:
        """VRFY (RFC 5321 3.5). 252 says that the server will not tell."""
        return self._demand(command.line("VRFY", address), None, timeout)

    def expand(self, name: str, *, timeout: float | None = COMMAND_TIMEOUT) -> Reply:
        """EXPN (RFC 5321 3.5): the members of a mailing list, a line each."""
        return self._demand(command.line("EXPN", name), None, timeout)

    def help(self, topic: str = "", *, timeout: float | None = COMMAND_TIMEOUT) -> Reply:
        """HELP (RFC 5321 4.1.1.8)."""
        return self._demand(command.line("HELP", topic), None, timeout)

    def command(self, verb: str, argument: str = "", *, timeout: float | None = COMMAND_TIMEOUT) -> Reply:
        """Any command that is one line and one reply; the reply is returned whatever it says.

        Raises ``UsageError`` for the verbs that change what the connection is
        in the middle of: they have methods of their own.
        """
        line = command.line(verb, argument)
        if verb.upper() in command.NOT_SINGLE:
            raise UsageError(f"{verb.upper()} is not a single command")
        return self._channel.run(lambda: exchange(line), Deadline.after(timeout))

    def _demand(self, line: bytes, code: int | None, timeout: float | None) -> Reply:
        return self._channel.run(lambda: demand(line, code), Deadline.after(timeout))

    # -- the end ----------------------------------------------------------------------

    def quit(self, *, timeout: float = 5.0) -> None:
        """QUIT, then close; never raises on what the server does.

        Waits for its turn, then ``timeout`` seconds. In a forked child it only closes.
        """
        Deadline.after(timeout)  # refuses what is no timeout
        if self._channel.is_foreign:
            self.close()
        if not self.closed:
            with contextlib.suppress(ConnectionLost, ServiceUnavailable, Timeout, ProtocolError):
                self._channel.run(quit_session, Deadline.after(None), seconds=timeout)

    def close(self) -> None:
        """Close at once, without QUIT. A call under way in another thread fails."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.quit()
        else:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "TLS" if self.is_tls else "clear"
        return f"<SmtpConnection {self.protocol} {self._server.host}:{self._server.port} {state}>"

"""One connection to an SMTP or LMTP server, ready to send."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Self, Unpack

from . import observing
from .channel import Channel
from .errors import ConnectionLost, ProtocolError, ServiceUnavailable, SmtpError, Timeout, UsageError
from .flow.effects import Flow
from .flow.plan import as_options, make_envelope, make_plan
from .flow.session import demand, exchange, quit_session, try_envelope
from .flow.transaction import delivery
from .message import AnyMessage, prepare, written
from .net.deadline import NEVER, Deadline, check_timeout
from .observing import Peer
from .options import (
    ENVELOPE,
    MESSAGE_DEFAULTS,
    MessageOptions,
    SendOptions,
    TransactionOptions,
    complete,
    spelled_out,
    unknown,
)
from .outcome import Outcome
from .outgoing import Outgoing, told, withheld_of
from .sending import Mail, account_for, check_messages, plan_for, possible_in_flight, send_all
from .server import Server
from .values import flag
from .watching import Watch, Watches, closed, is_told
from .wire import command
from .wire.address import ForwardPath, ReversePath
from .wire.capabilities import Capabilities, Protocol
from .wire.content import Unwritten
from .wire.envelope import AnyContent, MailObject
from .wire.limits import COMMAND_TIMEOUT, SEND_TIMEOUT
from .wire.params import MailFromParams, RcptParams
from .wire.reply import Reply
from .wire.result import SendResult

_INFO: Final = logging.INFO


class SmtpConnection:
    """A session with one server. Made by ``connect``; a context manager.

    Safe to share between threads: calls take turns, and the wait for a turn
    counts against a call's timeout. Whatever leaves an exchange half-read closes
    the connection, and every later call raises ``ConnectionLost`` and says why.

    Every ``send`` method takes the keywords of ``SendOptions``, and raises

    - ``InputError``, ``NotSupportedError``, ``UsageError``: nothing was written;
    - ``SenderRejected``, ``RecipientsRejected``, ``AllRecipientsFailed``,
      ``DataRejected``: refused, nobody has it; the connection is usable unless
      it was refused in mid-content or by BDAT, which only closing ends;
    - ``ServiceUnavailable``, ``Timeout``, ``ConnectionLost``, ``ProtocolError``:
      nobody has it but ``accepted_recipients``, the connection is closed;
    - ``DeliveryUnknown``: perhaps delivered, the connection is closed;
    - ``SessionLimitReached``: the server takes no more on this connection, which is usable
      as far as it has room, and nobody has it but ``accepted_recipients``.
    """

    def __init__(
        self,
        channel: Channel,
        server: Server,
        capabilities: Capabilities,
        is_local: bool,
        outgoing: Outgoing | None,
    ) -> None:
        self._channel = channel
        self._server = server
        self._capabilities = capabilities
        # No call changes these.
        self._is_tls = channel.is_tls
        self._is_local = is_local
        self._outgoing = outgoing

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
        return self._is_tls

    @property
    def closed(self) -> bool:
        """True once the connection cannot be used any more."""
        return self._channel.closed

    @property
    def mechanism(self) -> str:
        """The SASL mechanism that logged in; empty where nobody did (RFC 4954)."""
        return self._channel.mechanism

    @property
    def round_trips(self) -> int:
        """Waits for the server after something was written, since the connection was made."""
        return self._channel.round_trips

    # -- sending: SMTP ------------------------------------------------------------

    @spelled_out(TransactionOptions, MESSAGE_DEFAULTS)
    def send(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: AnyContent,
        **options: Unpack[TransactionOptions],
    ) -> SendResult:
        """Send a message to one or more recipients (RFC 5321 3.3).

        ``message`` is the whole of it as bytes, a buffer, a binary file or an
        iterable of chunks, or an ``email`` message; line ends become CRLF. Pipelined where the server
        offers it (RFC 2920); recipients beyond its limit follow in further
        transactions (RFC 5321 4.5.3.1.10, RFC 9422). Returns who was accepted,
        and who was refused with which reply.
        """
        return self._send("send", Protocol.SMTP, message, sender=sender, recipients=recipients, **options)

    @spelled_out(SendOptions, MESSAGE_DEFAULTS)
    def send_with_params(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: AnyContent,
        params: MailFromParams | None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send`` with parameters of MAIL. SIZE, BODY and SMTPUTF8 are added where needed."""
        return self._send(
            "send_with_params",
            Protocol.SMTP,
            message,
            sender=sender,
            recipients=recipients,
            mail_params=params,
            **options,
        )

    @spelled_out(SendOptions, MESSAGE_DEFAULTS)
    def send_with_all_params(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: AnyContent,
        mail_params: MailFromParams | None,
        rcpt_params: RcptParams,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send`` with parameters of MAIL and one ``RcptToParams`` for each recipient (RFC 3461 4)."""
        return self._send(
            "send_with_all_params",
            Protocol.SMTP,
            message,
            sender=sender,
            recipients=recipients,
            mail_params=mail_params,
            rcpt_params=rcpt_params,
            **options,
        )

    @spelled_out(SendOptions, MESSAGE_DEFAULTS)
    def send_bdat(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: AnyContent,
        mail_params: MailFromParams | None = None,
        rcpt_params: RcptParams = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send`` by BDAT (RFC 3030), which ``BODY=BINARYMIME`` needs.

        Content of unknown size goes in chunks, each waiting for the reply to the one before.
        """
        return self._send(
            "send_bdat",
            Protocol.SMTP,
            message,
            sender=sender,
            recipients=recipients,
            mail_params=mail_params,
            rcpt_params=rcpt_params,
            bdat=True,
            **options,
        )

    # -- sending: LMTP ------------------------------------------------------------

    @spelled_out(SendOptions, MESSAGE_DEFAULTS)
    def send_lmtp(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: AnyContent,
        params: MailFromParams | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Deliver over LMTP: each accepted recipient has a final reply of its own (RFC 2033 4.2)."""
        return self._send(
            "send_lmtp",
            Protocol.LMTP,
            message,
            sender=sender,
            recipients=recipients,
            mail_params=params,
            **options,
        )

    @spelled_out(SendOptions, MESSAGE_DEFAULTS)
    def send_lmtp_with_all_params(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: AnyContent,
        mail_params: MailFromParams | None,
        rcpt_params: RcptParams,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send_lmtp`` with one ``RcptToParams`` for each recipient (RFC 3461 4)."""
        return self._send(
            "send_lmtp_with_all_params",
            Protocol.LMTP,
            message,
            sender=sender,
            recipients=recipients,
            mail_params=mail_params,
            rcpt_params=rcpt_params,
            **options,
        )

    @spelled_out(SendOptions, MESSAGE_DEFAULTS)
    def send_lmtp_bdat(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: AnyContent,
        mail_params: MailFromParams | None = None,
        rcpt_params: RcptParams = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """``send_lmtp`` by BDAT (RFC 3030)."""
        return self._send(
            "send_lmtp_bdat",
            Protocol.LMTP,
            message,
            sender=sender,
            recipients=recipients,
            mail_params=mail_params,
            rcpt_params=rcpt_params,
            bdat=True,
            **options,
        )

    # -- sending: either ----------------------------------------------------------

    @spelled_out(MessageOptions, MESSAGE_DEFAULTS)
    def send_message(self, message: AnyMessage, **options: Unpack[MessageOptions]) -> SendResult:
        """Send an ``email`` message, or the octets or binary file of one, over SMTP or LMTP.

        The envelope comes from the headers unless it is given: Sender over From,
        To, Cc and Bcc, or the Resent block (RFC 5322 3.6.6). Bcc is dropped, Date
        and Message-ID are added where absent, all in a copy, re-encoded to 7-bit
        without 8BITMIME; SMTPUTF8 is used only where an address needs it.
        """
        return self._send("send_message", self.protocol, message, is_email=True, **options)

    def _send(
        self,
        method: str,
        protocol: Protocol,
        message: Any,
        *,
        is_email: bool = False,
        bdat: bool = False,
        sender: Any = None,
        recipients: Any = None,
        mail_params: MailFromParams | None = None,
        rcpt_params: RcptParams = None,
        timeout: float | None = SEND_TIMEOUT,
        all_or_nothing: bool = False,
        allow_long_lines: bool = False,
        **others: Any,
    ) -> SendResult:
        if others:
            raise unknown(others, (MessageOptions if is_email else TransactionOptions).__annotations__)
        params: Any = {"mail_params": mail_params, "rcpt_params": rcpt_params}
        if is_email:
            mail = prepare(message, self._capabilities, sender=sender, recipients=recipients, **params)
        else:
            mail = MailObject(sender, recipients, message, **params)
        server, channel = self._server, self._channel
        if protocol is not server.protocol:
            # One reply or one a recipient: the wrong count puts the session out of step (RFC 2033 4.2).
            raise _misfit(method, protocol, server)
        options = as_options(bdat, all_or_nothing, allow_long_lines)

        def begin() -> Flow[SendResult]:
            plan = make_plan(
                mail,
                self._capabilities,
                protocol=protocol,
                is_tls=self._is_tls,
                options=options,
                is_local=self._is_local,
                allowance=channel.allowance,
            )
            return delivery(plan)

        watch = None
        if observing.observers or is_told(_INFO):
            watch = Watch(Peer.of(server), mail, channel.step)
        try:
            deadline = Deadline.after(timeout)
            if type(mail.content) is Unwritten:
                mail = written(mail, self._capabilities)
            if self._outgoing is None:
                result = channel.run(begin, deadline)
            else:
                mail = self._outgoing.leaving(mail)
                result = told(channel.run(begin, deadline), withheld_of(mail))
        except BaseException as error:
            _failed(error, mail, watch)
            raise
        if watch is not None:
            watch.end(mail, result)
        return result

    @spelled_out(MessageOptions, MESSAGE_DEFAULTS)
    def send_many(
        self,
        messages: Iterable[Mail],
        *,
        overlap: bool | None = None,
        in_flight: int = 1,
        **options: Unpack[MessageOptions],
    ) -> Iterator[Outcome]:
        """Send a stream of messages and tell what became of each, in order.

        A message costs two round trips where PIPELINING is offered. With
        ``overlap`` (by default what the ``Server`` says) a list costs one: the
        end of a message and the envelope of the next share a write (RFC 2920
        3.1), for servers known to understand that. An iterator, which may block,
        is asked when the message before is settled. At most one message is ever
        in doubt. ``in_flight`` above 1 has so many whole transactions under way
        by BDAT, and as many may be in doubt: for servers known to swallow a
        chunk that they refuse; a refusal ends it. Content over 64 KiB goes alone.
        With ``in_flight`` above 1 ``overlap`` is for servers without CHUNKING.

        Where the connection ends each message that was taken gets its outcome,
        and the iterator ends; a refused message does not end it. ``timeout`` is
        in seconds for each message. What ``messages`` raises comes after all
        outcomes. Closed early, it closes the connection where a message was
        under way. What ``options`` say of the envelope holds for each message; for a
        ``MailObject``, which has its own, it is a ``UsageError``. Raises
        ``InputError`` for arguments that cannot be right.
        """
        given = complete(options, MESSAGE_DEFAULTS, "overlap", "in_flight")
        timeout = given["timeout"]
        check_timeout(timeout)
        in_flight = possible_in_flight(in_flight, self._capabilities)
        check_messages(messages)
        plan_of = partial(
            plan_for,
            capabilities=self._capabilities,
            protocol=self.protocol,
            is_tls=self._is_tls,
            options=as_options(in_flight > 1, given["all_or_nothing"], given["allow_long_lines"]),
            is_local=self._is_local,
            allowance=self._channel.allowance,
            outgoing=self._outgoing,
            envelope={name: given[name] for name in ENVELOPE if given[name] is not None},
        )
        is_overlapped = self._server.overlap if overlap is None else flag("overlap", overlap)
        stream = self._channel.stream(seconds=timeout, overlap=is_overlapped, in_flight=in_flight)
        watches = None
        if observing.observers or is_told(_INFO):
            watches = Watches(Peer.of(self._server), self._channel.step)
        return send_all(stream, messages, plan_of, watches, may_look_ahead=self._outgoing is None)

    def try_envelope(
        self, sender: str, recipients: str | Sequence[str] = (), *, timeout: float | None = COMMAND_TIMEOUT
    ) -> tuple[Reply, ...]:
        """Ask by MAIL and RCPT whether the server would take a message, and drop it by RSET: nothing is sent.

        Returns the replies, whatever they say: that to MAIL, and where it was
        positive one for each recipient; fewer where 421 ended the session. For
        diagnosis: a server may answer otherwise to the next message, and take who
        asks often for somebody who collects addresses. ``timeout`` is in seconds,
        for all of it. Raises ``InputError``, ``NotSupportedError`` (SMTPUTF8) and ``SessionLimitReached``
        before anything is written, ``Timeout``, ``ConnectionLost``, ``ProtocolError``.
        """
        named = [recipients] if isinstance(recipients, str) else recipients
        paths = [ForwardPath.tolerant(each) for each in named]
        lines = make_envelope(
            ReversePath.tolerant(sender),
            paths,
            self._capabilities,
            is_local=self._server.is_local or self.protocol is Protocol.LMTP,
        )
        begin = partial(try_envelope, lines, paths, self._channel.allowance)
        return self._channel.run(begin, Deadline.after(timeout))

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
        """Any command that is one line and one reply, which is returned whatever it says.

        Raises ``UsageError`` for verbs that change what the connection is in the middle of.
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
        check_timeout(timeout)
        channel = self._channel
        if channel.is_foreign:
            self.close()
        if not channel.closed:
            closed(channel, self._server)
            try:  # noqa: SIM105 - what is there already changes nothing any more, so the line is not looked at
                channel.run(quit_session, NEVER, fresh=True, seconds=timeout)
            except (ConnectionLost, ServiceUnavailable, Timeout, ProtocolError):
                pass

    def close(self) -> None:
        """Close at once, without QUIT. A call under way in another thread fails."""
        closed(self._channel, self._server)
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


def _misfit(method: str, protocol: Protocol, server: Server) -> UsageError:
    ours = server.protocol.upper()
    return UsageError(f"{method} is for {protocol.upper()}, and this connection is {ours}")


def _failed(error: BaseException, mail: MailObject, watch: Watch | None) -> None:
    """Say on the error whom it is about, and tell of it."""
    if isinstance(error, SmtpError):
        account_for(error, mail)
    if watch is not None:
        watch.end(mail, error)

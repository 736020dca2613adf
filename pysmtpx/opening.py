"""From a ``Server`` to an open session: dial, TLS, and the flow that opens it."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from typing import Final

from . import observing
from .channel import Channel
from .driver import Driver
from .errors import ConnectError, ConnectionLost, ProtocolError, SmtpError, Timeout, TlsError
from .flow.allowance import Allowance
from .flow.session import Begun, Opening, begin_session, log_in
from .net.deadline import AnswerTime, Deadline
from .net.dial import Addresses, Keep, Unwell, own_name
from .net.stream import Stream
from .net.tls import Tls, context_for, handshake
from .net.tls_first import await_first_octet
from .net.tls_sessions import Resumption, Sessions
from .net.wait import pass_alarm
from .observing import Peer, ReplyTimes, note
from .reaching import reach
from .sasl.binding import ChannelBinding
from .sasl.credentials import Credentials
from .server import Server
from .tls_failures import Place, explain
from .wire.capabilities import Capabilities, Protocol
from .wire.limits import Stage

_STARTTLS: Final = {"starttls": "required", "opportunistic": "opportunistic"}


class Attempt:
    """What an attempt to open a session holds, and how it is ended; does no harm once that is over."""

    __slots__ = ("_deadline", "_sockets", "answer_time", "channel", "keep", "resumption", "unwell")

    def __init__(
        self,
        deadline: Deadline,
        unwell: Unwell | None = None,
        answer_time: AnswerTime | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self._deadline = deadline
        self.unwell: Unwell | None = unwell
        """What is known of the server's addresses from earlier attempts."""
        self.answer_time: AnswerTime | None = answer_time
        """How long the server lately took to answer the end of data."""
        self.resumption: Resumption | None = None if sessions is None else Resumption(sessions)
        """The TLS sessions of earlier attempts."""
        self._sockets: list[socket.socket] = []
        self.keep: Keep = self._sockets.append
        """Takes note of a socket."""
        self.channel: Channel | None = None
        """Has the last of the sockets, once it is there."""

    def stop(self) -> None:
        """End the wait at once, from any thread; whoever waits closes everything."""
        self._deadline.stop()
        for sock in self._sockets.copy():
            try:
                # Not SSLSocket's own, which drops the TLS state from under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError as error:
                pass_alarm(error)
        if self.channel is not None:
            self.channel.close()

    def drop(self) -> None:
        """Close everything without an octet, for whoever waits himself or in a forked child."""
        if self.channel is not None:
            self.channel.close()
        for sock in self._sockets:
            sock.close()
        if self.resumption is not None:
            self.resumption.forget()


def open_channel(
    server: Server, deadline: Deadline, attempt: Attempt | None = None
) -> tuple[Channel, Capabilities]:
    """A channel on which the session is open, and what the server offered last.

    Everything happens within the deadline, which is that of the ``attempt``,
    and nothing is left open where it fails. Raises what ``connect`` raises.
    """
    attempt = attempt or Attempt(deadline)
    # Before the dial: whoever has no token yet, or gets none, does not hold a connection meanwhile.
    credentials = server.credentials
    if credentials is not None:
        credentials = credentials.ready(deadline.remaining, _service(server))
    try:
        if not observing.observers:
            return _open(server, credentials, deadline, attempt)
        with observing.scope("connect", server) as step:
            channel, capabilities = _open(server, credentials, deadline, attempt)
            channel.step = step
        return channel, capabilities
    except BaseException:
        attempt.drop()
        raise


def _service(server: Server) -> str:
    """As Kerberos calls it (RFC 4954 4; IANA has "lmtp" too), by the name that we call it."""
    kind = "lmtp" if server.protocol is Protocol.LMTP else "smtp"
    return f"{kind}@{server.server_hostname or server.host}"


def _open(
    server: Server, credentials: Credentials | None, deadline: Deadline, attempt: Attempt
) -> tuple[Channel, Capabilities]:
    channel, opening, begun = _begin_somewhere(server, credentials, deadline, attempt)
    is_bound = False
    if credentials is not None:
        with observing.scope("auth") as login:
            mechanism = channel.run(lambda: log_in(opening, begun), deadline)
            note(login, "mechanism", mechanism)
        channel.note_log_in(mechanism)
        is_bound = mechanism.endswith("-PLUS") and begun.binding is not None and begun.binding.is_static
    # A resumed session has the certificate of the first handshake, and the server, once it was given a new
    # one, binds to that: a right password would be refused.
    if attempt.resumption is not None and not is_bound:
        attempt.resumption.learn()
    channel.allowance = Allowance.of(begun.capabilities)
    return channel, begun.capabilities


def _begin_somewhere(
    server: Server, credentials: Credentials | None, deadline: Deadline, attempt: Attempt
) -> tuple[Channel, Opening, Begun]:
    """A session at the first of the server's addresses that gives one (RFC 5321 5.1)."""
    addresses = Addresses(attempt.unwell)
    failures: list[tuple[str, SmtpError]] = []
    while True:
        try:
            return _begin(server, credentials, deadline, attempt, addresses)
        except SmtpError as error:
            if _is_about_a_session(error, attempt.resumption) and deadline.remaining() > 0:
                attempt.drop()
                continue
            if isinstance(error, TlsError):
                explain(error, Place(server, addresses.shown, deadline, attempt.keep))
            failures.append((addresses.shown, error))
            attempt.drop()
            if not (_is_about_one_address(error) and addresses.has_another(deadline)):
                chosen = _most_hopeful(failures)
                raise chosen from chosen.__cause__


def _begin(
    server: Server,
    credentials: Credentials | None,
    deadline: Deadline,
    attempt: Attempt,
    addresses: Addresses,
) -> tuple[Channel, Opening, Begun]:
    dial = _observed if observing.observers else reach
    sock = dial(server, deadline, attempt.keep, addresses)
    limit = addresses.share(deadline)
    name = server.local_hostname or own_name(sock)
    if server.tls == "implicit":
        with observing.scope("tls") as step:
            sock = wrapped = handshake(sock, _tls_of(server, attempt.resumption), limit, attempt.keep)
            note(step, "tls_version", wrapped.version())
    driver = _driver(server, sock, attempt)
    if server.tls != "implicit" and server.is_direct:
        place, readable = (server.host, server.port), driver.stream.readable
        source = server.source_address
        await_first_octet(sock, place, limit, readable=readable, source=source, keep=attempt.keep)
    channel = attempt.channel = Channel(driver)  # whoever stops the attempt closes it, from another thread
    binding = None if credentials is None else driver.stream.binding()
    opening = _opening(server, credentials, name, binding)
    return channel, opening, channel.run(partial(begin_session, opening), limit, fresh=True)


def _observed(server: Server, deadline: Deadline, keep: Keep, addresses: Addresses) -> socket.socket:
    """As ``reach``, for those who observe."""
    with observing.scope("dial") as step:
        sock = reach(server, deadline, keep, addresses)
        note(step, "address", addresses.shown if addresses.is_reached else "")
    return sock


def _is_about_a_session(error: SmtpError, resumption: Resumption | None) -> bool:
    """Whether a whole handshake with the same address may do better; one with a certificate was whole."""
    return (
        resumption is not None
        and isinstance(error, TlsError)
        and error.certificate is None
        and resumption.is_to_blame()
    )


def _is_about_one_address(error: SmtpError) -> bool:
    """Whether another address of the same server may do better; a certificate that is refused is final."""
    if isinstance(error, TlsError):
        lost = isinstance(error.__cause__, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
        return error.temporary or lost
    return isinstance(error, ConnectError | ConnectionLost | ProtocolError | Timeout)


def _most_hopeful(failures: list[tuple[str, SmtpError]]) -> SmtpError:
    """The error for all addresses: of one that was reached, that may pass, that replied, in this order."""

    def rank(failure: tuple[str, SmtpError]) -> tuple[bool, bool, bool]:
        _, error = failure
        return error.stage is not Stage.CONNECT, error.temporary, error.reply is not None

    _, chosen = max(failures, key=rank)
    for address, error in failures:
        if error is not chosen:
            chosen.add_note(f"{address}: {error.text}")
    return chosen


def _tls_of(server: Server, resumption: Resumption | None) -> Tls:
    context = server.ssl_context or context_for(server.roots, server.client_certificate)
    return Tls(context, server.server_hostname or server.host, server.fingerprint, resumption)


def _driver(server: Server, sock: socket.socket, attempt: Attempt) -> Driver:
    driver = Driver(Stream(sock), partial(_tls_of, server, attempt.resumption), attempt.answer_time)
    driver.server = server
    if observing.observers:
        times = ReplyTimes(Peer.of(server))
        driver.on_send, driver.on_reply = times.sent, times.replied
    return driver


def _opening(
    server: Server, credentials: Credentials | None, name: str, binding: ChannelBinding | None
) -> Opening:
    return Opening(
        protocol=server.protocol,
        name=name,
        starttls=_STARTTLS.get(server.tls),
        credentials=credentials,
        private=server.tls == "implicit" or server.is_local,
        allow_clear=server.insecure_auth,
        binding=binding,
        host=server.host,
        port=server.port,
        without=server.without,
    )

"""The names of the standard library's ``smtplib``, over this project's core.

``import pysmtpx.smtplib as smtplib`` is the only line that changes. What
differs stands in ``docs/from-smtplib.md``: TLS is verified unless a context is
given or ``allow_unverified_tls`` was called, ``timeout`` is for a whole call,
and ``sendmail`` is pipelined. The exceptions are the standard library's own
classes, and the classes here are subclasses of those there.
"""

from __future__ import annotations

import smtplib as _standard_module
import socket
import ssl
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from smtplib import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    quoteaddr,
    quotedata,
)
from typing import Any, TypeAlias

from . import observing
from .drop_in import sockets, standard
from .drop_in.commands import one_call
from .drop_in.installing import Replacement
from .drop_in.outgoing import Process
from .drop_in.smtp import Conversations
from .drop_in.sockets import Verification
from .net.deadline import Deadline
from .net.dial import Addresses
from .observing import Peer
from .options import suggesting
from .outgoing import Allowed, BeforeSend, Outgoing

__all__ = [
    "SMTP",
    "SMTP_SSL",
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPDataError",
    "SMTPException",
    "SMTPHeloError",
    "SMTPNotSupportedError",
    "SMTPRecipientsRefused",
    "SMTPResponseException",
    "SMTPSenderRefused",
    "SMTPServerDisconnected",
    "quoteaddr",
    "quotedata",
]

SMTP_PORT = _standard_module.SMTP_PORT
SMTP_SSL_PORT = _standard_module.SMTP_SSL_PORT
LMTP_PORT = _standard_module.LMTP_PORT
CRLF = _standard_module.CRLF
bCRLF = _standard_module.bCRLF
OLDSTYLE_AUTH = _standard_module.OLDSTYLE_AUTH

Answer: TypeAlias = tuple[int, bytes]
_TIMEOUT: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]


_SOCKET = socket


def _sockets() -> Any:
    """The module that dials: a test or a proxy may have put its own at the name ``socket``, here or there."""
    return socket if socket is not _SOCKET else vars(_standard_module)["socket"]


def _is_ours(smtp: object) -> bool:
    """Not so where a class that was made before ``install`` calls a constructor by its name."""
    return isinstance(smtp, Conversations)


def _connect_deadline(smtp: Conversations) -> Deadline:
    return sockets.deadline_for(sockets.default_timeout(smtp.timeout, _sockets()))


@suggesting
class SMTP(Conversations):
    """A connection to an SMTP server; see ``smtplib.SMTP``.

    ``timeout`` is in seconds, for each call from its beginning to its end.
    Without one each reply may take as long as RFC 5321 4.5.3.2 grants, 10
    minutes at most. ``proxy``, ``dial``, ``roots``, ``fingerprint`` and
    ``without`` are set on a class, or before ``connect``.
    """

    proxy: str | None = None
    """The URL of a proxy to go through, its password in it."""
    dial: Callable[[str, int, float], socket.socket] | None = None
    """A function of host, port and the seconds that are left, which returns a connected socket."""

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        timeout: float = _TIMEOUT,
        source_address: Any = None,
    ) -> None:
        if not _is_ours(self):
            standard.SMTP.__init__(self, host, port, local_hostname, timeout, source_address)
            return
        # A name of our own, so that none is looked up.
        standard.SMTP.__init__(self, "", 0, local_hostname or "", timeout, source_address)
        if local_hostname is None:
            del self.local_hostname
        if host:
            code, text = self.connect(host, port)
            if code != 220:
                self.close()
                raise SMTPConnectError(code, text)

    @cached_property
    def local_hostname(self) -> str:  # type: ignore[override]
        """Our name in EHLO, where none was given: the host's, or the address of our end. Never looked up."""
        return sockets.own_name(self.sock)

    @partial(one_call, begin=_connect_deadline)
    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> Answer:
        """Connect, and return the greeting.

        Raises what the system does (``OSError``), and ``SMTPServerDisconnected``
        where no greeting came.
        """
        before = self.sock
        try:
            self._name_dialled = host.partition(":")[0] if not port and host.count(":") == 1 else host
            self._is_dialling = True
            if not observing.observers:
                greeting = self._greeted(host, port, source_address)
            else:
                with observing.scope("connect", self._dialled(host, port)):
                    greeting = self._greeted(host, port, source_address)
        except BaseException:
            if self.sock is not before:
                self.close()
            raise
        finally:
            self._is_dialling = False
        self._forget_server()
        return greeting

    def _dialled(self, host: str, port: int) -> Peer:
        name, colon, digits = host.rpartition(":")
        if not port and colon and host.count(":") == 1 and digits.isdecimal():
            return Peer(name, int(digits))
        return Peer(host, port or self.default_port)

    def _greeted(self, host: str, port: int, source_address: Any) -> Answer:
        """The greeting of the first address that lets us in, or of the last one (RFC 5321 5.1)."""
        deadline = self._deadline or _connect_deadline(self)
        addresses = self._addresses = Addresses()
        told: Answer | OSError | None = None
        try:
            while True:
                try:
                    told = super().connect(host, port, source_address)
                    may_go_on = told[0] != 220
                except OSError as error:
                    if told is None or addresses.is_reached:  # else the one before said more
                        told = error
                    may_go_on = sockets.is_about_one_address(error)
                if not (may_go_on and addresses.has_another(deadline)):
                    if isinstance(told, OSError):
                        raise told
                    return told
                self.close()
                self._deadline = deadline
        finally:
            self._addresses = None
            self._deadline = deadline  # no more the share of one address

    @one_call
    def _get_socket(self, host: str, port: int, timeout: Any) -> Any:
        sockets.check_timeout(timeout)
        if self.debuglevel > 0:
            self._print_debug("connect: to", (host, port), self.source_address)
        source: Any = self.source_address
        deadline, addresses = self._deadline or _connect_deadline(self), self._addresses
        if self.proxy is not None or self.dial is not None:
            way: sockets.Way = {"proxy": self.proxy, "dial": self.dial}
            return sockets.brought(host, port, timeout, source, way, _sockets(), deadline)
        sock = sockets.connected(host, port, timeout, source, _sockets(), deadline, addresses)
        if addresses is not None:
            self._deadline = addresses.share(deadline)
        return sock

    if sys.version_info >= (3, 12):

        def starttls(self, *, context: ssl.SSLContext | None = None) -> Answer:
            """Put the connection into TLS; without a context the server is verified.

            Raises ``ssl.SSLError`` where the handshake fails; the connection is
            closed then.
            """
            return self._start_tls(context)  # type: ignore[no-any-return]

    else:

        def starttls(  # type: ignore[override]
            self,
            keyfile: str | None = None,
            certfile: str | None = None,
            context: ssl.SSLContext | None = None,
        ) -> Answer:
            """Put the connection into TLS; without a context the server is verified.

            Raises ``ssl.SSLError`` where the handshake fails; the connection is
            closed then.
            """
            _check_files(context, keyfile, certfile)
            return self._start_tls(context, certfile, keyfile)  # type: ignore[no-any-return]


_SMTP = SMTP
"""For the constructors below: a test may have put something else in its place."""


@suggesting
class SMTP_SSL(SMTP, standard.SMTP_SSL):
    """A connection to an SMTP server, in TLS from its first octet; see ``smtplib.SMTP_SSL``.

    Without a context the server is verified.
    """

    default_port = SMTP_SSL_PORT

    if sys.version_info >= (3, 12):

        def __init__(
            self,
            host: str = "",
            port: int = 0,
            local_hostname: str | None = None,
            *,
            timeout: float = _TIMEOUT,
            source_address: Any = None,
            context: ssl.SSLContext | None = None,
        ) -> None:
            if context is not None or not _is_ours(self):
                self.context = context or sockets.make_context()
            _SMTP.__init__(self, host, port, local_hostname, timeout, source_address)

    else:

        def __init__(
            self,
            host: str = "",
            port: int = 0,
            local_hostname: str | None = None,
            keyfile: str | None = None,
            certfile: str | None = None,
            timeout: float = _TIMEOUT,
            source_address: Any = None,
            context: ssl.SSLContext | None = None,
        ) -> None:
            _check_files(context, keyfile, certfile)
            self.keyfile = keyfile
            self.certfile = certfile
            if context is None and certfile is not None:
                context = sockets.make_context(certfile, keyfile)
            if context is not None or not _is_ours(self):
                self.context = context or sockets.make_context()
            _SMTP.__init__(self, host, port, local_hostname, timeout, source_address)

    @cached_property
    def context(self) -> ssl.SSLContext:  # type: ignore[override]
        """The context of the handshake; one of its own, since who asks for it may change it."""
        return sockets.make_context()

    @one_call
    def _get_socket(self, host: str, port: int, timeout: Any) -> Any:
        if self.debuglevel > 0:
            self._print_debug("connect:", (host, port))
        by = sockets.tls_by(self.__dict__.get("context"), self._host, self._trust)
        sock = super()._get_socket(host, port, timeout)
        try:
            return sockets.secured(sock, by, self._deadline or _connect_deadline(self))
        except BaseException:
            sock.close()
            raise


@suggesting
class LMTP(SMTP, standard.LMTP):
    """A connection to an LMTP server (RFC 2033); see ``smtplib.LMTP``.

    A host that begins with ``/`` is the path of a UNIX socket.
    """

    ehlo_msg = "lhlo"

    def __init__(
        self,
        host: str = "",
        port: int = LMTP_PORT,
        local_hostname: str | None = None,
        source_address: Any = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        _SMTP.__init__(self, host, port, local_hostname, timeout, source_address)

    @partial(one_call, begin=_connect_deadline)
    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> Answer:
        """Connect to a UNIX socket or a port, and return the greeting."""
        if not host.startswith("/"):
            return super().connect(host, port, source_address)
        sockets.check_timeout(self.timeout)
        try:
            deadline = self._deadline or _connect_deadline(self)
            self.sock = sockets.connected_unix(host, self.timeout, _sockets(), deadline)
        except OSError:
            if self.debuglevel > 0:
                self._print_debug("connect fail:", host)
            self.sock = None
            raise
        self.file = None
        code, text = self.getreply()
        if self.debuglevel > 0:
            self._print_debug("connect:", repr(text))
        self._forget_server()
        return code, text


def _check_files(context: object, keyfile: object, certfile: object) -> None:
    """The rules of Python 3.11 for files of a key and a certificate."""
    for name, file in (("keyfile", keyfile), ("certfile", certfile)):
        if context is not None and file is not None:
            raise ValueError(f"context and {name} arguments are mutually exclusive")
    if keyfile is not None or certfile is not None:
        text = "keyfile and certfile are deprecated, use a custom context instead"
        warnings.warn(text, DeprecationWarning, 3)


def allow_unverified_tls(allowed: bool = True) -> None:
    """Let TLS without a context of the caller's accept any certificate, as the standard library does.

    For the whole process. Whoever is on the way can then read and change
    everything, passwords included: give a ``context`` that trusts your
    server's authority instead, where you can.
    """
    Verification.off = allowed


def set_outgoing(
    *,
    before_send: BeforeSend | Sequence[BeforeSend] | None = None,
    redirect_to: str | Sequence[str] | None = None,
    allow_recipients: Allowed | None = None,
) -> None:
    """Have messages of ``sendmail`` and ``send_message`` redirected, kept back or changed.

    It holds for the whole process. The options are those of ``pysmtpx.Server``;
    without any all is as before. A connection may have its own, by the method of
    the same name. Recipients from whom mail is kept are among those that
    ``sendmail`` returns as refused, by a 550 that is our own. A RCPT of such a one
    as a single command raises ``SMTPNotSupportedError``; ``before_send`` sees
    nothing of single commands.

    Raises ``InputError``, a ``ValueError``, for what cannot be right.
    """
    Process.outgoing = Outgoing.of(before_send, redirect_to, allow_recipients)
    if Process.outgoing is not None:
        Process.outgoing.announce("smtplib")


_replacement = Replacement(SMTP=SMTP, SMTP_SSL=SMTP_SSL, LMTP=LMTP)


def install() -> None:
    """Put the classes of this module in the place of the standard library's, for code that cannot be edited.

    It counts for all who say ``import smtplib``, and for all who say ``from
    smtplib import …`` from now on. Does nothing the second time.
    """
    _replacement.install()


def uninstall() -> None:
    """Take back what ``install`` did. Does nothing where that is done."""
    _replacement.uninstall()


# What else the standard module has, private names too: programs and tests use them.
globals().update({name: value for name, value in vars(_standard_module).items() if name not in globals()})

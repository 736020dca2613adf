"""Sessions that only look: they verify nothing, log in nowhere, and send no mail.

What stands in a certificate that was refused, and what is offered in clear before TLS, cannot be seen
otherwise.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from ..connecting import connect
from ..connection import SmtpConnection
from ..embedded import dial_embedded, is_embedded
from ..errors import ConnectError, SmtpError
from ..net.deadline import Deadline
from ..net.tls import channel_binding
from ..reaching import reach
from ..server import Server
from ..wire.certificate import Certificate, read_certificate
from .report import AddressCheck, Look, TlsCheck, wrong

LOOK_TIMEOUT: Final = 5.0
"""Seconds for each look: a server that waits for TLS says nothing, for as long as one waits."""
BUSY_PAUSE: Final = 1.0
"""Seconds after which a server that is busy is dialled again."""
_MOST_ADDRESSES: Final = 16
"""Of a host that are dialled one by one."""


def look_up(server: Server) -> tuple[float | None, list[str], str]:
    """Seconds, the addresses of the host, and why there are none."""
    if server.path or not server.is_direct:
        return None, [server.host], ""  # whoever brings the connection looks it up
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error)

    begun = time.monotonic()
    # A look-up cannot be interrupted.
    thread = threading.Thread(target=ask, daemon=True, name="pysmtpx-check")
    thread.start()
    thread.join(server.connect_timeout)
    if not answer:
        return None, [], f"no answer came within {server.connect_timeout:g} s"
    if isinstance(answer[0], Exception):
        return None, [], getattr(answer[0], "strerror", None) or str(answer[0])
    found = list(dict.fromkeys(str(address[0]) for *_, address in answer[0]))
    return time.monotonic() - begun, found[:_MOST_ADDRESSES], ""


def dial_each(server: Server, addresses: list[str]) -> Iterator[tuple[AddressCheck, Exception | None]]:
    """Every address of the host by itself, and why it is none: one that is dead costs each user its time."""
    for address in addresses:
        begun = time.monotonic()
        try:
            with _dialled(server, address):
                yield AddressCheck(address, time.monotonic() - begun), None
        except OSError as error:
            why = wrong(error) if isinstance(error, SmtpError) else error.strerror or str(error)
            yield AddressCheck(address, None, why), error


def _dialled(server: Server, address: str) -> socket.socket:
    seconds = min(LOOK_TIMEOUT, server.connect_timeout)
    if not server.is_direct:
        return reach(server, Deadline.after(seconds))
    if not server.path:
        return socket.create_connection((address, server.port), seconds, server.source_address)
    if is_embedded(server.path):
        return dial_embedded(server.path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def session(server: Server) -> SmtpConnection:
    """``connect``, and once more where the server is busy.

    A look is several sessions one after the other, and a server that takes one at a time from a host may
    still count the one before, and say 421 or 450.
    """
    try:
        return connect(server)
    except ConnectError as error:
        if error.reply is None or not error.reply.is_temporary:
            raise
    time.sleep(BUSY_PAUSE)
    return connect(server)


def look_in_clear(server: Server) -> Look:
    """A session without TLS: greeting and EHLO."""
    plain = server.replace(
        port=server.port,
        tls="none",
        ssl_context=None,
        client_certificate=None,
        server_hostname=None,
        roots=None,
        fingerprint=None,
        **_nobody(server),
    )
    try:
        with session(plain) as connection:
            return Look(connection.capabilities)
    except SmtpError as error:
        return Look(error=error)


def look_under_tls(server: Server, implicit: bool) -> Look:
    """A session under TLS that takes any certificate."""
    context = _SeeingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if server.client_certificate is not None:
        with contextlib.suppress(OSError, ValueError):
            context.load_cert_chain(*server.client_certificate, password=lambda: "")
    looking = server.replace(
        port=server.port,
        tls="implicit" if implicit else "starttls",
        ssl_context=context,
        client_certificate=None,
        roots=None,
        fingerprint=None,
        **_nobody(server),
    )
    try:
        with session(looking) as connection:
            return Look(connection.capabilities, context.seen)
    except SmtpError as error:
        return Look(None, context.seen, error)


def _nobody(server: Server) -> dict[str, Any]:
    """Nobody is logged in, and nobody waits long."""
    seconds = min(LOOK_TIMEOUT, server.connect_timeout)
    return {
        "username": None,
        "password": None,
        "token": None,
        "auth": None,
        "authzid": "",
        "connect_timeout": seconds,
    }


class _SeeingContext(ssl.SSLContext):
    """Keeps what each handshake came to."""

    seen: TlsCheck | None = None

    def wrap_socket(self, *args: Any, **keywords: Any) -> ssl.SSLSocket:
        """As ever, by a socket that tells."""
        wrapped = super().wrap_socket(*args, **keywords)
        assert isinstance(wrapped, _SeeingSocket)
        wrapped.seeing = self
        return wrapped


class _SeeingSocket(ssl.SSLSocket):
    """Tells its context what its handshake came to."""

    seeing: _SeeingContext

    def do_handshake(self, *args: Any, **keywords: Any) -> None:
        """As ever."""
        super().do_handshake(*args, **keywords)
        self.seeing.seen = _seen(self)


_SeeingContext.sslsocket_class = _SeeingSocket


def _seen(sock: ssl.SSLSocket) -> TlsCheck:
    cipher, _, bits = sock.cipher() or ("", "", 0)
    certificate = sock.getpeercert(binary_form=True)
    # Python 3.13.
    chain: list[bytes] = getattr(sock, "get_unverified_chain", list)()
    read = [read_certificate(each) for each in chain if each != certificate]
    return TlsCheck(
        version=sock.version() or "",
        cipher=cipher,
        bits=bits or 0,
        certificate=None if certificate is None else read_certificate(certificate),
        chain=tuple(each for each in read if isinstance(each, Certificate)),
        binding=channel_binding(sock),
    )

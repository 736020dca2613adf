"""What a failure of TLS means, and what cures it: certificates of either side, and what is no TLS at all."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from . import cures
from .driver import Driver
from .errors import ProtocolError, SmtpError, TlsError
from .flow.session import Opening, ask_for_tls, listen_to_greeting
from .net.deadline import Deadline
from .net.dial import own_name
from .net.stream import Stream
from .net.tls import Tls, default_context, is_alert, roots_of
from .net.tls_first import client_hello
from .net.wait import READ, WRITE, Waiter, pass_alarm
from .reaching import reach
from .server import Server
from .shortening import shortened
from .wire.capabilities import Protocol
from .wire.certificate import Certificate, read_certificate
from .wire.certificate_request import RequestReader
from .wire.reply import Reply

_SECONDS: Final = 5.0
"""For a greeting in clear."""
_SHOWN: Final = 80
"""Characters of a name."""
_NAMES: Final = 3
_RECEIVE: Final = 16 * 1024

_NOT_IN_TIME: Final = (9, 10)
_MISMATCHES: Final = (62, 64)
"""X509_V_ERR_ of OpenSSL: not yet valid, expired; another name, another address."""
_ENDS: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
_ABOUT_OURS: Final = ("CERTIFICATE", "BAD_CERT", "UNKNOWN_CA", "ACCESS_DENIED")
"""In the names of the alerts by which a server refuses a client for its certificate (RFC 8446 6.2)."""
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Place(NamedTuple):
    """Where the dial led."""

    server: Server
    address: str
    """The address that was reached; unused for a UNIX socket."""
    deadline: Deadline
    keep: Callable[[socket.socket], object]
    """Is given each socket that is made."""


def explain(error: TlsError, place: Place) -> None:
    """Put on the error what can be found out, and what cures it. Raises nothing but interrupts."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        _explain_theirs(error, cause, place.server)
    elif isinstance(cause, ssl.SSLError) and is_alert(cause):
        _explain_ours(error, cause.reason or "", place)
    elif isinstance(cause, ssl.SSLError) and not isinstance(cause, _ENDS) and place.server.tls == "implicit":
        _explain_clear_text(error, place)


# -- the server's certificate ----------------------------------------------------------------


def _explain_theirs(error: TlsError, cause: ssl.SSLCertVerificationError, server: Server) -> None:
    own = error.certificate
    error.roots = roots_of(server.ssl_context, server.roots)
    why = shortened(cause.verify_message, 2 * _SHOWN).rstrip(".")
    text = f"the server's certificate was refused: {why}"
    if own is not None:
        text += f"; {_facts(own)}, for {cures.some(own.names, _NAMES) or 'no name (subjectAltName)'}"
    if cause.verify_code in _NOT_IN_TIME:
        error.cure = cures.expired()
    elif cause.verify_code in _MISMATCHES:
        error.cure = cures.wrong_name(() if own is None else own.names)
    else:
        text += f"; checked against {shortened(error.roots, 2 * _SHOWN)}"
        error.cure = cures.untrusted()
    error.args = (text,)


def _facts(own: Certificate) -> str:
    subject = f"its subject is {shortened(own.subject, _SHOWN)}" if own.subject else "it has no subject"
    issuer = "signed by itself" if own.is_self_signed else f"issued by {shortened(own.issuer, _SHOWN)}"
    return f"{subject}, {issuer}, valid from {own.not_before:%Y-%m-%d} to {own.not_after:%Y-%m-%d}"


# -- our certificate ---------------------------------------------------------------------------


def _explain_ours(error: TlsError, reason: str, place: Place) -> None:
    server = place.server
    is_vague = "HANDSHAKE_FAILURE" in reason  # all that a server says for want of it under TLS 1.2
    if not is_vague and not any(word in reason for word in _ABOUT_OURS):
        return
    asked = _asked_for(place)
    is_given = server.client_certificate is not None
    # To none at all the answer is handshake_failure (RFC 5246 7.4.6); a context may hold one of ours.
    if "CERTIFICATE_REQUIRED" in reason or (not is_given and (is_vague or server.ssl_context is None)):
        what = f"it demands a certificate of ours{_whose(asked)}, and was given none"
        is_given = False
    else:
        what = f"it does not take our certificate{_ours(server)}{_whose(asked)}"
    if is_vague and asked is None:
        error.cure = f"{cures.handshake(reason)} Or {what}: client_certificate=(file, key_file)."
        return
    error.args = (f"{error.args[0]}; {what}",)
    error.cure = cures.client_certificate(is_given=is_given, look=_look(server) if asked is None else "")


def _whose(asked: tuple[str, ...] | None) -> str:
    if not asked:
        return "" if asked is None else " (it names no authority)"
    named = [shortened(name, _SHOWN) for name in asked[:_NAMES]]
    more = [f"{len(asked) - _NAMES} more"] if len(asked) > _NAMES else []
    return f" (it takes those issued by {' or '.join([*named, *more])})"


def _look(server: Server) -> str:
    """What tells the authorities where we cannot, as of a server that has TLS 1.3 alone."""
    protocol: Literal["", "smtp", "lmtp"] = "lmtp" if server.protocol is Protocol.LMTP else "smtp"
    return cures.openssl(server.host, server.port, starttls="" if server.tls == "implicit" else protocol)


def _asked_for(place: Place) -> tuple[str, ...] | None:
    """Whose certificates the server takes; None where that cannot be told.

    ``ssl`` does not tell, and under TLS 1.3 nobody else sees. Up to TLS 1.2 the server asks in clear, so this
    is listened to by another dial, which goes no further.
    """
    try:
        return _request(place._replace(deadline=place.deadline.within(_SECONDS)))
    except (SmtpError, OSError, ValueError) as failure:
        if not isinstance(failure, SmtpError):
            pass_alarm(failure)
        return None


def _request(place: Place) -> tuple[str, ...] | None:
    server, deadline = place.server, place.deadline
    sock = _dialled(place)
    try:
        if server.tls != "implicit" and not _is_ready(sock, place):
            return None
        sock.setblocking(False)
        waiter, reader = Waiter(sock), RequestReader()
        hello = client_hello(server.server_hostname or server.host, ssl.TLSVersion.TLSv1_2)
        while hello and waiter.wait(WRITE, max(0.0, deadline.remaining())):
            hello = hello[sock.send(hello) :]
        while waiter.wait(READ, max(0.0, deadline.remaining())):
            data = sock.recv(_RECEIVE)
            if not data or reader.feed(data):
                break
        return reader.authorities
    finally:
        sock.close()


def _is_ready(sock: socket.socket, place: Place) -> bool:
    """Whether STARTTLS was answered by a yes."""
    server = place.server
    opening = Opening(server.protocol, server.local_hostname or own_name(sock), "opportunistic")
    driver = Driver(Stream(sock), lambda: Tls(default_context(), ""))
    return driver.drive(ask_for_tls(opening), place.deadline)


def _ours(server: Server) -> str:
    if server.client_certificate is None:
        return ""
    path = server.client_certificate[0]
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            found = _PEM.search(file.read())
        own = None if found is None else read_certificate(ssl.PEM_cert_to_DER_cert(found[0]))
    except (OSError, ValueError):
        own = None
    return f" ({shortened(path, _SHOWN)}{'' if own is None else f': {_facts(own)}'})"


# -- no TLS at all -------------------------------------------------------------------------------


def _explain_clear_text(error: TlsError, place: Place) -> None:
    """What came in place of a handshake, OpenSSL has taken: it is listened to by another dial."""
    server = place.server
    try:
        heard = _greeting(place._replace(deadline=place.deadline.within(_SECONDS)))
    except (SmtpError, OSError, ValueError) as failure:
        if not isinstance(failure, SmtpError):
            pass_alarm(failure)
        return
    if isinstance(heard, ProtocolError):
        error.args = (f"the server speaks neither TLS nor SMTP: {shortened(heard.text, 2 * _SHOWN)}",)
        error.cure = cures.no_mail_server(server.port)
    elif heard.code >= 400:
        error.args, error.reply, error.cure = ("the server refused us in clear, before TLS",), heard, ""
    else:
        said = shortened(str(heard), 2 * _SHOWN)
        error.args = (f"the server speaks in clear first, and not TLS: {said}",)
        error.cure = cures.clear_first(server.host, server.port)


def _greeting(place: Place) -> Reply | ProtocolError:
    """What is said first in clear; nothing is written."""
    sock = _dialled(place)
    driver = Driver(Stream(sock), lambda: Tls(default_context(), ""))
    try:
        return driver.drive(listen_to_greeting(), place.deadline)
    except ProtocolError as error:
        return error
    finally:
        driver.end("")


def _dialled(place: Place) -> socket.socket:
    return reach(place.server, place.deadline, place.keep, at=place.address, again=True)

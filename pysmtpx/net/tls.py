"""TLS: contexts, the handshake within a deadline, and channel binding."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import certifi

from .. import cures
from ..errors import InputError, Timeout, TlsError
from ..extras import needs
from ..sasl.binding import ChannelBinding
from ..wire.certificate import Certificate, fingerprints_of, read_certificate
from ..wire.limits import Stage
from .deadline import Deadline
from .tls_sessions import Resumption
from .wait import READ, WRITE, Waiter, pass_alarm

SYSTEM: Final = "system"
"""Roots: those of the operating system, by ``truststore``."""
CERTIFI: Final = "certifi"
"""Roots: those of certifi, whatever the environment names."""
BY_FINGERPRINT: Final = "fingerprint"
"""Roots: none; name, dates and chain are not looked at, and the fingerprint alone decides."""

_Stamp: TypeAlias = tuple[int, int, int] | None
_Environment: TypeAlias = tuple[str | None, str | None]


class Tls(NamedTuple):
    """How a line is to be secured, and who must be at its other end."""

    context: ssl.SSLContext
    hostname: str
    """Checked against the certificate as the context says."""
    fingerprints: tuple[str, ...] = ()
    """Of which the certificate must have one, as ``fingerprints_of`` has them; none: any will do."""
    resumption: Resumption | None = None
    """Where a session may be taken from; None: each handshake is whole."""


def default_context() -> ssl.SSLContext:
    """A context that verifies: TLS 1.2 or later, the host's name, certifi's roots.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, where set, name the roots instead.
    The context is made once for each setting, since reading the roots takes
    longer than a send.
    """
    return _context(None, None, _environment(), ())


def new_context() -> ssl.SSLContext:
    """The default context anew, for a caller who may change it."""
    return _context.__wrapped__(None, None, _environment(), ())


def client_context(certificate: str, key: str | None = None) -> ssl.SSLContext:
    """A context like the default one with a client certificate, from PEM files; anew each time.

    Raises ``InputError`` where the files cannot be read or do not belong together.
    """
    return _context.__wrapped__(None, (certificate, key), _environment(), ())


def context_for(
    roots: str | None = None, certificate: tuple[str, str | None] | None = None
) -> ssl.SSLContext:
    """The context for these roots and this client certificate: made once, and anew where a file has changed.

    ``roots`` is one of the names above, or a file or a directory of roots; None: as ``default_context``.
    Raises ``InputError`` for files that cannot be read, and ``MissingExtra`` for ``truststore``.
    """
    if roots is None and certificate is None:
        return default_context()
    files = [roots if roots not in (SYSTEM, CERTIFI, BY_FINGERPRINT) else None, *(certificate or ())]
    return _context(roots, certificate, _environment(), tuple(map(_stamp, files)))


def _environment() -> _Environment:
    return os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")


def _stamp(path: str | None) -> _Stamp:
    """By which a change of a file shows; None where there is none."""
    try:
        found = os.stat(path) if path is not None else None
    except (OSError, ValueError):  # whoever loads it says why
        found = None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=64)
def _context(
    roots: str | None,
    certificate: tuple[str, str | None] | None,
    environment: _Environment,
    stamps: tuple[_Stamp, ...],
) -> ssl.SSLContext:
    """A context; environment and stamps of files only tell one from another."""
    if roots == SYSTEM:
        context: ssl.SSLContext = needs("truststore", "truststore").SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        context.hostname_checks_common_name = False  # subjectAltName alone counts (RFC 9525 2)
    if roots == BY_FINGERPRINT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif roots != SYSTEM:
        _load_roots(context, roots, environment)
    if certificate is not None:
        _load_own(context, *certificate)
    return context


def _load_roots(context: ssl.SSLContext, roots: str | None, environment: _Environment) -> None:
    cafile, capath = environment
    if roots == CERTIFI or not (roots or cafile or capath):
        cafile, capath = certifi.where(), None
    elif roots is not None:
        cafile, capath = (None, roots) if os.path.isdir(roots) else (roots, None)
    try:
        context.load_verify_locations(cafile or None, capath or None)
    except (OSError, ValueError) as error:
        text = f"the roots cannot be loaded from {cafile or capath}: {error}"
        if roots is not None:
            raise InputError(text) from error
        raise TlsError(text, stage=Stage.STARTTLS) from error


def _load_own(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    try:
        # A password would be asked for at the terminal: a server must not hang on it.
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise InputError(f"the client certificate cannot be loaded: {error}") from error


def _no_password() -> str:
    raise ValueError("the key has a password: load it into an ssl_context of your own")


_DER: Final = 2

# Signature algorithms, as DER object identifiers, and the hash that each uses.
_HASHES: Final = {
    bytes.fromhex("2a864886f70d010104"): "sha256",  # md5WithRSA: RFC 5929 4.1 says SHA-256
    bytes.fromhex("2a864886f70d010105"): "sha256",  # sha1WithRSA, likewise
    bytes.fromhex("2a8648ce3d0401"): "sha256",  # ecdsa-with-SHA1, likewise
    bytes.fromhex("2a864886f70d01010e"): "sha224",
    bytes.fromhex("2a864886f70d01010b"): "sha256",
    bytes.fromhex("2a864886f70d01010c"): "sha384",
    bytes.fromhex("2a864886f70d01010d"): "sha512",
    bytes.fromhex("2a8648ce3d040301"): "sha224",
    bytes.fromhex("2a8648ce3d040302"): "sha256",
    bytes.fromhex("2a8648ce3d040303"): "sha384",
    bytes.fromhex("2a8648ce3d040304"): "sha512",
}


def channel_binding(sock: ssl.SSLSocket) -> ChannelBinding | None:
    """What a log-in over this connection can be bound to, the stronger kind first.

    ``tls-exporter`` is of this very connection, and what a server must know that
    binds under TLS 1.3 at all (RFC 9266 1, 3): asked of the ``ssl`` of this Python,
    none of which has it up to 3.14. ``tls-server-end-point`` is of the certificate.
    """
    for kind, find in (("tls-exporter", _exporter), ("tls-server-end-point", end_point_binding)):
        if data := find(sock):
            return ChannelBinding(kind, data)
    return None


def _exporter(sock: ssl.SSLSocket) -> bytes | None:
    """Below TLS 1.3 it needs the extended master secret (RFC 9266 4), of which Python does not tell."""
    if sock.version() != "TLSv1.3":
        return None
    try:
        return sock.get_channel_binding("tls-exporter")
    except ValueError:  # a kind that it does not have
        return None


def end_point_binding(sock: ssl.SSLSocket) -> bytes | None:
    """The ``tls-server-end-point`` octets of a connection (RFC 5929 4.1).

    A hash of the server's certificate, by the hash of its signature. None
    where the algorithm names no single hash (Ed25519, RSASSA-PSS): then there
    is no such binding, and guessing one would only fail the log-in.
    """
    certificate = sock.getpeercert(binary_form=True)
    if certificate is None:
        return None
    name = _HASHES.get(_signature_algorithm(certificate) or b"")
    return None if name is None else hashlib.new(name, certificate).digest()


def _signature_algorithm(certificate: bytes) -> bytes | None:
    """The OID in Certificate ::= SEQUENCE { tbs, SEQUENCE { OID, … }, … } (RFC 5280 4.1)."""
    try:
        start, _ = _element(certificate, 0)
        _, after_tbs = _element(certificate, start)
        algorithm, _ = _element(certificate, after_tbs)
        oid, end = _element(certificate, algorithm)
    except IndexError:
        return None
    return certificate[oid:end]


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element at this place begins and ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    return start, start + length


def handshake(
    sock: socket.socket,
    tls: Tls,
    deadline: Deadline,
    keep: Callable[[ssl.SSLSocket], object] | None = None,
) -> ssl.SSLSocket:
    """Wrap a connected socket in TLS within the deadline; closes it where that fails.

    Nothing may be written to who is not the one whose fingerprint is known, so that is looked at here.
    ``keep`` is given the wrapped socket, which has the descriptor, before the handshake.
    """
    try:
        sock.setblocking(False)
        sock.getpeername()  # wrapping one that was reset can leave the descriptor to the collector
        wrapped = _wrap(sock, tls, tls.hostname or None)
    except (OSError, ValueError) as error:
        sock.close()
        pass_alarm(error)
        raise TlsError(f"TLS cannot be started: {error}", stage=Stage.STARTTLS) from error
    try:
        if keep is not None:
            keep(wrapped)
        _shake(wrapped, deadline)
        if tls.fingerprints:
            check_fingerprint(wrapped, tls.fingerprints)
        if tls.resumption is not None:
            tls.resumption.verified(wrapped)
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def _wrap(sock: socket.socket, tls: Tls, name: str | None) -> ssl.SSLSocket:
    context = tls.context
    session = tls.resumption.offer(context, name) if tls.resumption is not None else None
    if session is None:
        return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
    return context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False, session=session)


def check_fingerprint(sock: Any, expected: tuple[str, ...]) -> None:
    """Raise ``TlsError`` where the certificate of the other end has none of these."""
    certificate = sock.getpeercert(binary_form=True) or b""
    seen = fingerprints_of(certificate)
    if not set(seen).isdisjoint(expected):
        return
    text = f"the server's certificate is another one than expected: it has {' and '.join(seen)}"
    refused = TlsError(text, stage=Stage.STARTTLS, cure=cures.other_fingerprint(expected))
    refused.certificate = read_certificate(certificate)
    raise refused


def _refused_certificate(sock: ssl.SSLSocket) -> Certificate | None:
    """What the certificate that was just refused says of itself.

    OpenSSL 3 still has it; ``getpeercert`` shows none, and what does is public since Python 3.13.
    """
    tell = getattr(sock, "get_unverified_chain", None) or getattr(
        getattr(sock, "_sslobj", None), "get_unverified_chain", None
    )
    try:
        found = tell()[0] if tell is not None else b""
        # As ``SSLSocket`` does it: 2 is DER.
        return read_certificate(found if isinstance(found, bytes) else found.public_bytes(_DER))
    except (AttributeError, IndexError, TypeError, ValueError, ssl.SSLError):
        return None


def roots_of(context: ssl.SSLContext | None, roots: str | None = None) -> str:
    """What the server's certificate is checked against, with a context of the caller's or without."""
    if context is not None:
        return "the roots of the given ssl_context"
    if roots == SYSTEM:
        return "the roots of the operating system"
    if roots == BY_FINGERPRINT:
        return "its fingerprint alone"
    if roots not in (None, CERTIFI):
        return str(roots)
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    set_here = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name) and roots is None]
    return " and ".join(set_here) or f"certifi's roots ({certifi.where()})"


def is_alert(error: Exception) -> bool:
    """Whether the other side ended TLS by a fatal alert (RFC 8446 6.2)."""
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")


def _shake(sock: ssl.SSLSocket, deadline: Deadline) -> None:
    waiter = Waiter(sock)
    while True:
        try:
            sock.do_handshake()
            return
        except ssl.SSLWantReadError:
            want = READ
        except ssl.SSLWantWriteError:
            want = WRITE
        except ssl.SSLCertVerificationError as error:
            text = f"the server's certificate was refused: {error.verify_message}"
            refused = TlsError(text, stage=Stage.STARTTLS)
            refused.certificate = _refused_certificate(sock)
            raise refused from error
        except (OSError, ValueError) as error:
            pass_alarm(error)
            text, cure = f"the TLS handshake failed: {error}", cures.handshake(str(error))
            raise TlsError(text, stage=Stage.STARTTLS, final=is_alert(error), cure=cure) from error
        if not waiter.wait(want, deadline.remaining()):
            raise Timeout("the TLS handshake did not end in time", stage=Stage.STARTTLS)

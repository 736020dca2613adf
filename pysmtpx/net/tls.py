"""TLS: contexts, the handshake within a deadline, and channel binding."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import certifi

from .. import cures
from ..errors import InputError, Timeout, TlsError
from ..wire.certificate import Certificate, read_certificate
from ..wire.limits import Stage
from .deadline import Deadline
from .wait import READ, WRITE, Waiter, pass_alarm


def default_context() -> ssl.SSLContext:
    """A context that verifies: TLS 1.2 or later, the host's name, certifi's roots.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, where set, name the roots instead.
    The context is made once for each setting, since reading the roots takes
    longer than a send.
    """
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


def new_context() -> ssl.SSLContext:
    """The default context anew, for a caller who may change it."""
    return _context.__wrapped__(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=8)
def _context(cafile: str | None, capath: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ssl.HAS_NEVER_CHECK_COMMON_NAME:
        context.hostname_checks_common_name = False  # subjectAltName alone counts (RFC 9525 2)
    if not cafile and not capath:
        cafile = certifi.where()
    try:
        context.load_verify_locations(cafile or None, capath or None)
    except (OSError, ValueError) as error:
        text = f"the roots cannot be loaded from {cafile or capath}: {error}"
        raise TlsError(text, stage=Stage.STARTTLS) from error
    return context


def client_context(certificate: str, key: str | None = None) -> ssl.SSLContext:
    """A context like the default one with a client certificate, from PEM files.

    Raises ``InputError`` where the files cannot be read or do not belong together.
    """
    context = new_context()
    try:
        # A password would be asked for at the terminal: a server must not hang on it.
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise InputError(f"the client certificate cannot be loaded: {error}") from error
    return context


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
    context: ssl.SSLContext,
    hostname: str,
    deadline: Deadline,
    keep: Callable[[ssl.SSLSocket], object] | None = None,
) -> ssl.SSLSocket:
    """Wrap a connected socket in TLS within the deadline; closes it where that fails.

    ``keep`` is given the wrapped socket, which has the descriptor, before the handshake.
    """
    try:
        sock.setblocking(False)
        sock.getpeername()  # wrapping one that was reset can leave the descriptor to the collector
        wrapped = context.wrap_socket(sock, server_hostname=hostname or None, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        sock.close()
        pass_alarm(error)
        raise TlsError(f"TLS cannot be started: {error}", stage=Stage.STARTTLS) from error
    try:
        if keep is not None:
            keep(wrapped)
        _shake(wrapped, deadline)
    except BaseException:
        wrapped.close()
        raise
    return wrapped


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


def roots_of(context: ssl.SSLContext | None) -> str:
    """What the server's certificate is checked against, with a context of the caller's or without."""
    if context is not None:
        return "the roots of the given ssl_context"
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    set_here = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
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

"""What AUTH needs to know of TLS: the channel binding, and who the client is."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any, Final

_SHA256: Final = "sha256"
_HASHES: Final = {
    # Signature algorithm, as DER of its OID, to the hash of RFC 5929 4.1; MD5 and SHA-1 become SHA-256.
    "2a864886f70d010104": _SHA256,
    "2a864886f70d010105": _SHA256,
    "2a8648ce3d0401": _SHA256,
    "2a864886f70d01010b": _SHA256,
    "2a8648ce3d040302": _SHA256,
    "2a864886f70d01010c": "sha384",
    "2a8648ce3d040303": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a8648ce3d040304": "sha512",
    "2a864886f70d01010e": "sha224",
    "2a8648ce3d040301": "sha224",
}
_NAMES: Final = ("email", "DNS", "IP Address")


def end_point_of(certificate: bytes) -> bytes | None:
    """The ``tls-server-end-point`` of a DER certificate (RFC 5929 4).

    None where the signature names no hash of its own (Ed25519, RSASSA-PSS).
    """
    outer, _ = _value(certificate)
    _, after_tbs = _value(outer)
    algorithm, _ = _value(outer[after_tbs:])
    oid, _ = _value(algorithm)
    name = _HASHES.get(oid.hex())
    return None if name is None else hashlib.new(name, certificate).digest()


def server_certificate(context: ssl.SSLContext) -> bytes | None:
    """The DER certificate that a server shows with ``context``; None where it has none.

    A context does not tell, so a client in memory looks. None too where TLS 1.3
    is off and a client certificate required: that handshake cannot succeed.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname = False
    looking.verify_mode = ssl.CERT_NONE
    client = looking.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                break
    try:
        return client.getpeercert(binary_form=True)
    except ValueError:
        return None


def exporter_of(sock: ssl.SSLSocket) -> bytes | None:
    """The ``tls-exporter`` of a connection by TLS 1.3 (RFC 9266), where Python's ``ssl`` has it."""
    try:
        return sock.get_channel_binding("tls-exporter") if sock.version() == "TLSv1.3" else None
    except ValueError:
        return None


def name_of_peer(sock: ssl.SSLSocket) -> str | None:
    """Who the client is by its certificate: a mailbox, a host or an address of its subject."""
    certificate: dict[str, Any] = dict(sock.getpeercert() or {})
    names = certificate.get("subjectAltName", ())
    return next((name for wanted in _NAMES for kind, name in names if kind == wanted), None)


def _value(der: bytes) -> tuple[bytes, int]:
    """The content of the first DER value, and where the next begins (X.690 8.1)."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return der[start : start + length], start + length

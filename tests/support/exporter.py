"""TLS whose sockets know ``tls-exporter`` (RFC 9266), as those of a later Python may.

No ``ssl`` up to Python 3.14 exports keying material. Here the exporter's secret comes from the key log of a
context, and RFC 8446 7.5 does the rest: for tests alone, since who reads such a log reads the connection.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from pathlib import Path
from typing import Any

LABEL = "EXPORTER-Channel-Binding"
LENGTH = 32


class ExportingSocket(ssl.SSLSocket):
    """Asks the key log of its context, which must serve one connection at a time."""

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Return the octets for ``tls-exporter`` too."""
        if cb_type != "tls-exporter":
            return super().get_channel_binding(cb_type)
        lines = Path(self.context.keylog_filename).read_text().splitlines()
        secrets = [line.split()[2] for line in lines if line.startswith("EXPORTER_SECRET")]
        digest = "sha384" if (self.cipher() or ("",))[0].endswith("SHA384") else "sha256"
        return exported(bytes.fromhex(secrets[-1]), digest)


class ExportingContext(ssl.SSLContext):
    """A context whose sockets are those."""

    sslsocket_class: type[ssl.SSLSocket] = ExportingSocket


def exporting(kind: int, keylog: Path) -> Any:
    """Return such a context; nothing is loaded into it."""
    context = ExportingContext(kind)
    context.keylog_filename = str(keylog)
    return context


def exported(secret: bytes, digest: str) -> bytes:
    """``TLS-Exporter`` of RFC 8446 7.5 without a context."""
    derived = _expanded(secret, LABEL, hashlib.new(digest).digest(), hashlib.new(digest).digest_size, digest)
    return _expanded(derived, "exporter", hashlib.new(digest).digest(), LENGTH, digest)


def _expanded(secret: bytes, label: str, context: bytes, length: int, digest: str) -> bytes:
    """``HKDF-Expand-Label`` of RFC 8446 7.1, for at most one block."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2) + bytes([len(name)]) + name + bytes([len(context)]) + context
    return hmac.digest(secret, info + b"\1", digest)[:length]

"""What a log-in is bound to, so that it is worth nothing on another channel (RFC 5056)."""

from __future__ import annotations

from typing import NamedTuple


class ChannelBinding(NamedTuple):
    """A TLS channel, as its two ends know it and nobody between them does."""

    kind: str
    """``tls-exporter`` (RFC 9266) or ``tls-server-end-point`` (RFC 5929 4)."""
    data: bytes

    @property
    def is_static(self) -> bool:
        """It is the certificate's, and the same on every connection to the server."""
        return self.kind == "tls-server-end-point"

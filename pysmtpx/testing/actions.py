"""What the server's side of a conversation wants done, as values without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Write:
    """Send these octets."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class WriteSlowly:
    """Send these octets one at a time, ``seconds`` before each."""

    octets: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Neither read nor write for ``seconds``; None is for good."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class StartTls:
    """Start the TLS handshake, then call ``ServerSession.tls_started``."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; no action follows."""

    reset: bool = False
    """By RST, not FIN: the client loses what it has not read."""
    orderly: bool = True
    """With the close_notify of TLS; False cuts the line."""


Action: TypeAlias = Write | WriteSlowly | Wait | StartTls | Close

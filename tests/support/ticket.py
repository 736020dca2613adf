"""X-TICKET, a SASL mechanism of the tests' own, as a client and as the embedded server's script."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Generator
from typing import Any

from pysmtpx import SaslLogin

KEY = b"the key of X-TICKET"


def answer(username: str, challenge: bytes) -> bytes:
    """Return what a client that knows the key says."""
    return f"{username} {hmac.digest(KEY, challenge, 'sha256').hex()}".encode()


class Ticket:
    """The server speaks first, and gets a proof."""

    name = "X-TICKET"
    reveals = False
    proves_server = False

    def dialogue(self, login: SaslLogin) -> Generator[bytes | None, bytes, None]:
        """Answer one challenge."""
        challenge = yield None
        yield answer(login.username, challenge)

    def __repr__(self) -> str:
        return f"Ticket({KEY!r})"


class Tickets:
    """What the embedded server says to it, as its ``verdict``."""

    def __init__(self) -> None:
        self.count = 0
        """Log-ins that came to their end."""

    def __call__(self, event: Any) -> str | None:
        """Answer AUTH, and leave the rest to the server."""
        if event.verb != "AUTH" or event.address != "X-TICKET":
            return None
        if event.index == 0:
            return f"334 {b64encode(b'nonce').decode()}"
        self.count += 1
        return "235 2.7.0 welcome"

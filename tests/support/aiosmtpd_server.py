"""An aiosmtpd of our own: SMTP, and LMTP with one reply to a content that is too large."""

from __future__ import annotations

import sys
from pathlib import Path

from support.realserver import RealServer

_PROGRAM = Path(__file__).with_name("aiosmtpd_program.py")


class AiosmtpdServer(RealServer):
    """A running aiosmtpd: SMTP at ``port``, LMTP at ``lmtp_port``."""

    count = 2

    @property
    def lmtp_port(self) -> int:
        """The port of LMTP."""
        return self.ports[1]

    def command(self) -> list[str]:
        """Return what runs it in the foreground."""
        return [sys.executable, "-P", str(_PROGRAM), *map(str, self.ports), str(self.base / "mail")]

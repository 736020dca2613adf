"""What the command's exit code says; part of its contract, and listed in docs/command-line.md."""

from __future__ import annotations

from enum import IntEnum

from ..errors import AuthenticationError, ConnectError, InputError, NotSupportedError, SmtpError, TlsError
from ..wire.limits import Stage

_BEFORE_MAIL = frozenset({Stage.CONNECT, Stage.GREETING, Stage.HELLO, Stage.STARTTLS, Stage.AUTH})


class Exit(IntEnum):
    """A code for each thing that can have become of the mail."""

    ACCEPTED = 0
    """Everybody has it, or all that was checked is in order."""
    REJECTED = 1
    """The server refused it for somebody, and nobody is in doubt."""
    USAGE = 2
    """An argument cannot be right; nothing was done."""
    UNKNOWN = 3
    """Somebody perhaps has it: the end was sent, and no reply came. Sending again may deliver twice."""
    UNSENT = 4
    """Somebody was not sent it, for a reason that is no refusal. Sending again to them is safe."""
    NO_CONNECTION = 5
    """No session came about: look-up, dial, TLS or log-in failed. Nothing was sent."""
    INTERRUPTED = 130


def exit_of(error: SmtpError) -> Exit:
    """The code for what a call raised."""
    if error.unknown_recipients:
        return Exit.UNKNOWN
    if error.stage in _BEFORE_MAIL:  # also an argument that only the dial of a pool found to be wrong
        return Exit.NO_CONNECTION
    if isinstance(error, InputError | NotSupportedError):
        return Exit.USAGE
    if isinstance(error, ConnectError | TlsError | AuthenticationError):
        return Exit.NO_CONNECTION
    if error.unsent_recipients or not error.rejected_recipients:
        return Exit.UNSENT
    return Exit.REJECTED

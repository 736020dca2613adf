"""The one table of bounds and defaults: octets, counts and seconds.

Each line names the clause or the attack that it answers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """The point of the conversation at which something happened.

    A member compares equal to its text: ``error.stage == "rcpt"``.
    """

    INPUT = "input"
    """The caller's argument was refused; nothing was written."""
    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"
    """EHLO, HELO or LHLO."""
    STARTTLS = "starttls"
    """STARTTLS, and the TLS handshake on any connection."""
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    """The DATA command itself, answered by 354."""
    CONTENT = "content"
    """The mail object's content, up to its last octet (or BDAT chunks before the last)."""
    FINAL = "final"
    """After the end of data (or BDAT LAST): the reply that decides delivery."""
    COMMAND = "command"
    """A single command: NOOP, VRFY, HELP and the like."""
    RSET = "rset"
    QUIT = "quit"


# Replies (FAULTS: a server without end must not exhaust memory).
MAX_REPLY_LINE: Final = 8 * 1024
"""Octets; RFC 5321 4.5.3.1.5 grants 512, real servers are longer."""
MAX_REPLY: Final = 64 * 1024
"""Octets of one whole reply."""
MAX_REPLY_LINES: Final = 512
MAX_RCPT_REPLIES: Final = 16 * 1024 * 1024
"""Octets of all the replies to RCPT of one transaction, which are kept for its result."""
MAX_BACKLOG: Final = 4 * 1024 * 1024
"""Octets received and not yet asked for; a full window of long replies fits."""

# Commands, CRLF included (RFC 5321 4.5.3.1).
MAX_COMMAND_LINE: Final = 512
MIN_RECIPIENTS: Final = 100
"""Recipients of a transaction that every server takes (RFC 5321 4.5.3.1.8)."""
MAX_LOCAL_PART: Final = 64
MAX_DOMAIN: Final = 255
MAX_PATH: Final = 256
"""With both angle brackets."""

# Content.
MAX_TEXT_LINE: Final = 998
"""Octets without CRLF (RFC 5322 2.1.1)."""
SLICE: Final = 64 * 1024
"""Octets handed to the socket at a time."""
BDAT_CHUNK: Final = 1024 * 1024
"""Octets of one BDAT chunk where the size of the content is not known."""

WINDOW: Final = 1000
"""Commands that may be unanswered under PIPELINING (RFC 2920 3.1)."""

MAX_AUTH_ROUNDS: Final = 6
"""Challenges answered before an endless 334 is cancelled with ``*``."""

# Time, in seconds (RFC 5321 4.5.3.2).
SEND_TIMEOUT: Final = 600.0
"""One whole ``send`` by default."""
COMMAND_TIMEOUT: Final = 300.0
"""One whole single command by default."""
CONNECT_TIMEOUT: Final = 30.0
"""One ``connect``: look-up, dial, greeting, TLS and AUTH together."""
REUSE_LIMIT: Final = 20.0
"""The first reply on a connection that was idle: it may be half-open (a NAT that forgot it)."""
OVERLAP_LIMIT: Final = 10.0
"""The first reply to an envelope behind an end of data, once that is answered: some servers swallow it."""
FURTHER_FINALS_LIMIT: Final = 5.0
"""LMTP: a further final reply, once a content was refused as too large: some say that once for all."""
BLOCK_LIMIT: Final = 180.0
"""One write (RFC 5321 4.5.3.2.5)."""
MIN_RATE: Final = 500.0
"""Octets a second that a server must take while content is written."""

REPLY_LIMITS: Final[dict[Stage, float]] = {
    Stage.GREETING: 300.0,
    Stage.HELLO: 300.0,
    Stage.STARTTLS: 300.0,
    Stage.AUTH: 300.0,
    Stage.MAIL: 300.0,
    Stage.RCPT: 300.0,
    Stage.DATA: 120.0,
    Stage.CONTENT: 180.0,
    # A short limit here manufactures doubt: the server may be delivering.
    Stage.FINAL: 600.0,
    Stage.COMMAND: 300.0,
    Stage.RSET: 20.0,
    Stage.QUIT: 5.0,
}

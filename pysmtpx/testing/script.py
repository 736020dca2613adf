"""What a server is told to answer, and the faults that it is told to have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Reply: TypeAlias = str | bytes
"""Text such as ``"451 4.3.0 later"`` (CRLF is added, line ends inside become CRLF), or octets as they are."""


@dataclass(frozen=True, slots=True)
class Event:
    """The point of a conversation at which the server is about to answer.

    Everything is counted from 0.
    """

    verb: str
    """CONNECT (the greeting), a command's verb, AUTH (each response too), BODY (content is
    arriving) or FINAL (the end of data, or the last chunk of BDAT)."""
    index: int
    """RCPT within its transaction (also of FINAL in LMTP), chunk of BDAT, round of AUTH, octets of
    BODY so far; else how many of this verb the connection has seen before."""
    address: str
    """The path of MAIL, RCPT and LMTP's FINAL; the mechanism of AUTH; else the argument."""
    connection: int
    transaction: int
    """MAIL commands of this connection before this transaction's own."""
    reply: bytes
    """What the server would say unasked."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Send ``after`` octets of the reply (None: all of it), then close."""

    after: int | None = 0
    reply: Reply | None = None
    """None is what the server would say unasked, here and below."""
    reset: bool = False
    """Close by RST, not FIN."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Send ``after`` octets of the reply, neither read nor write for ``seconds``, send the rest.

    None seconds is for good.
    """

    seconds: float | None = None
    after: int = 0
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Drip:
    """Send the reply one octet at a time, ``seconds`` before each."""

    seconds: float
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Garbage:
    """Send these octets in place of a reply; the command counts as refused."""

    octets: bytes


Fault: TypeAlias = Cut | Stall | Drip | Garbage
Answer: TypeAlias = Reply | Fault
Verdict: TypeAlias = Callable[[Event], Answer | None]
"""Decides one answer; None leaves it to the tables, then to the server."""
Key: TypeAlias = str | tuple[str, int] | tuple[str, str]
"""A verb, or a verb with the index or the address of an ``Event``."""


@dataclass(frozen=True, slots=True)
class Script:
    """Verdicts by callable and by table; the most exact entry wins."""

    refuse: Mapping[str, Answer]
    """Answers to RCPT by address."""
    replies: Mapping[Key, Answer]
    verdict: Verdict | None

    def answer(self, event: Event) -> Answer | None:
        """Look up the answer to ``event``; None where nothing is scripted."""
        if self.verdict is not None and (answer := self.verdict(event)) is not None:
            return answer
        verb = event.verb
        for key in ((verb, event.address), (verb, event.index), verb):
            if key in self.replies:
                return self.replies[key]
        return self.refuse.get(event.address) if verb == "RCPT" else None

    def body_thresholds(self) -> list[int]:
        """The octets of content at which a table has an answer for BODY, ascending."""
        return sorted(
            key[1]
            for key in self.replies
            if isinstance(key, tuple) and key[0] == "BODY" and isinstance(key[1], int)
        )


def octets(reply: Reply) -> bytes:
    """A reply as it goes over the wire."""
    if isinstance(reply, bytes):
        return reply
    return "\r\n".join(reply.splitlines()).encode("utf-8", "surrogateescape") + b"\r\n"


def code(reply: bytes) -> int:
    """The code of a reply, by its last line; 0 where it has none."""
    last = reply.rstrip(b"\r\n").rpartition(b"\n")[2][:3]
    return int(last) if len(last) == 3 and last.isdigit() else 0


def is_positive(reply: bytes) -> bool:
    """True where the reply is 2xx."""
    return 200 <= code(reply) < 300

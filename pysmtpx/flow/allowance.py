"""What a server takes on one connection (RFC 9422 4.1, 4.3), and how much of that is used up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Self

from .. import cures
from ..errors import SessionLimitReached
from ..wire.address import ForwardPath
from ..wire.capabilities import Capabilities
from ..wire.limits import Stage

_MAILS: Final = "LIMITS MAILMAX={}: transactions on one connection (RFC 9422 4.1)"
_DOMAINS: Final = "LIMITS RCPTDOMAINMAX={}: domains of recipients on one connection (RFC 9422 4.3)"


class Allowance:
    """The MAIL commands and the domains in RCPT that a session has room for, from its first to its last.

    Neither RSET nor another EHLO begins it anew. What the server refused counts
    as well: the command was there. Written by whoever has the line.
    """

    __slots__ = ("_domains", "_mails", "_most_domains", "_most_mails")

    def __init__(self, mails: float = math.inf, domains: float = math.inf) -> None:
        self._most_mails = mails
        self._most_domains = domains
        self._mails = 0
        self._domains: set[str] = set()

    @classmethod
    def of(cls, capabilities: Capabilities) -> Self | None:
        """That of a session which begins; None if the server states no such limit."""
        mails, domains = capabilities.mail_max, capabilities.rcpt_domain_max
        if mails is None and domains is None:
            return None
        return cls(math.inf if mails is None else mails, math.inf if domains is None else domains)

    @property
    def is_over(self) -> bool:
        """There is no room for another MAIL."""
        return self._mails >= self._most_mails

    @property
    def is_unused(self) -> bool:
        """Nothing was spent: what finds no room in this session finds none in any."""
        return not (self._mails or self._domains)

    @property
    def is_unbound(self) -> bool:
        """No domain counts by now."""
        return not self._domains

    def places(self, recipients: Sequence[str]) -> list[int]:
        """The places of those to whom one more message may go: first come, first served, by their domains."""
        if self.is_over:
            return []
        room = self._most_domains - len(self._domains)
        if len(recipients) <= room:
            return list(range(len(recipients)))
        new: set[str] = set()
        found: list[int] = []
        for place, path in enumerate(recipients):
            domain = domain_of(path)
            if not (domain in self._domains or domain in new):
                if len(new) >= room:
                    continue
                new.add(domain)
            found.append(place)
        return found

    def takes(self, recipients: Sequence[str], *, whole: bool) -> bool:
        """Whether one more message may go to some of these, or to all of them if it goes as a ``whole``."""
        if self.is_over:
            return False
        if whole:
            return len(self.places(recipients)) == len(recipients)
        has_room = len(self._domains) < self._most_domains
        return has_room or any(domain_of(path) in self._domains for path in recipients)

    def spend(self, recipients: Sequence[str], first: int, end: int) -> None:
        """These lines of the envelope to them are written now; line 0 is MAIL."""
        if not first:
            self._mails += 1
        if not math.isinf(self._most_domains):
            self._domains.update(map(domain_of, recipients[max(first - 1, 0) : max(end - 1, 0)]))

    def reached(self, unsent: Sequence[str] = ()) -> SessionLimitReached:
        """The error of a message that finds no room for these."""
        what = _MAILS.format(self._most_mails) if self.is_over else _DOMAINS.format(self._most_domains)
        text = f"the server takes no more on this connection ({what})"
        error = SessionLimitReached(text, stage=Stage.INPUT, cure=cures.another_connection())
        error.unsent_recipients = tuple(unsent)
        return error


@lru_cache(maxsize=4096)
def domain_of(path: str) -> str:
    """What counts as its domain: A-labels in lower case.

    A mailbox without one, as ``postmaster`` (RFC 5321 4.1.1.3), is at the server's own, whose name
    nobody knows here: all of these have one together, which is none of those that are named.
    """
    return (path if isinstance(path, ForwardPath) else ForwardPath.tolerant(path)).domain.lower()


def count_domains(recipients: Sequence[str]) -> int:
    """Different domains among these."""
    return len(set(map(domain_of, recipients)))

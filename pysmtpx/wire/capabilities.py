"""What a server offers, from its reply to EHLO or LHLO (RFC 5321 4.1.1.1)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from .reply import Reply

_SIZE_DIGITS: Final = 20
"""RFC 1870 3: size-value is 1 to 20 digits."""
_CACHED: Final = 1024
"""Octets of a reply whose meaning is remembered: a server says the same to each connection."""


class Protocol(StrEnum):
    """SMTP (RFC 5321) or LMTP (RFC 2033). A member compares equal to its text."""

    SMTP = "smtp"
    LMTP = "lmtp"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The service extensions that a server offers, keyword by keyword.

    ``keywords`` maps each keyword, in upper case, to its parameters as the
    server gave them; unknown keywords are kept. ``greeting_name`` is the name
    by which the server introduced itself. ``"DSN" in capabilities`` asks in any
    case. A parameter that makes no sense counts as absent.
    """

    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    greeting_name: str = ""
    size_limit: int | None = field(init=False, repr=False, compare=False)
    """The largest message taken, in octets; None where no limit is stated (RFC 1870 4)."""
    mail_max: int | None = field(init=False, repr=False, compare=False)
    """Transactions on one connection (RFC 9422 4.1), or None."""
    rcpt_max: int | None = field(init=False, repr=False, compare=False)
    """Recipients in one transaction (RFC 9422 4.2), or None."""
    rcpt_domain_max: int | None = field(init=False, repr=False, compare=False)
    """Domains of recipients on one connection (RFC 9422 4.3), or None."""
    pipelining: bool = field(init=False, repr=False, compare=False)
    """Commands may be sent without waiting for each reply (RFC 2920)."""
    chunking: bool = field(init=False, repr=False, compare=False)
    """BDAT (RFC 3030)."""
    eightbitmime: bool = field(init=False, repr=False, compare=False)
    """BODY=8BITMIME (RFC 6152)."""
    smtputf8: bool = field(init=False, repr=False, compare=False)
    """Internationalised addresses and headers (RFC 6531)."""
    offers_size: bool = field(init=False, repr=False, compare=False)
    """MAIL takes SIZE (RFC 1870)."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "keywords", MappingProxyType(dict(self.keywords)))
        values = self.keywords.get("SIZE", ())
        # "10 MB" and "10 000 000" are no numbers. Zero says that no fixed limit is in force.
        put(self, "size_limit", (_number(values[0]) or None) if len(values) == 1 else None)
        is_limited = "LIMITS" in self.keywords
        put(self, "mail_max", self._limit("MAILMAX") if is_limited else None)
        put(self, "rcpt_max", self._limit("RCPTMAX") if is_limited else None)
        put(self, "rcpt_domain_max", self._limit("RCPTDOMAINMAX") if is_limited else None)
        # What every message asks for is looked up here, once.
        keywords = self.keywords
        put(self, "pipelining", "PIPELINING" in keywords)
        put(self, "chunking", "CHUNKING" in keywords)
        put(self, "eightbitmime", "8BITMIME" in keywords)
        put(self, "smtputf8", "SMTPUTF8" in keywords)
        put(self, "offers_size", "SIZE" in keywords)

    def __reduce__(self) -> tuple[type[Capabilities], tuple[dict[str, tuple[str, ...]], str]]:
        return Capabilities, (dict(self.keywords), self.greeting_name)

    @classmethod
    def from_reply(cls, reply: Reply) -> Capabilities:
        """Read a positive reply to EHLO or LHLO; never raises, whatever the lines hold."""
        is_short = sum(map(len, reply.lines)) <= _CACHED
        return _of_lines(reply.lines) if is_short else _of_lines.__wrapped__(reply.lines)

    @classmethod
    def none(cls, greeting_name: str = "") -> Capabilities:
        """No extension at all, as after HELO."""
        return cls({}, greeting_name)

    def without(self, keywords: Collection[str]) -> Capabilities:
        """The same, but that none of these keywords, in upper case, counts as offered."""
        left = {name: value for name, value in self.keywords.items() if name not in keywords}
        return self if len(left) == len(self.keywords) else Capabilities(left, self.greeting_name)

    def __contains__(self, keyword: str) -> bool:
        return keyword.upper() in self.keywords

    def get(self, keyword: str) -> tuple[str, ...] | None:
        """The parameters of a keyword in any case, or None where it is not offered."""
        return self.keywords.get(keyword.upper())

    @property
    def binarymime(self) -> bool:
        """BODY=BINARYMIME (RFC 3030); usable only together with CHUNKING."""
        return "BINARYMIME" in self.keywords

    @property
    def dsn(self) -> bool:
        """RET, ENVID, NOTIFY and ORCPT (RFC 3461)."""
        return "DSN" in self.keywords

    @property
    def starttls(self) -> bool:
        """STARTTLS (RFC 3207)."""
        return "STARTTLS" in self.keywords

    @property
    def requiretls(self) -> bool:
        """REQUIRETLS (RFC 8689)."""
        return "REQUIRETLS" in self.keywords

    @property
    def enhanced_status_codes(self) -> bool:
        """Replies carry enhanced status codes (RFC 2034)."""
        return "ENHANCEDSTATUSCODES" in self.keywords

    @property
    def auth(self) -> tuple[str, ...]:
        """SASL mechanisms in upper case, in the server's order (RFC 4954 3), each once.

        ``AUTH=LOGIN``, the spelling from before the standard, counts as well.
        """
        return tuple(dict.fromkeys(name.upper() for name in self.keywords.get("AUTH", ())))

    @property
    def mt_priority(self) -> str | None:
        """The profile of MT-PRIORITY, ``""`` where none is named, None where not offered (RFC 6710)."""
        return self._first("MT-PRIORITY") if "MT-PRIORITY" in self.keywords else None

    @property
    def futurerelease(self) -> tuple[int, str] | None:
        """The longest hold in seconds and the latest date-time, or None (RFC 4865 3)."""
        parameters = self.keywords.get("FUTURERELEASE", ())
        seconds = _number(parameters[0]) if len(parameters) >= 2 else None
        return None if seconds is None else (seconds, parameters[1])

    @property
    def deliverby(self) -> int | None:
        """The shortest time of DELIVERBY in seconds, 0 for no bound, None where not offered (RFC 2852 3)."""
        return (_number(self._first("DELIVERBY")) or 0) if "DELIVERBY" in self.keywords else None

    @property
    def limits(self) -> Mapping[str, str]:
        """The server's operational limits by upper-case name (RFC 9422 3)."""
        return dict(self._limits())

    def _first(self, keyword: str) -> str:
        return next(iter(self.keywords.get(keyword, ())), "")

    def _limits(self) -> Iterator[tuple[str, str]]:
        for parameter in self.keywords.get("LIMITS", ()):
            name, _, value = parameter.partition("=")
            yield name.upper(), value

    def _limit(self, name: str) -> int | None:
        """The smallest, where it is stated more than once: what keeps to that keeps to each."""
        stated = (_number(value) for each, value in self._limits() if each == name)
        return min(filter(None, stated), default=None)


@lru_cache(maxsize=64)
def _of_lines(answer: tuple[bytes, ...]) -> Capabilities:
    greeting, *lines = (_words(line) for line in answer)
    keywords: dict[str, list[str]] = {}
    for keyword, parameters in filter(None, map(_extension, lines)):
        if keyword != "SIZE" or keyword not in keywords:  # of two the first counts; it has one number
            keywords.setdefault(keyword, []).extend(parameters)
    merged = {keyword: tuple(parameters) for keyword, parameters in keywords.items()}
    return Capabilities(merged, greeting[0] if greeting else "")


def _words(line: bytes) -> list[str]:
    # Only SP and TAB part words: \x0b, \x1c, U+0085 and U+2028 must not invent any.
    words = line.replace(b"\t", b" ").split(b" ")
    decoded = (word.decode("utf-8", "replace") for word in words if word)
    # An escape sequence is no parameter, and must not reach a terminal.
    return [word for word in decoded if word.isprintable()]


def _extension(words: list[str]) -> tuple[str, Iterator[str]] | None:
    """The keyword and its parameters; ``AUTH=LOGIN`` and ``SIZE=1000`` stand for the two words."""
    if not words:
        return None
    keyword, equals, value = words[0].partition("=")
    if not (keyword and keyword.isascii() and keyword.isprintable()):
        return None
    return keyword.upper(), filter(None, (value if equals else "", *words[1:]))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _SIZE_DIGITS else None

"""The grammar of commands and their parameters, by extension."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# Sets by what is not in them: one that holds all beyond ASCII takes thirty milliseconds to compile.
_ATOM = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]+'
_LABEL = r"[^\x00-/:-@\[-`{-\x7f](?:[^\x00-,./:-@\[-`{-\x7f]*[^\x00-/:-@\[-`{-\x7f])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[!-Z^-~]+\]"
_LOCAL = rf'(?:{_ATOM}(?:\.{_ATOM})*|"(?:[^\x00-\x1f"\\\x7f]|\\[ -~])*")'
_LOCAL_PART = re.compile(_LOCAL)
_MAILBOX = re.compile(rf"({_LOCAL})@({_DOMAIN}|{_LITERAL})")
_HELLO = re.compile(rf"(?:{_DOMAIN}|{_LITERAL})")
_PATH = re.compile(r'<((?:[^"<>\\ ]|"(?:[^"\\]|\\.)*")*)>(.*)')
_LOOSE_PATH = re.compile(r" *([^<> ]+)(.*)")
"""As some write it: without its brackets."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^\x00-\x20=\x7f]+)?")
_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"
_DATE_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"

MAX_COMMAND_LINE: Final = 512
"""Octets with CRLF (RFC 5321 4.5.3.1.4)."""
MAX_AUTH_LINE: Final = 12_288
"""Octets with CRLF of a response to a challenge (RFC 4954 4)."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    needs: str
    """The EHLO keyword."""
    value: re.Pattern[str] | None
    """None: the parameter has no value."""


def _valued(needs: str, value: str) -> _Parameter:
    return _Parameter(needs, re.compile(value, re.IGNORECASE))


_MAIL_PARAMETERS: Final = {
    "SIZE": _valued("SIZE", r"\d{1,20}"),
    "BODY": _valued("8BITMIME", r"7BIT|8BITMIME|BINARYMIME"),
    "SMTPUTF8": _Parameter("SMTPUTF8", None),
    "RET": _valued("DSN", r"FULL|HDRS"),
    "ENVID": _valued("DSN", rf"{_XTEXT}{{1,100}}"),
    "AUTH": _valued("AUTH", rf"{_XTEXT}+"),
    "REQUIRETLS": _Parameter("REQUIRETLS", None),
    "MT-PRIORITY": _valued("MT-PRIORITY", r"-?[0-9]"),
    "HOLDFOR": _valued("FUTURERELEASE", r"[1-9]\d{0,8}"),
    "HOLDUNTIL": _valued("FUTURERELEASE", _DATE_TIME),
    "BY": _valued("DELIVERBY", r"[+-]?\d{1,9};[RN]T?"),
}
_RCPT_PARAMETERS: Final = {
    "NOTIFY": _valued("DSN", r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}"),
    "ORCPT": _valued("DSN", r"[A-Z0-9-]+;[^\x00- =\x7f]{1,500}"),
    "RRVS": _valued("RRVS", rf"{_DATE_TIME}(?:;[RC])?"),
}
_TABLES: Final = {"MAIL": _MAIL_PARAMETERS, "RCPT": _RCPT_PARAMETERS}

_LONGER: Final[dict[str, dict[str, int]]] = {
    # What each extension adds to a line: RFC 1870 3, 6152 2, 3030 3, 6531 3.1, 3461 4, 4954 3, 8689 2,
    # 6710 3, 4865 4, 2852 3, 7293 3.
    "MAIL": {
        "SIZE": 26,
        "8BITMIME": 17,
        "BINARYMIME": 17,
        "SMTPUTF8": 10,
        "DSN": 116,
        "AUTH": 500,
        "REQUIRETLS": 11,
        "MT-PRIORITY": 15,
        "FUTURERELEASE": 34,
        "DELIVERBY": 17,
    },
    "RCPT": {"DSN": 500, "RRVS": 33},
}


@lru_cache
def line_limit(verb: str, offered: frozenset[str]) -> int:
    """Octets that a command line may have, CRLF included (RFC 5321 4.5.3.1.4, 4.1.1.11)."""
    longer = _LONGER.get(verb)
    if longer is None:
        return MAX_COMMAND_LINE
    return MAX_COMMAND_LINE + sum(octets for keyword, octets in longer.items() if keyword in offered)


def is_hello_name(text: str) -> bool:
    """True for a domain or an address literal (RFC 5321 4.1.3, 4.1.4)."""
    return text.isascii() and len(text) <= 255 and _HELLO.fullmatch(text) is not None


def split_path(argument: str, *, lenient: bool = False) -> tuple[str, str] | None:
    """Part ``<path> PARAMETERS``; None where the brackets are not right.

    If ``lenient`` a blank may be before it, and the brackets may be missing.
    """
    match = _PATH.fullmatch(argument.lstrip(" ") if lenient else argument)
    if match is None and lenient:
        match = _LOOSE_PATH.fullmatch(argument)
    return None if match is None else (match[1], match[2])


@lru_cache(maxsize=1024)
def path_breach(path: str, *, bare: str, local: bool = False) -> str | None:
    """Say what is wrong with a path; ``bare`` is the one that may stand without a domain.

    With ``local`` any may, and a local part may be long.
    """
    if path.lower() == bare or (local and _LOCAL_PART.fullmatch(path)):
        return None
    match = _MAILBOX.fullmatch(path)
    if match is None:
        return f"<{path}> is not a path (RFC 5321 4.1.2)"
    lengths = [len(part.encode("utf-8", "surrogateescape")) for part in (match[1], match[2], f"<{path}>")]
    if (lengths[0] > 64 and not local) or lengths[1] > 255 or lengths[2] > 256:
        return f"<{path}> is too long (RFC 5321 4.5.3.1)"
    return None


def parse_params(text: str) -> tuple[dict[str, str | None], list[str]]:
    """Read ``" KEY=value KEY"`` as it follows a path; the second value lists the breaches."""
    params: dict[str, str | None] = {}
    if not text:
        return params, []
    first, *words = text.split(" ")
    if first or not all(map(_WORD.fullmatch, words)):
        return params, [f"{text!r} is not a list of parameters (RFC 5321 4.1.2)"]
    breaches = []
    for word in words:
        keyword, equals, value = word.partition("=")
        keyword = keyword.upper()
        if keyword in params:
            breaches.append(f"{keyword} is given twice (RFC 5321 4.1.1.11)")
        params[keyword] = value if equals else None
    return params, breaches


def param_breaches(
    verb: str, params: Mapping[str, str | None], offered: Collection[str], *, tls: bool
) -> list[str]:
    """Judge the parameters of MAIL or RCPT against what EHLO offered."""
    breaches = [
        breach
        for keyword, value in params.items()
        if (breach := _param_breach(verb, keyword, value, offered)) is not None
    ]
    if "REQUIRETLS" in params and not tls:
        breaches.append("REQUIRETLS without TLS (RFC 8689 2)")
    if "HOLDFOR" in params and "HOLDUNTIL" in params:
        breaches.append("HOLDFOR and HOLDUNTIL together (RFC 4865 5)")
    return breaches


def _param_breach(verb: str, keyword: str, value: str | None, offered: Collection[str]) -> str | None:
    known = _TABLES[verb].get(keyword)
    needs = keyword if known is None else known.needs
    if keyword == "BODY" and (value or "").upper() == "BINARYMIME":
        needs = "BINARYMIME"
    if needs not in offered:
        return f"{verb} with {keyword}, {needs} is not offered"
    if known is None:
        return None
    fits = value is None if known.value is None else value is not None and known.value.fullmatch(value)
    return None if fits else f"{verb} with {keyword}={value!r}: not a value of it"

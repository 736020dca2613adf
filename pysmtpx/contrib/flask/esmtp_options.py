"""ESMTP parameters as ``smtplib`` takes them, in lists of text, read into the two sets of parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ...errors import InputError
from ...wire.params import MAIL, RCPT, DeliverBy, MailFromParams, Parameter, RcptToParams

_HEX: Final = re.compile(r"\+([0-9A-F]{2})")
_BY: Final = re.compile(r"(-?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}")


def mail_params(options: Iterable[str]) -> MailFromParams | None:
    """``["BODY=8BITMIME", "RET=HDRS"]`` as parameters of MAIL; None where there is none.

    Raises ``InputError`` for what no RFC allows, and for a keyword twice.
    """
    given = _read(options, MAIL)
    return MailFromParams(**given) if given else None


def rcpt_params(options: Iterable[str]) -> RcptToParams | None:
    """``["NOTIFY=SUCCESS,DELAY"]`` as parameters of RCPT; None where there is none.

    Raises ``InputError`` for what no RFC allows, and for a keyword twice.
    """
    given = _read(options, RCPT)
    return RcptToParams(**given) if given else None


def _read(options: Iterable[str], known: Iterable[Parameter]) -> dict[str, Any]:
    names = {each.keyword: each.field for each in known}
    fields: dict[str, Any] = {}
    extra: dict[str, str | None] = {}
    for keyword, value in _pairs(options):
        if keyword in names:
            fields[names[keyword]] = _READ.get(keyword, str)("" if value is None else value)
        else:
            extra[keyword] = value
    return fields | ({"extra": extra} if extra else {})


def _pairs(options: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    if isinstance(options, str):
        raise InputError("ESMTP options are a list of texts")
    seen: set[str] = set()
    for option in options:
        if not isinstance(option, str):
            raise InputError(f"an ESMTP option is text, not {type(option).__name__}")
        keyword, equals, value = option.strip(" ").partition("=")
        keyword = keyword.upper()
        if keyword in seen:
            raise InputError("an ESMTP option is given twice")
        seen.add(keyword)
        yield keyword, value if equals else None


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InputError("the value of an ESMTP option is not a number")
    return int(text)


def _flag(text: str) -> bool:
    if text:
        raise InputError("SMTPUTF8 and REQUIRETLS have no value")
    return True


def _decoded(text: str) -> str:
    """What xtext stands for (RFC 3461 4); it is encoded again on its way."""
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def _by(text: str) -> DeliverBy:
    match = _BY.fullmatch(text)
    if match is None:
        raise InputError("BY is seconds;mode (RFC 2852 4)")
    return DeliverBy(int(match[1]), "N" if match[2] in "nN" else "R", trace=bool(match[3]))


_READ: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("BODY", "RET", "NOTIFY"), str.upper),
    **dict.fromkeys(("SIZE", "MT-PRIORITY", "HOLDFOR"), _number),
    **dict.fromkeys(("SMTPUTF8", "REQUIRETLS"), _flag),
    **dict.fromkeys(("ENVID", "AUTH", "ORCPT"), _decoded),
    "BY": _by,
}
"""How a value is read that is more than text."""
